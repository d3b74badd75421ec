"""Least squares on relative errors: what is learned of one model.

    tokens ≈ w · x        x: the features (`extproc.budget.features`), and 1 for a conversation, 1 for tools

The weights minimise the squared *relative* errors of past observations, with forgetting, and stay near a prior
where nothing has been seen. With u = x / y for an observation of y tokens, r = 1 − w·u is its relative error, and

    w = argmin  Σ κ·λ^age·(1 − w·u)² / σ²  +  (w − w₀)ᵀ D⁻¹ (w − w₀)
      = P · (b / σ² + D⁻¹ w₀),   P = (A / σ² + D⁻¹)⁻¹,   A = Σ κ λ^age u uᵀ,   b = Σ κ λ^age u

This is recursive least squares in information form (Ljung, *System Identification*, 2nd ed., §11.2). A and b are
fading sums, so they merge like everything learned here (`extproc.budget.sums`). D⁻¹ does not fade, so P stays
symmetric, positive definite and no larger than D, however long a kind of text is not seen: the covariance does not
wind up. P is stored as the inverse of the Cholesky factor of P⁻¹, so that rounding cannot break these properties.
κ is the weight of an observation: lower for a short prompt, and Huber's weight (1964) for an outlier, which bounds
what a single report can do. Weights beyond their bounds are set to them, and the others are solved for again.

When the model behind a name is replaced, recent errors rise far above the usual ones. Then what was learned is
faded to the weight of a few observations, and learning goes on from there.
"""

import math
import struct

import msgspec
import numpy as np

from extproc.budget.features import MESSAGES, TOOL_BYTES
from extproc.budget.moments import WIDTH, Moments
from extproc.budget.pairs import BYTES_PER, Array
from extproc.budget.prior import CONVERSATION, DEVIATION, LEAST, MOST, PRIOR, TOOLS, WEIGHTS
from extproc.budget.ratio import LEAST_RATIO, MOST_RATIO
from extproc.budget.sums import Sums

FORGETTING = 0.001
"""1 − λ. After 1,000 more observations, one counts for a third."""

NOISE = 0.03
"""σ: the usual relative error of a settled model, measured on prose and code. It only weighs data against prior."""

FULL_WEIGHT_TOKENS = 512.0
"""Shorter prompts weigh less: much of them is chat template, one token is a large share, and there are few words
for costs to average out. Thresholds between pools lie at thousands of tokens."""

OUTLIER = 3.0
SETTLED_SAMPLES = 20
"""Errors beyond `OUTLIER` standard deviations have limited influence, and are called outliers after
`SETTLED_SAMPLES` observations."""

DEVIATION_OF_MEAN = 1.25
"""Standard deviation over mean absolute value, √(π/2) for a normal distribution."""

PRIOR_ERROR = 0.08
PRIOR_SPREAD = 0.2
PRIOR_ERROR_SAMPLES = 10.0
"""`PRIOR_ERROR`: mean absolute error assumed at first, as if seen in `PRIOR_ERROR_SAMPLES` observations.
`PRIOR_SPREAD`: the most that an unknown kind of text adds to the deviation: between tokenizers weights vary as
`DEVIATION` says, but not all in one direction."""

RECENT = 0.05
"""Weight of a new error in the mean of recent errors, which covers about the last twenty."""

CHANGED = 2.5
CHANGED_ERROR = 0.1
CHANGED_SAMPLES = 40
LEFT_SAMPLES = 10.0
"""The model counts as replaced when the mean of recent errors is above `CHANGED` times the usual one and above
`CHANGED_ERROR`, at least `CHANGED_SAMPLES` observations after the last change. What was learned before then counts
for `LEFT_SAMPLES` observations."""

SOLVE_EACH = 64
SOLVE_EVERY = 64
"""Weights are solved for after each of the first `SOLVE_EACH` observations, then after every `SOLVE_EVERY`-th."""

_PRIOR_PRECISION = np.diag(1.0 / DEVIATION**2)
_PRIOR_INFORMATION = PRIOR / DEVIATION**2

_pack = struct.Struct(f"{WEIGHTS}d").pack  # twice as fast as making an array of a tuple

_LIMITS = np.zeros((2, WEIGHTS))
_LIMITS[0, : len(BYTES_PER)] = BYTES_PER
for _column in (MESSAGES, CONVERSATION, TOOLS):
    _LIMITS[1, _column] = MOST[_column]
"""Rows whose products with x are the text bytes and the longest possible template, in tokens."""


class Expected(msgspec.Struct, frozen=True):
    """The estimate of a prompt.

    `tokens`: expected. `deviation`: its relative standard deviation τ. `least`, `most`: no tokenizer counts fewer
    or more tokens.
    """

    tokens: float
    deviation: float
    least: float
    most: float


def inputs(features: tuple[float, ...]) -> Array:
    """Return x, of length `WEIGHTS`, for a feature vector."""
    messages, tools = features[MESSAGES], features[TOOL_BYTES]
    return np.frombuffer(_pack(*features, messages if messages < 1.0 else 1.0, tools if tools < 1.0 else 1.0))


