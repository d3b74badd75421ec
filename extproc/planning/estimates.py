"""What the router's estimates do to a plan: the chance that a request of known length is sent to a pool.

The service's own estimator is made as configured, learns from made-up texts (`text`) as long as those of the
workload, and then estimates others of which the truth is known. The ratio of upper estimate to truth is kept for
each. Its own output reserve says what is set aside for requests without a cap.
"""

from dataclasses import dataclass

import numpy as np

from extproc.budget.learner import Learner, new_learner, new_output
from extproc.config import DEFAULT_POOL_SET, Config, Pool
from extproc.planning.text import TEMPLATE_TOKENS, TextModel, Texts, answered
from extproc.planning.workload import MOST_TOKENS, NO_CAP, Floats, Workload

LEARNED, TRIED = 3_000, 2_000
"""Answers an estimator learns from first, and texts it is tried on."""

STEP = 4
"""Of those it learns from one in so many, as its figures move in service too."""

SEED = 1


@dataclass(frozen=True)
class Estimates:
    """Upper estimates over the truth, of a settled estimator, sorted."""

    ratios: Floats

    def below(self, ratio: Floats) -> Floats:
        """Chance that the upper estimate is at most `ratio` times the truth."""
        return np.asarray(np.searchsorted(self.ratios, ratio, side="right") / len(self.ratios), np.float64)


def taught(config: Config, texts: TextModel, workload: Workload) -> Learner:
    """Return what a service of `config` knows that has answered `LEARNED` requests of `workload`."""
    learner = new_learner(config)
    drawn = Texts(texts, SEED)
    for tokens, output, cap in _lengths(workload, LEARNED):
        learner.learn(answered(*drawn.draw(tokens), tokens, output, None if cap == NO_CAP else cap))
    return learner


def settled(config: Config, texts: TextModel, workload: Workload) -> Estimates:
    """Try the estimator of `config` on texts of `texts` with prompts as long as those of `workload`."""
    learner = taught(config, texts, workload)
    drawn = Texts(texts, SEED + 1)
    ratios = np.empty(TRIED)
    for number, (tokens, _, _) in enumerate(_lengths(workload, TRIED)):
        category, features = drawn.draw(tokens)
        ratios[number] = learner.estimator.estimate("", category, "text", features).upper / tokens
        if number % STEP == 0:
            learner.learn(answered(category, features, tokens))
    return Estimates(np.sort(ratios))


class Reserves:
    """Output tokens that a service of `config` sets aside for requests without a cap, by its smallest pool.

    It has seen `LEARNED` answers to such requests of `workload`.
    """

    def __init__(self, config: Config, workload: Workload) -> None:
        self._config = config
        self._uncapped = workload.part((workload.caps == NO_CAP).astype(float))
        output = new_output(config)
        for tokens, length, _ in _lengths(self._uncapped, LEARNED) if self._uncapped else ():
            output.learn(answered("", (), tokens, length))
        self._learned = output.export()

    def tokens(self, smallest: int) -> int:
        """Return the reserve when the smallest pool holds `smallest` tokens; 0 when every request has a cap.

        More than any pool holds where it is not known: such requests go to the largest.
        """
        if self._uncapped is None:
            return 0
        pools = (Pool(name="smallest", capacity=smallest),)
        output = new_output(self._config.model_copy(update={"pools": {DEFAULT_POOL_SET: pools}}))
        output.restore(self._learned)
        reserve = output.reserve("", "", None)
        return MOST_TOKENS if reserve.source == "unknown" else reserve.tokens


def _lengths(workload: Workload, count: int) -> list[tuple[int, int, int]]:
    """Prompts (long enough to be a text and a message), outputs and caps drawn from `workload`."""
    random = np.random.default_rng(SEED)
    picked = random.choice(len(workload.inputs), count, p=workload.weights / workload.weights.sum())
    prompts = np.maximum(workload.inputs[picked], 2 * TEMPLATE_TOKENS)
    columns = prompts, workload.outputs[picked], workload.caps[picked]
    return list(zip(*(column.tolist() for column in columns), strict=True))


def exact(ratio: Floats) -> Floats:
    """Chance that an estimate is at most `ratio` times the truth, for an oracle, whose estimate is the truth."""
    return np.asarray(ratio >= 1, np.float64)
