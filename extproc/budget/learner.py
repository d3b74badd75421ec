"""The learning path: takes each observation to the figures it teaches, and all figures to and from their stores."""

import itertools
from collections.abc import Iterator
from typing import Any

import msgspec

from extproc.budget.budget import Budgeter
from extproc.budget.estimate import Estimator, Snapshot, Verdict
from extproc.budget.features import NAMES
from extproc.budget.linear import LinearEstimator
from extproc.budget.observation import Observation
from extproc.budget.output import OutputReserve
from extproc.budget.ratio import RatioEstimator
from extproc.budget.sums import Table, merge
from extproc.config import Config, Estimation

KINDS = 5
"""Kinds of figures that are stored and shared, at most `categories.limit` of each."""

TURN = 16
"""Figures computed before the event loop gets a turn: about a millisecond."""


class Offer(msgspec.Struct, frozen=True):
    """What a store is offered. `pending`: learned since its last offer. `whole`: everything known, with that."""

    pending: Table
    whole: Table


class _Delivery:
    """What one store lacks: the offer it has not taken yet, what a copy on its way holds, and what is newer."""

    def __init__(self) -> None:
        self.offer: Offer | None = None
        self.copying: Table = {}
        self.newer: Table = {}


class Learner:
    """Owns what is learned. The request path only reads it; `learn` writes it.

    Sharing takes three steps: `offer` returns what a store lacks, the store merges it with what others have
    learned, and `settle` takes the result. If the second step fails, nothing is lost, and the same offer is made
    again unchanged: a store that did take it, but whose answer was lost, recognises it.
    """

    def __init__(
        self, estimator: Estimator, output: OutputReserve, limit: int = 1024, stores: tuple[str, ...] = ()
    ) -> None:
        """`limit`: entries of a table, all kinds together. `stores`: names of the stores to sync with."""
        self.estimator = estimator
        self.output = output
        self.limit = limit
        self.changes = 0
        """Increases whenever a figure may have changed."""
        self.settings: tuple[Any, ...] = ()
        """What the estimators were built for, where they were built for a configuration."""
        self._kept: Table = {}
        self._deliveries = {store: _Delivery() for store in stores}

    def learn(self, observation: Observation) -> Verdict:
        """Learn from one answer. Never raises."""
        if observation.usage is None:
            return "no_usage"
        if not self.output.is_possible(observation):
            return "implausible"
        self.changes += 1
        verdict = self._learn_prompt(observation)
        if verdict in ("used", "outlier", "exact", "not_text"):
            self.output.learn(observation)
        return verdict

    def is_settled(self, request: Observation) -> bool:
        """Whether everything that the answer to `request` would teach is settled already."""
        known = self.estimator.is_settled(request.model, request.category, request.basis)
        prompt = known or request.basis == "tokens" or not request.teaches
        answer = request.cap is not None or not request.prompts  # such answers teach no output lengths
        return prompt and (answer or self.output.is_settled(request.model, request.category))

    def _learn_prompt(self, observation: Observation) -> Verdict:
        if observation.basis == "tokens":
            return "exact"
        if not observation.teaches:
            return "not_text"
        if len(observation.features) != len(NAMES):  # from another version of Dualpool
            return "unparsable"
        return self.estimator.learn(observation)

    def raw_keys(self) -> set[tuple[str, str]]:
        """Return model and category, "" for all, of every figure of raw bodies and of output lengths."""
        return self.estimator.raw_keys() | self.output.keys()

    def snapshot(self) -> Snapshot:
        """Return everything learned, for people, in `/state`."""
        return {**self.estimator.snapshot(), "output": self.output.snapshot()}

    def export(self) -> Table:
        """Return everything learned, in the form that is stored and shared; of other estimators too."""
        return {**self._kept, **self.estimator.export(), **self.output.export()}

    def prepare(self) -> Iterator[None]:
        """Do most of what `offer` and `copy` have to do beforehand. Yields after every `TURN` figures.

        With thousands of models they would hold up requests for a second.
        """
        return _turns(itertools.chain(self.estimator.prepare(), self.output.prepare()))

    def offer(self, store: str) -> Offer:
        """Return what `store` lacks; the same until it is settled."""
        self._collect()
        delivery = self._deliveries[store]
        if delivery.offer is None:
            delivery.offer, delivery.newer = Offer(delivery.newer, self.export()), {}
        return delivery.offer

    def ready(self, table: Table) -> Iterator[None]:
        """Do most of what `settle` has to do with `table` beforehand. Yields after every `TURN` figures."""
        return _turns(self.estimator.ready(table))

    def settle(self, store: str, table: Table | None) -> None:
        """Note that `store` took its offer. `table`: what it holds now, None when that is nothing new."""
        self._collect()
        delivery = self._deliveries[store]
        delivery.offer = None
        if table is not None:
            self._restore(merge(table, delivery.newer, self.limit))

    def has_news(self, store: str) -> bool:
        """Whether something was learned that `store` lacks."""
        self._collect()
        delivery = self._deliveries[store]
        return bool(delivery.newer or delivery.copying or (delivery.offer and delivery.offer.pending))

    def copy(self, store: str) -> Table:
        """Return everything learned, for `store` to keep. Its outcome is to be reported by `copied`."""
        self._collect()
        delivery = self._deliveries[store]
        offered = {} if delivery.offer is None else delivery.offer.pending
        delivery.copying = merge(merge(delivery.copying, offered, self.limit), delivery.newer, self.limit)
        delivery.offer, delivery.newer = None, {}
        return self.export()

    def copied(self, store: str, worked: bool) -> None:
        """Note whether the copy `worked`; if not, `store` still lacks what it held."""
        delivery = self._deliveries[store]
        if not worked:
            delivery.newer = merge(delivery.copying, delivery.newer, self.limit)
        delivery.copying = {}

    def adopt(self, table: Table) -> None:
        """Replace what was learned by `table`, at the start of the process."""
        self._restore(merge(table, self._collect(), self.limit))

    def rebuild(self, estimator: Estimator, output: OutputReserve, limit: int) -> None:
        """Go on with new estimators, built for new settings. They start from everything learned so far."""
        learned = self.export()
        self._collect()
        self.estimator, self.output, self.limit = estimator, output, limit
        self._restore(learned)

    def _restore(self, table: Table) -> None:
        self.changes += 1
        ours = self.estimator.kinds | self.output.kinds
        self._kept = {key: sums for key, sums in table.items() if key[0] not in ours}
        self.estimator.restore(table)
        self.output.restore(table)

    def _collect(self) -> Table:
        """Add what is new to what each store lacks, and return it."""
        new = {**self.estimator.take(), **self.output.take()}
        if new:
            for delivery in self._deliveries.values():
                delivery.newer = merge(delivery.newer, new, self.limit)
        return new