class Fit:
    """What is learned of one model: weights, their covariance, the usual error. It starts from the prior.

    The sums are those of `extproc.budget.moments`: A, b and Σκ, then those behind the usual error.
    """

    __slots__ = (
        "_moments",
        "_root",
        "_rows",
        "_since_change",
        "_solved",
        "_sums",
        "error",
        "recent_error",
        "samples",
        "weights",
    )

    def __init__(self) -> None:
        self._moments = Moments()
        self.samples = 0
        self._solved = 0  # samples that the weights were solved for
        self.weights: Array = PRIOR
        self._root: Array = np.diag(DEVIATION)
        self._rows = self._estimated()
        self.error = PRIOR_ERROR
        """The usual error: mean absolute relative error."""
        self.recent_error = PRIOR_ERROR
        self._since_change = 0
        self._sums: Sums | None = None

    def estimate(self, x: Array) -> Expected:
        """Return the estimate of a prompt with inputs x."""
        figures = self._rows.dot(x).tolist()
        tokens = max(1.0, figures[0])
        spread = min(math.hypot(*figures[3:]) / tokens, PRIOR_SPREAD)
        deviation = math.hypot(DEVIATION_OF_MEAN * self.error, spread)
        return Expected(tokens, deviation, figures[1] / MOST_RATIO, figures[1] / LEAST_RATIO + figures[2])

    def learn(self, x: Array, tokens: float) -> bool:
        """Learn from one observation. True when it was an outlier."""
        error = abs(1.0 - float(self.weights.dot(x)) / tokens)
        limited = min(error, OUTLIER * DEVIATION_OF_MEAN * max(self.error, self.recent_error))
        weight = min(1.0, tokens / FULL_WEIGHT_TOKENS)
        keep = 1.0 - FORGETTING * weight
        self.recent_error += RECENT * weight * (limited - self.recent_error)
        if self._has_changed():
            keep *= min(1.0, LEFT_SAMPLES / self._moments.weight)
        self._moments.add(x, tokens, keep, weight, weight * limited, weight * limited / max(error, 1e-12))
        self.error = self._usual_error()
        self.samples += 1
        self._sums = None
        self._since_change += 1
        if self.samples <= SOLVE_EACH or self._since_change <= SOLVE_EACH or self.samples % SOLVE_EVERY == 0:
            self._solve()
        return error > limited and self.samples > SETTLED_SAMPLES

    def _usual_error(self) -> float:
        seen = self._moments
        return (seen.error + PRIOR_ERROR_SAMPLES * PRIOR_ERROR) / (seen.weight + PRIOR_ERROR_SAMPLES)

    def _has_changed(self) -> bool:
        """Whether recent errors say that the model was replaced. If so, counting since the change starts over."""
        changed = self._since_change >= CHANGED_SAMPLES and self.recent_error > max(
            CHANGED * self.error, CHANGED_ERROR
        )
        if changed:
            self._since_change = 0
        return changed

    def catch_up(self) -> None:
        """Solve for the weights of all observations so far, unless they are known."""
        if self._solved != self.samples:
            self._solve()

    def _solve(self) -> None:
        """Solve for weights and covariance."""
        self._solved = self.samples
        matrix = self._moments.matrix
        precision = matrix[:-1, :-1] / NOISE**2 + _PRIOR_PRECISION
        information = matrix[:-1, -1] / NOISE**2 + _PRIOR_INFORMATION
        self._root = np.linalg.inv(np.linalg.cholesky(precision))
        self.weights = _bounded(self._root.T.dot(self._root.dot(information)), precision, information)
        self._rows = self._estimated()

    def _estimated(self) -> Array:
        """Return the matrix whose product with x holds all that an estimate needs.

        Its rows give w·x, the text bytes, the longest template, and numbers whose squares add up to xᵀPx.
        """
        return np.vstack((self.weights, _LIMITS, self._root))

    def sums(self) -> Sums:
        """Return everything learned; cached until more is."""
        if self._sums is None:
            self._sums = Sums(self.samples, (1.0 - FORGETTING) ** self.samples, self._moments.values)
        return self._sums

    def has(self, sums: Sums) -> bool:
        """Whether `sums` are those of this fit: equal in number, total weight and total error."""
        return (
            self.samples == sums.samples
            and len(sums.values) == WIDTH
            and math.isclose(self._moments.weight, sums.values[-2])
            and math.isclose(self._moments.error, sums.values[-1])
        )

    def take(self) -> Sums | None:
        """Return what was learned since the last `take`, None if nothing was."""
        return self._moments.take()

    def restore(self, sums: Sums, before: "Fit | None") -> bool:
        """Become the fit of `sums`, with the recent errors of `before`. False when the sums are not possible."""
        values = sums.values
        if len(values) != WIDTH or sums.samples < 1 or not np.isfinite(values).all() or (values[-2:] < 0).any():
            return False
        self._moments.restore(values)
        self.samples = sums.samples
        self._sums = sums
        self.error = self._usual_error()
        try:
            self._solve()
        except np.linalg.LinAlgError:
            return False
        self.recent_error = self.error if before is None else before.recent_error
        self._since_change = self.samples if before is None else before._since_change
        return bool(np.isfinite(self._rows).all())


def _bounded(weights: Array, precision: Array, information: Array) -> Array:
    """Return `weights` within `LEAST` and `MOST`.

    Weights beyond a bound are fixed there, and the others solved for again, until no more are beyond theirs.
    """
    free = np.ones(len(weights), bool)
    while True:
        bounded = np.clip(weights, LEAST, MOST)
        moved = free & (bounded != weights)
        if not moved.any():
            return bounded
        free &= ~moved
        weights = bounded
        rest = information[free] - precision[np.ix_(free, ~free)].dot(bounded[~free])
        weights[free] = np.linalg.solve(precision[np.ix_(free, free)], rest)
