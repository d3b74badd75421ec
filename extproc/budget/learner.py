"""The learning path: one observation to every figure it teaches, all figures to and from their stores."""

from extproc.budget.estimate import Estimator, Verdict
from extproc.budget.observation import Observation
from extproc.budget.output import OutputReserve
from extproc.budget.sums import Table, merge


class Learner:
    """Owns what is learned. The request path only reads it; `learn` is the only writer while requests pass.

    Sharing takes three steps: `pending` gives what a store does not have yet, the store merges it into what all
    have, and `adopt` takes that back. When the second step fails nothing is lost: `pending` keeps it.
    """

    def __init__(
        self, estimator: Estimator, output: OutputReserve, limit: int = 1024, stores: tuple[str, ...] = ()
    ) -> None:
        """`limit`: entries of all kinds together, of a table that is pending or adopted. `stores`: their names."""
        self.estimator = estimator
        self.output = output
        self.limit = limit
        self._pending: dict[str, Table] = {store: {} for store in stores}

    def learn(self, observation: Observation) -> Verdict:
        """Learn from one answer and say what became of it. Never raises."""
        if observation.usage is None:
            return "no_usage"
        self.output.learn(observation)
        if observation.basis == "tokens":
            return "exact"
        if not observation.teaches:
            return "not_text"
        return self.estimator.learn(observation)

    def models(self) -> set[str]:
        """Return the models that have figures of their own for raw bodies or for answers."""
        return self.estimator.raw_models() | self.output.models()

    def snapshot(self) -> dict[str, object]:
        """Return all that was learned, as plain values."""
        return {**self.estimator.snapshot(), "output": self.output.snapshot()}

    def export(self) -> Table:
        """Return all that was learned, in the form that is kept and shared."""
        return {**self.estimator.export(), **self.output.export()}

    def pending(self, store: str) -> Table:
        """Return what was learned since `store` was last settled."""
        self._collect()
        return self._pending[store]

    def settle(self, store: str) -> None:
        """Take note that `store` has all that was pending for it."""
        self._pending[store] = {}

    def adopt(self, table: Table) -> None:
        """Replace what was learned by `table`, and go on with what was learned since `pending` was last asked."""
        whole = merge(table, self._collect(), self.limit)
        self.estimator.restore(whole)
        self.output.restore(whole)

    def rebuild(self, estimator: Estimator, output: OutputReserve, limit: int) -> None:
        """Go on with new estimators, made for new settings: what was learned is theirs."""
        learned = self.export()
        self._collect()
        self.estimator, self.output, self.limit = estimator, output, limit
        estimator.restore(learned)
        output.restore(learned)

    def _collect(self) -> Table:
        """Add what is new to what is pending for each store, and return it."""
        new = {**self.estimator.take(), **self.output.take()}
        if new:
            self._pending = {name: merge(table, new, self.limit) for name, table in self._pending.items()}
        return new
