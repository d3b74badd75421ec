"""Traces: a table of requests becomes a workload, streaming, and can be replayed in order."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from extproc.planning import tables
from extproc.planning.errors import PlanError
from extproc.planning.workload import MOST_TOKENS, NO_CAP, Arrivals, Ints, Workload

EXACT_ROWS = 2_000_000
"""Up to this many rows every distinct length is kept and rows are sorted in memory; above, lengths are rounded up
to `STEP` tokens (a vLLM block) and the file must be in time order."""

STEP = 16
CHUNK = 50_000
COUNTS = ("input", "output", "cap", "bytes")

Batch = tuple[npt.NDArray[np.float64], Ints, Ints, Ints, Ints]
"""Times (s from the first), inputs, outputs, caps (tokens), bytes of prompt text (0 where unknown)."""


@dataclass(frozen=True)
class Trace:
    """A file of requests. `frame` has the columns of `tables.scan`; `rows`: all rows, `bad`: unusable ones."""

    path: Path
    frame: pl.LazyFrame
    rows: int
    bad: int
    start: float | None
    sorted: bool
    notes: tuple[str, ...]

    @property
    def good(self) -> pl.LazyFrame:
        """The usable rows."""
        return self.frame.filter(_usable())

    @property
    def exact(self) -> bool:
        """Whether every distinct length is kept."""
        return self.rows <= EXACT_ROWS

    def batches(self) -> Iterator[Batch]:
        """Yield the requests in time order, some at a time. Raises `PlanError` without timestamps."""
        if self.start is None:
            raise PlanError(f"{self.path}: has no timestamps to replay: give --arrivals poisson and --rate")
        frame = self.good
        if not self.sorted:
            if not self.exact:
                raise PlanError(f"{self.path}: {self.rows} rows are not in time order: sort the file first")
            frame = frame.sort("time", maintain_order=True)
        for part in frame.collect_batches(chunk_size=CHUNK, maintain_order=True):
            yield (
                part["time"].to_numpy() - self.start,
                part["input"].to_numpy(),
                part["output"].to_numpy(),
                part["cap"].fill_null(NO_CAP).to_numpy(),
                part["bytes"].fill_null(0).to_numpy(),
            )


def _usable() -> pl.Expr:
    return pl.col("input").is_not_null() & (pl.col("input") > 0) & pl.col("output").is_not_null()


def open_trace(
    path: Path,
    columns: Mapping[str, str] | None = None,
    bytes_per_token: float = tables.DEFAULT_BYTES_PER_TOKEN,
) -> Trace:
    """Open and check a file of requests.

    Raises `PlanError` for an unreadable file, a missing column, fewer than two usable rows, or a negative count
    (naming its row).
    """
    frame, notes = tables.scan(path, columns or {}, bytes_per_token)
    facts = _facts(path, frame)
    rows, bad, timed = int(facts["rows"]), int(facts["bad"]), int(facts["timed"])
    _reject_impossible(path, frame, facts)
    if rows - bad < 2:
        raise PlanError(f"{path}: {rows - bad} usable rows of {rows}: at least two requests are needed")
    whole = timed == rows - bad
    ordered = not whole or _gaps(frame.filter(_usable()).select("time"))[0]
    if timed and not whole:
        notes = (*notes, f"{rows - bad - timed} rows have no readable time: times are not used")
    if not ordered:
        notes = (*notes, "timestamps were not in order: sorted")
    if rows > EXACT_ROWS:
        notes = (*notes, f"more than {EXACT_ROWS} rows: lengths are rounded up to {STEP} tokens")
    return Trace(path, frame, rows, bad, facts["first"] if whole else None, ordered, notes)


def _facts(path: Path, frame: pl.LazyFrame) -> dict[str, float]:
    """Counts and extremes, streaming: a filter within an aggregate would hold the whole column, so two passes."""
    counts = frame.select(
        pl.len().alias("rows"),
        (~_usable()).sum().alias("bad"),
        *(pl.col(name).min().alias(f"least_{name}") for name in COUNTS),
        *(pl.col(name).max().alias(f"most_{name}") for name in COUNTS),
    )
    time = pl.col("time")
    times = frame.filter(_usable()).select(time.count().alias("timed"), time.min().alias("first"))
    try:
        rows = [query.collect(engine="streaming").row(0, named=True) for query in (counts, times)]
    except pl.exceptions.PolarsError as error:
        raise PlanError(f"{path}: cannot be read: {' '.join(str(error).split())[:200]}") from None
    return rows[0] | rows[1]


def _gaps(times: pl.LazyFrame) -> tuple[bool, float]:
    """Whether `times` are in order, and the coefficient of variation of the times between them; batch by batch."""
    last, count, total, squares, ordered = None, 0, 0.0, 0.0, True
    for part in times.collect_batches(chunk_size=CHUNK, maintain_order=True):
        values = part["time"].to_numpy()
        gaps = np.diff(values) if last is None else np.diff(values, prepend=last)
        if len(values):
            last = values[-1]
        ordered = ordered and bool((gaps >= 0).all())
        count, total, squares = count + len(gaps), total + float(gaps.sum()), squares + float((gaps**2).sum())
    mean = total / count if count else 0.0
    return ordered, (max(0.0, squares / count - mean**2) ** 0.5 / mean if mean else 0.0)


def _reject_impossible(path: Path, frame: pl.LazyFrame, facts: Mapping[str, float]) -> None:
    for name in COUNTS:
        column = pl.col(name)
        for bad, wrong, rule in (
            (facts[f"least_{name}"], column < 0, "must not be negative"),
            (facts[f"most_{name}"], column > MOST_TOKENS, f"must be at most {MOST_TOKENS}"),
        ):
            if bad is not None and not 0 <= bad <= MOST_TOKENS:
                rows = frame.with_row_index("row").filter(wrong).select("row", name).head(1).collect()
                if len(rows):
                    row, value = rows.row(0)
                    raise PlanError(f"{path}: row {row + 1}: {name} {value}: {rule}")


def workload(trace: Trace) -> Workload:
    """Summarise a trace: distinct lengths with their counts, and arrivals where it has times."""
    frame = trace.good.with_columns(pl.col("cap").fill_null(NO_CAP))
    if not trace.exact:
        frame = frame.with_columns(((pl.col("input", "output") + STEP - 1) // STEP) * STEP)
    lengths = frame.group_by("input", "output", "cap").len().collect(engine="streaming")
    lengths = lengths.sort("input", "output", "cap")
    return Workload(
        name=trace.path.name,
        inputs=lengths["input"].to_numpy().astype(np.int64),
        outputs=lengths["output"].to_numpy().astype(np.int64),
        caps=lengths["cap"].to_numpy().astype(np.int64),
        weights=lengths["len"].to_numpy().astype(np.float64),
        arrivals=_arrivals(trace),
        rows=int(trace.rows - trace.bad),
        bad=int(trace.bad),
        notes=trace.notes,
    )


def _arrivals(trace: Trace) -> Arrivals | None:
    if trace.start is None:
        return None
    minute = ((pl.col("time") - trace.start) // 60).cast(pl.Int64).alias("minute")
    counts = trace.good.group_by(minute).len().collect(engine="streaming").sort("minute")
    span = trace.good.select(pl.col("time").max() - pl.col("time").min()).collect(engine="streaming").item()
    if span <= 0:
        raise PlanError(f"{trace.path}: every request has the same time: give --rate, or drop the time column")
    count = trace.rows - trace.bad
    minutes = np.zeros(int(counts["minute"][-1]) + 1)
    minutes[counts["minute"].to_numpy()] = counts["len"].to_numpy() / 60
    rate = (count - 1) / span
    whole = minutes[: max(1, int(span // 60))]  # the last minute is cut short
    return Arrivals(rate, max(rate, float(whole.max())), _variation(trace), float(span), tuple(minutes.tolist()))


def _variation(trace: Trace) -> float:
    """Coefficient of variation of the times between arrivals; a file too long to sort is taken as it stands."""
    times = trace.good.select("time")
    return _gaps(times if trace.sorted or not trace.exact else times.sort("time"))[1]
