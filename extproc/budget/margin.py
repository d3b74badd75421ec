"""The margin between the expected and the upper estimate, chosen so that few requests miss their pool.

A request is misrouted when the truth is above a pool's capacity and its upper estimate is not. Let t be the
logarithm of truth over estimate in units of its standard deviation τ, and k the margin in the same units. Let d be
the density of requests near the capacity: their share of all requests per e-fold of size. A request whose upper
estimate lies s e-folds below the capacity is misrouted when τ·(t − k) > s. So the share of requests misrouted is

    ∫ d · P(τ·(t − k) > s) ds  over s ≥ 0   =   d · τ · E[max(t − k, 0)]

The margin is the smallest k that keeps this share at the accepted rate. It depends only on what is learned here by
model: the distribution of t (a histogram by prompt size) and the distribution of sizes (the sums of its rows). It
is one-sided: only estimates below the truth raise it. No pool's capacity enters, so one margin holds for every
threshold. It assumes that sizes are spread evenly within a factor of two of any threshold, as those of different
texts are.

While few errors have been seen, the histogram near a size is filled up from that of all sizes, and that one from a
Laplace distribution with the same deviation, whose tail is heavier than what is observed.
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
"""Upper edges of the steps in which t is counted. The first step takes every estimate that was not too low. The
last edge, 8.6, stands for everything beyond: no text explains such an error, and one false report must not move a
margin far."""

STEPS = len(EDGES)

_EDGES: list[float] = EDGES.tolist()  # reading single edges from a list is faster

KEEP = 1.0 - 1.0 / 2048.0
"""Share of the counts that is left after each new one: what was seen 2,048 prompts ago counts for a third."""

ANEW_EACH = 64
ANEW_EVERY = 16
"""Margins are computed again after each of the first `ANEW_EACH` errors, then after every `ANEW_EVERY`-th."""

PRIOR_SAMPLES = 30.0
PRIOR_DENSITY = 0.5
"""Density d assumed at first, as if seen in `PRIOR_SAMPLES` requests: sizes of real traffic spread over three
e-folds and more."""

LEAST_DENSITY = 0.45
"""The least density assumed for sizes that are rarely seen: the few there are may all lie next to a pool's
capacity. Sizes spread evenly over a factor of nine have this density."""

PRIOR = 0.5 * 2**-0.5 * np.exp(-EDGES * 2**0.5)
"""E[max(t − k, 0)] at every edge k for a Laplace distribution of standard deviation 1, whose scale is b = 1/√2:
b/2 · exp(−k/b)."""

_EXCESS = np.maximum(EDGES[:, None] - EDGES[None, :], 0.0)
"""By how much a t of each step exceeds each edge: at most, except in the last step, where it is the least."""


class Errors:
    """A fading histogram, `SIZES` × `STEPS`, of how far a model's estimates were below the truth."""

    def __init__(self, sums: Sums | None = None) -> None:
        """`sums`: what was counted before, by cell (`cell_of`)."""
        self._counts = Fading(np.zeros(SIZES * STEPS) if sums is None else sums.values.copy())
        self.samples = 0 if sums is None else sums.samples
        self._sums = sums
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
        """Return everything counted; cached until more is.

        Margins follow from all of it afterwards: whoever is given the same sums has the same margins.
        """
        if self._sums is None:
            self._sums = Sums(self.samples, KEEP**self.samples, self.counts.ravel())
            self._excess.clear()
        return self._sums

    def margin(self, tokens: float, deviation: float, rate: float) -> float:
        """Return the logarithm of upper over expected tokens, for an estimate of `tokens`.

        `deviation`: its relative standard deviation τ. `rate`: the accepted share of misroutes, of all requests.
        """
        return self._margin(_size(tokens), deviation, rate)

    def overall(self, deviation: float, rate: float) -> float:
        """Return one margin for estimates of all sizes, from all errors and the highest density of sizes."""
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
        """Return d, and −E[max(t − k, 0)] at every edge k, in rising order, for prompts in the rows `near`.

        Those are a row and its neighbours, half to twice the size, since one row alone holds few of the errors that
        matter. The density is that of the fullest of these rows.
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
    """Return E[max(t − k, 0)] at every edge k, from `counts` and `PRIOR_SAMPLES` samples of `prior`."""
    excess: NDArray[np.float64] = (PRIOR_SAMPLES * prior + counts.dot(_EXCESS)) / (PRIOR_SAMPLES + counts.sum())
    return excess


def cell_of(tokens: float, error: float) -> int:
    """Return the cell in which an error counts. `tokens`: the estimate. `error`: log(truth / estimate) / τ."""
    step = min(bisect.bisect_left(_EDGES, error), STEPS - 1)
    return _size(tokens) * STEPS + step


def _size(tokens: float) -> int:
    return min(max(int(tokens).bit_length() - _FIRST_SIZE, 0), SIZES - 1)
