"""Fading sums: the one form of everything learned, in which it can be merged.

Everything learned here (moving means and variances, histograms of lengths, the sufficient statistics of least
squares) is a vector of sums S. An observation fades S and adds x to it: S ← k·S + x with 0 ≤ k ≤ 1. So a run of
observations does S ← keep·S + values, with keep = Π k. Runs compose, and composing them is merging:

    (older, then newer) = (older.keep · newer.keep,  newer.keep · older.values + newer.values)

This is exactly associative. Two runs that happened at the same time may be merged in either order: a mean
computed from the sums then differs by at most max(1 − keep_a, 1 − keep_b) times the largest distance between the
means of the two runs and of what was there before. That is nothing where nothing fades.
"""

from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from extproc.budget.bounded import Bounded
from extproc.budget.pairs import Array

LARGEST_SCALE = 1e100

Key = tuple[str, ...]
"""Names a figure: first its kind (`ratio`, `output`, ...), then model, category, ..."""


class Sums(msgspec.Struct, frozen=True, eq=False):
    """A run of observations of one figure.

    `samples`: number of observations. `keep`: share of the earlier sums that is left after them. `values`: what
    they add, in the layout of the figure's kind; an array, since thousands of models have millions of values, and
    as many objects would hold up requests whenever they are collected or freed. It is never written to.
    """

    samples: int
    keep: float
    values: Array

    def __eq__(self, other: object) -> bool:
        """Whether everything is equal, bit by bit."""
        return (
            isinstance(other, Sums)
            and (self.samples, self.keep) == (other.samples, other.keep)
            and self.values.tobytes() == other.values.tobytes()  # several times as fast as comparing arrays
        )

    __hash__ = None  # type: ignore[assignment]

    def then(self, newer: "Sums") -> "Sums":
        """Return this run followed by `newer`; `newer` alone where the layouts differ and nothing can be added."""
        if len(self.values) != len(newer.values):
            return newer
        return Sums(
            samples=self.samples + newer.samples,
            keep=self.keep * newer.keep,
            values=newer.keep * self.values + newer.values,
        )


Table = dict[Key, Sums]
"""Everything learned, by key, least recently used first."""


def merge(older: Table, newer: Table, limit: int) -> Table:
    """Return `older` followed by `newer`; beyond `limit` entries the least recently learned are dropped."""
    merged = {key: sums for key, sums in older.items() if key not in newer}
    for key, sums in newer.items():
        before = older.get(key)
        merged[key] = sums if before is None else before.then(sums)
    return _newest(merged, limit)


def surest(table: Table, other: Table, limit: int) -> Table:
    """Return each figure from the table that has seen more of it, at most `limit` entries.

    For tables that may share observations and so cannot be merged. Figures in `other` alone are the first dropped.
    """
    chosen = {key: sums for key, sums in other.items() if key not in table}
    for key, sums in table.items():
        rival = other.get(key)
        chosen[key] = sums if rival is None or rival.samples <= sums.samples else rival
    return _newest(chosen, limit)


def _newest(table: Table, limit: int) -> Table:
    for key in list(table)[: max(0, len(table) - limit)]:
        del table[key]
    return table


def are_counts(values: Array) -> bool:
    """Whether all are finite and none is negative."""
    return bool(np.isfinite(values).all() and (values >= 0).all())


class Fading:
    """Counts that all fade at once by one number: `values` are the counts multiplied by `scale`."""

    __slots__ = ("scale", "values")

    def __init__(self, values: Array) -> None:
        self.scale = 1.0
        self.values = values

    def count(self, position: int, keep: float) -> None:
        """Fade all counts to the share `keep` (above 0), and add 1 at `position`."""
        self.scale /= keep
        self.values[position] += self.scale
        if self.scale > LARGEST_SCALE:
            self.values = self.values / self.scale
            self.scale = 1.0


class _Open(Fading):
    """A run that is still growing."""

    __slots__ = ("keep", "samples", "sums")

    def __init__(self, width: int) -> None:
        super().__init__(np.zeros(width))
        self.samples = 0
        self.keep = 1.0
        self.sums: Sums | None = None

    def close(self) -> Sums:
        """Return its sums; cached until more is added."""
        if self.sums is None:
            self.sums = Sums(self.samples, self.keep, self.values / self.scale)
        return self.sums


class Recent:
    """Collects what was learned since the last `take`, at most `limit` keys. Estimators add every observation."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open: Bounded[Key, _Open] = Bounded(limit)

    def add(self, key: Key, keep: float, values: Sequence[float]) -> None:
        """Add one observation, which fades the sums to the share `keep` and adds `values`."""
        run = self._use(key, keep, len(values))
        run.values = keep * run.values + values

    def count(self, key: Key, keep: float, width: int, position: int) -> None:
        """Do as `add` with `width` values, all 0 but for a 1 at `position`, in O(1).

        `keep`: above 0. One key takes either `add` or `count`, not both.
        """
        self._use(key, keep, width).count(position, keep)

    def _use(self, key: Key, keep: float, width: int) -> _Open:
        run = self._open.use(key, lambda: _Open(width))
        run.samples += 1
        run.keep *= keep
        run.sums = None
        return run

    def prepare(self) -> Iterator[None]:
        """Do what takes time in `take` beforehand, in small steps."""
        for _, run in self._open.items():
            run.close()
            yield

    def take(self) -> Table:
        """Return everything collected, and start again with nothing."""
        table = {key: run.close() for key, run in self._open.items()}
        self._open = Bounded(self._limit)
        return table
