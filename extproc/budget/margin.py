"""The margin: how far above its expected value an estimate is held, so that few requests do not fit their pool.

A request is misrouted when the truth is above a pool's capacity and its upper estimate is not. Let t be the
logarithm of truth over estimate, in units of its standard deviation τ, and k the margin in the same units. Requests
whose size is near the capacity are d per e-fold of size, as a share of all. One whose upper estimate is a share s
below the capacity is misrouted when τ·(t − k) > s, so of all requests

    ∫ d · P(τ·(t − k) > s) ds  over s ≥ 0   =   d · τ · E[max(t − k, 0)]

are. The margin is the smallest k that keeps this at the rate that was accepted. It takes nothing but what is
learned here, by model: how t is distributed (a histogram by size of the prompt) and how sizes are (the same one's
rows). It is one-sided, so it is not the errors in general that set it but those below the truth; and no pool's
capacity enters, so one margin holds for every threshold. What it assumes is that sizes are spread within a factor
of two of any threshold, as those of different texts are.

While few errors have been seen, the histogram near a size is filled up from that of the model, and that one from a
Laplace distribution of the same deviation, whose tail is heavier than what is observed.
"""

import bisect
import math

import numpy as np
from numpy.typing import NDArray

from extproc.budget.sums import Fading, Sums

SIZES = 12
"""Rows: prompts of fewer than 2^6, 2^7 ... tokens; the last takes all larger ones."""

_FIRST_SIZE = 6

EDGES = np.concatenate((np.arange(0.0, 2.01, 0.125), 2.0 * 1.2 ** np.arange(1, 9)))
"""Upper edges of the steps in which t is counted; the first takes everything that was not too low. The last, 8.6,
takes all beyond it: what no text explains is a lie, and one lie is not to move a margin far."""

STEPS = len(EDGES)

_EDGES: list[float] = EDGES.tolist()  # single edges are quicker had from a list

KEEP = 1.0 - 1.0 / 2048.0
"""Share of the counts that is left after one more: what was seen 2,048 prompts ago counts for a third."""

ANEW_EACH = 64
ANEW_EVERY = 16
"""Margins are made anew after each of the first errors, then after every sixteenth."""

PRIOR_SAMPLES = 30.0
PRIOR_DENSITY = 0.5
"""Requests per e-fold of size, as a share of all: sizes of real traffic spread over three e-folds and more."""

LEAST_DENSITY = 0.45
"""The same of sizes that are rarely seen: the few there are may all lie beside a pool's capacity. It is what sizes
spread evenly over a factor of nine would have."""

PRIOR = 0.5 * 2**-0.5 * np.exp(-EDGES * 2**0.5)
"""E[max(t − k, 0)] at every edge k for a Laplace distribution of standard deviation 1, whose scale is b = 1/√2:
b/2 · exp(−k/b)."""

_EXCESS = np.maximum(EDGES[:, None] - EDGES[None, :], 0.0)
"""What a t of each step is above every edge, at most; of the last step, at least."""


class Errors:
    """How far estimates of one model were below the truth: a fading histogram, `SIZES` × `STEPS`."""

    def __init__(self, counts: NDArray[np.float64] | None = None, samples: int = 0) -> None:
        self._counts = Fading([0.0] * (SIZES * STEPS) if counts is None else counts.ravel().tolist())
        self.samples = samples
        self._sums: Sums | None = None
        self._excess: dict[int | None, tuple[float, list[float]]] = {}

    def add(self, cell: int) -> None:
        """Count one error, by its cell of the flattened histogram (`cell_of`)."""
        self._counts.count(cell, KEEP)
        self.samples += 1
        self._sums = None
        if self.samples <= ANEW_EACH or self.samples % ANEW_EVERY == 0:
            self._excess.clear()

    @property
    def counts(self) -> NDArray[np.float64]:
        """The histogram, `SIZES` × `STEPS`."""
        return np.reshape(self._counts.values, (SIZES, STEPS)) / self._counts.scale

    def sums(self) -> Sums:
        """Return all that was counted; made once, as long as nothing is."""
        if self._sums is None:
            self._sums = Sums(self.samples, KEEP**self.samples, tuple(self.counts.ravel().tolist()))
        return self._sums

    def margin(self, tokens: float, deviation: float, rate: float) -> float:
        """Return the logarithm of upper over expected tokens, for an estimate of `tokens`.

        `deviation`: its relative standard deviation τ. `rate`: the accepted share of misroutes, of all requests.
        """
        return self._margin(_size(tokens), deviation, rate)

    def overall(self, deviation: float, rate: float) -> float:
        """Return one margin for estimates of every size, from all errors and where most requests are."""
        return self._margin(None, deviation, rate)

    def _margin(self, size: int | None, deviation: float, rate: float) -> float:
        known = self._excess.get(size)
        if known is None:
            known = self._learned(slice(None) if size is None else slice(max(0, size - 1), size + 2))
            self._excess[size] = known
        density, negated = known
        accepted = -rate / (density * deviation)
        step = bisect.bisect_left(negated, accepted)  # the first edge whose excess is accepted
        if step == 0:
            return 0.0
        if step == STEPS:
            return _EDGES[-1] * deviation
        above = (negated[step] - accepted) / (negated[step] - negated[step - 1])
        return (_EDGES[step] - above * (_EDGES[step] - _EDGES[step - 1])) * deviation

    def _learned(self, near: slice) -> tuple[float, list[float]]:
        """Return d and −E[max(t − k, 0)] at every edge k, which rises, for prompts of the sizes `near`.

        Those are a row and its neighbours, half to twice the size, since one row alone holds few of the errors that
        matter. The density is that of the fullest of them.
        """
        counts = self.counts
        rows = counts.sum(axis=1)
        density = (float(rows[near].max()) / math.log(2) + PRIOR_SAMPLES * PRIOR_DENSITY) / (
            PRIOR_SAMPLES + float(rows.sum())
        )
        density = max(density, LEAST_DENSITY)
        model = _filled_up(counts.sum(axis=0), PRIOR)
        return density, (-_filled_up(counts[near].sum(axis=0), model)).tolist()


def _filled_up(counts: NDArray[np.float64], prior: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return E[max(t − k, 0)] at every edge k, of `counts` and `PRIOR_SAMPLES` of `prior`."""
    excess: NDArray[np.float64] = (PRIOR_SAMPLES * prior + counts.dot(_EXCESS)) / (PRIOR_SAMPLES + counts.sum())
    return excess


def cell_of(tokens: float, error: float) -> int:
    """Return where an error counts. `tokens`: the estimate. `error`: log(truth / estimate) / τ."""
    step = min(bisect.bisect_left(_EDGES, error), STEPS - 1)
    return _size(tokens) * STEPS + step


def _size(tokens: float) -> int:
    return min(max(int(tokens).bit_length() - _FIRST_SIZE, 0), SIZES - 1)