def _turns(steps: Iterator[None]) -> Iterator[None]:
    for number, _ in enumerate(steps):
        if number % TURN == 0:
            yield


def new_estimator(settings: Estimation, limit: int, before: Estimator | None = None) -> Estimator:
    """Return an estimator as `settings` ask for. `limit`: figures of each kind. `before`: the one it replaces."""
    if settings.estimator == "ratio":
        return RatioEstimator(settings, limit)
    return LinearEstimator(settings, limit, before if isinstance(before, LinearEstimator) else None)


def new_output(config: Config) -> OutputReserve:
    """Return a new output reserve, for the accepted rate of misroutes and the smallest pool."""
    smallest = _smallest(config)
    accepted = config.estimation.misroute_percent / 100.0 * smallest
    return OutputReserve(config.output, config.categories.limit, accepted, room=smallest)


def table_limit(config: Config) -> int:
    """Return how many figures of all kinds together are stored and shared."""
    return KINDS * config.categories.limit


def new_learner(config: Config, stores: tuple[str, ...] = ()) -> Learner:
    """Return a new learner. `stores`: names of the stores that it will be synced with."""
    estimator = new_estimator(config.estimation, config.categories.limit)
    learner = Learner(estimator, new_output(config), table_limit(config), stores)
    learner.settings = _settings(config)
    return learner


def go_on(learner: Learner, config: Config) -> None:
    """Let `learner` go on under `config` with everything it has learned.

    Estimators are built anew only if it concerns them: with thousands of models that holds up requests for 0.1 s.
    """
    learner.changes += 1  # the in-proxy filter holds configured figures too
    if learner.settings != _settings(config):
        estimator = new_estimator(config.estimation, config.categories.limit, learner.estimator)
        learner.rebuild(estimator, new_output(config), table_limit(config))
        learner.settings = _settings(config)


def _settings(config: Config) -> tuple[Any, ...]:
    """Return all that estimators are built from."""
    return config.estimation, config.output, config.categories.limit, _smallest(config)


def _smallest(config: Config) -> int:
    """Return the smallest capacity of any pool, in tokens."""
    return min(pools[0].capacity for pools in config.pools.values())


def new_budgeter(config: Config, learner: Learner) -> Budgeter:
    """Return a budgeter that follows what `learner` learns."""
    return Budgeter(learner.estimator, learner.output, config.categories, config.estimation)
