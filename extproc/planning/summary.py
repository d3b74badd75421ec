"""One pass over a table of requests: distinct lengths, arrivals by minute, bad rows; never a record a request."""

from pathlib import Path

import numpy as np
import polars as pl

from extproc.planning.errors import PlanError
from extproc.planning.workload import MOST_TOKENS, NO_CAP

CHUNK = 50_000
"""Rows in memory at once."""

MOST_LENGTHS = 250_000
"""Distinct lengths kept. Beyond it all are rounded up to `STEP` tokens."""

WAITING = 250_000
"""Rows whose lengths are counted at once."""

STEP = 16
"""Tokens: a KV block of vLLM."""

COUNTS = ("input", "output", "cap", "bytes")
LENGTHS = ("input", "output", "cap")
MINUTE = 60.0

USABLE = ~pl.col("broken") & pl.col("input").is_not_null() & (pl.col("input") > 0) & pl.col("output").is_not_null()


class Summary:
    """What the rows of `tables.scan` say, taken batch by batch.

    `rows`, `bad`: all and unusable ones. `timed`: usable ones with a time. `untimed`: the first usable one without,
    counted from 1, None where there is none. `first`, `last`: earliest and latest time, s. `ordered`: whether times
    never went back. `rounded`: whether lengths were rounded up to `STEP`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.rows = self.bad = self.timed = 0
        self.untimed: int | None = None
        self.first, self.last = np.inf, -np.inf
        self.ordered = True
        self.rounded = False
        self._lengths = pl.DataFrame(schema=dict.fromkeys((*LENGTHS, "len"), pl.Int64()))
        self._waiting: list[pl.DataFrame] = []
        self._waiting_rows = 0
        self._minutes: dict[int, int] = {}
        self._zero: float | None = None
        self._before: float | None = None
        self._gaps = self._squares = 0.0

    def take(self, part: pl.DataFrame) -> None:
        """Add a batch. Raises `PlanError` for a count that cannot be one, naming its row."""
        self._reject_impossible(part)
        usable = part.with_row_index("row", self.rows + 1).filter(USABLE)
        if self.untimed is None:
            self.untimed = next(iter(usable.filter(pl.col("time").is_null())["row"].to_list()), None)
        self.rows += len(part)
        self.bad += len(part) - len(usable)
        self._take_lengths(usable)
        times = usable["time"].drop_nulls().to_numpy()
        if len(times):
            self._take_times(times)

    def _reject_impossible(self, part: pl.DataFrame) -> None:
        for name in COUNTS:
            column = pl.col(name)
            wrong = part.with_row_index("row", self.rows + 1).filter((column < 0) | (column > MOST_TOKENS))
            if len(wrong):
                row, value = wrong.select("row", name).row(0)
                rule = "must not be negative" if value < 0 else f"must be at most {MOST_TOKENS}"
                raise PlanError(f"{self._path}: row {row}: {name} {value}: {rule}")

    def _take_lengths(self, usable: pl.DataFrame) -> None:
        lengths = usable.select("input", "output", pl.col("cap").fill_null(NO_CAP), len=pl.lit(1, pl.Int64))
        self._waiting.append(_rounded(lengths) if self.rounded else lengths)
        self._waiting_rows += len(lengths)
        if self._waiting_rows > WAITING:
            self.merge()

    def merge(self) -> None:
        """Count what waits to be counted; due after the last batch."""
        self._lengths = _counted(pl.concat([self._lengths, *self._waiting]))
        self._waiting, self._waiting_rows = [], 0
        if len(self._lengths) > MOST_LENGTHS and not self.rounded:
            self.rounded = True
            self._lengths = _counted(_rounded(self._lengths))

    def _take_times(self, times: np.ndarray[tuple[int], np.dtype[np.float64]]) -> None:
        if self._zero is None:
            self._zero = float(times[0])
        gaps = np.diff(times) if self._before is None else np.diff(times, prepend=self._before)
        self.ordered = self.ordered and bool((gaps >= 0).all())
        self._gaps += float(gaps.sum())
        self._squares += float((gaps**2).sum())
        self._before = float(times[-1])
        self.timed += len(times)
        self.first, self.last = min(self.first, float(times.min())), max(self.last, float(times.max()))
        minutes, counts = np.unique(((times - self._zero) // MINUTE).astype(np.int64), return_counts=True)
        for minute, count in zip(minutes.tolist(), counts.tolist(), strict=True):
            self._minutes[minute] = self._minutes.get(minute, 0) + count

    @property
    def usable(self) -> int:
        """Rows that are requests."""
        return self.rows - self.bad

    @property
    def whole(self) -> bool:
        """Whether every usable row has a time."""
        return self.timed == self.usable > 0

    @property
    def lengths(self) -> pl.DataFrame:
        """Distinct input, output, cap (`NO_CAP` where there is none) and `len`, how often, sorted."""
        return self._lengths.sort(LENGTHS)

    @property
    def by_minute(self) -> list[float]:
        """Requests per second of each minute from the first time on."""
        least = min(self._minutes)
        return [self._minutes.get(m, 0) / MINUTE for m in range(least, max(self._minutes) + 1)]

    @property
    def variation(self) -> float | None:
        """Coefficient of variation of the times between arrivals; None where they were not in order."""
        count = self.timed - 1
        if not self.ordered or count < 1 or self._gaps <= 0:
            return None
        mean = self._gaps / count
        return float(max(0.0, self._squares / count - mean**2) ** 0.5 / mean)


def summarise(path: Path, frame: pl.LazyFrame) -> Summary:
    """Read `frame` once. Raises `PlanError` for an impossible count, `PolarsError` for what cannot be read."""
    summary = Summary(path)
    for part in frame.collect_batches(chunk_size=CHUNK, maintain_order=True):
        summary.take(part)
    summary.merge()
    return summary


def _counted(lengths: pl.DataFrame) -> pl.DataFrame:
    return lengths.group_by(LENGTHS).agg(pl.col("len").sum())


def _rounded(lengths: pl.DataFrame) -> pl.DataFrame:
    return lengths.with_columns((pl.col("input", "output") + STEP - 1) // STEP * STEP)
