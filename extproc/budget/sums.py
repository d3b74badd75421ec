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

from extproc.budget.bounded import Bounded

LARGEST_SCALE = 1e100

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
    return _newest(merged, limit)


def surest(table: Table, other: Table, limit: int) -> Table:
    """Return what is in either, at most `limit` entries: figures of `other` alone are the first to be dropped.

    For tables that may hold the same observations, so that they cannot be merged: of a figure that is in both stays
    the side that has seen more.
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


class Fading:
    """Counts that fade by one number, not one by one: `values` are the counts multiplied by `scale`."""

    __slots__ = ("scale", "values")

    def __init__(self, values: list[float]) -> None:
        self.scale = 1.0
        self.values = values

    def count(self, position: int, keep: float) -> None:
        """Fade all to the share `keep`, not 0, and add 1 at `position`."""
        self.scale /= keep
        self.values[position] += self.scale
        if self.scale > LARGEST_SCALE:
            self.values = [value / self.scale for value in self.values]
            self.scale = 1.0


class _Open(Fading):
    """A run that goes on."""

    __slots__ = ("keep", "samples")

    def __init__(self, width: int) -> None:
        super().__init__([0.0] * width)
        self.samples = 0
        self.keep = 1.0

    def close(self) -> Sums:
        return Sums(self.samples, self.keep, tuple(value / self.scale for value in self.values))


class Recent:
    """What was learned since it was last taken, at most `limit` keys. Estimators add every observation."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open: Bounded[Key, _Open] = Bounded(limit)

    def add(self, key: Key, keep: float, values: Sequence[float]) -> None:
        """Count one observation that fades what was there to `keep` and adds `values`."""
        run = self._use(key, keep, len(values))
        run.values = [keep * old + new for old, new in zip(run.values, values, strict=True)]

    def count(self, key: Key, keep: float, width: int, position: int) -> None:
        """Do as `add` with `width` values, all 0 but for a 1 at `position`, without touching the others.

        `keep`: not 0. A key is either counted or added to.
        """
        self._use(key, keep, width).count(position, keep)

    def _use(self, key: Key, keep: float, width: int) -> _Open:
        run = self._open.use(key, lambda: _Open(width))
        run.samples += 1
        run.keep *= keep
        return run

    def take(self) -> Table:
        """Return all and start anew."""
        table = {key: run.close() for key, run in self._open.items()}
        self._open = Bounded(self._limit)
        return table
