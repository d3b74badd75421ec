"""The learning path: one observation to every figure it teaches."""

from extproc.budget.estimate import Estimator, Verdict
from extproc.budget.observation import Observation
from extproc.budget.output import OutputReserve


class Learner:
    """Owns what is learned. The request path only reads it; `learn` is the only writer."""

    def __init__(self, estimator: Estimator, output: OutputReserve) -> None:
        self.estimator = estimator
        self.output = output

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

    def snapshot(self) -> dict[str, object]:
        """Return all that was learned, as plain values."""
        return {**self.estimator.snapshot(), "output": self.output.snapshot()}
