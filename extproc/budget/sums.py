"""What estimators learn, in the one form that can be merged: sums that fade.

Everything learned here (moving means and variances, histograms of lengths, the sufficient statistics of least
squares) is a vector of sums S to which an observation adds x after fading what was there: S ← k·S + x, 0 ≤ k ≤ 1.
A run of observations does S ← keep·S + values with keep = Π k, so runs compose, and composing is merging:

    (older, then newer) = (older.keep · newer.keep,  newer.keep · older.values + newer.values)

That is associative exactly. Two runs that happened at the same time may be merged in either order; a mean taken of
the sums then differs by at most max(1 − keep_a, 1 − keep_b) times the furthest that the two runs and what was
before them lie apart: nothing where nothing fades, and never more than they disagreed anyway.
"""

from collections.abc import Sequence

import msgspec
import numpy as np

from extproc.budget.bounded import Bounded

Key = tuple[str, ...]
"""What was learned and for whom: the kind of figure first (`ratio`, `output`, ...), then model, category, ..."""


class Sums(msgspec.Struct, frozen=True, array_like=True):
    """A run of observations of one figure.

    `samples`: how many. `keep`: the share of earlier sums that is left after them. `values`: what they add, in the
    layout of the figure's kind.
    """

    samples: int
    keep: float
    values: tuple[float, ...]

    def then(self, newer: "Sums") -> "Sums":
        """Return this run followed by `newer`. Sums of another layout cannot be added: the newer stand alone."""
        if len(self.values) != len(newer.values):
            return newer
        return Sums(
            samples=self.samples + newer.samples,
            keep=self.keep * newer.keep,
            values=tuple(newer.keep * a + b for a, b in zip(self.values, newer.values, strict=True)),
        )


Table = dict[Key, Sums]
"""Everything learned, by key, the least recently used first."""


def merge(older: Table, newer: Table, limit: int) -> Table:
    """Return `older` followed by `newer`, at most `limit` entries: those least recently learned are dropped."""
    merged = {key: sums for key, sums in older.items() if key not in newer}
    for key, sums in newer.items():
        before = older.get(key)
        merged[key] = sums if before is None else before.then(sums)
    for key in list(merged)[: max(0, len(merged) - limit)]:
        del merged[key]
    return merged


class _Open:
    """A run that goes on."""

    __slots__ = ("keep", "samples", "values")

    def __init__(self, width: int) -> None:
        self.samples = 0
        self.keep = 1.0
        self.values = np.zeros(width)


class Recent:
    """What was learned since it was last taken, at most `limit` keys. Estimators add every observation."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open: Bounded[Key, _Open] = Bounded(limit)

    def add(
        self, key: Key, keep: float, values: "Sequence[float] | np.ndarray[tuple[int], np.dtype[np.float64]]"
    ) -> None:
        """Count one observation that fades what was there to `keep` and adds `values`."""
        run = self._open.use(key, lambda: _Open(len(values)))
        run.samples += 1
        run.keep *= keep
        run.values *= keep
        run.values += values

    def take(self) -> Table:
        """Return all and start anew."""
        table = {key: Sums(run.samples, run.keep, tuple(run.values.tolist())) for key, run in self._open.items()}
        self._open = Bounded(self._limit)
        return table
