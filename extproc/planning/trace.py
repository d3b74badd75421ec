"""Traces: a table of requests becomes a workload, in one pass, and can be replayed in order."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from extproc.planning import tables
from extproc.planning.errors import PlanError
from extproc.planning.files import unreadable
from extproc.planning.summary import CHUNK, STEP, USABLE, Summary, summarise
from extproc.planning.workload import NO_CAP, Arrivals, Ints, Workload

SORTED_ROWS = 2_000_000
"""Up to this many rows are sorted in memory; a longer file must be in time order to be replayed."""

LONGEST_SPAN = 366 * 86_400.0
"""Seconds. Arrivals are counted by minute from the first time to the last: one that is wrong, 0 among others of
today, would make millions of them."""

Batch = tuple[npt.NDArray[np.float64], Ints, Ints, Ints, Ints]
"""Times (s from the first), inputs, outputs, caps (tokens), bytes of prompt text (0 where unknown)."""


@dataclass(frozen=True)
class Trace:
    """A file of requests. `frame` has the columns of `tables.scan`; `summary`: what it says, in time order where it
    could be sorted.
    """

    path: Path
    frame: pl.LazyFrame
    summary: Summary
    notes: tuple[str, ...]

    @property
    def untimed(self) -> str:
        """Why its times are of no use, empty where they are."""
        summary = self.summary
        if summary.timed == 0:
            return "no row has a readable time"
        if not summary.whole:
            count = summary.usable - summary.timed
            return f"{count} of {summary.usable} rows have no readable time, the first is row {summary.untimed}"
        return "every request has the same time" if summary.first == summary.last else ""

    def batches(self) -> Iterator[Batch]:
        """Yield the requests in time order, some at a time. Raises `PlanError` where times are missing or all the
        same, or too many are out of order."""
        if self.untimed:
            raise PlanError(f"{self.path}: cannot be replayed: {self.untimed}: leave --replay out and give --rate")
        if not self.summary.ordered:
            raise PlanError(f"{self.path}: {self.summary.rows} rows are not in time order: sort the file first")
        for part in self.frame.filter(USABLE).collect_batches(chunk_size=CHUNK, maintain_order=True):
            yield (
                part["time"].to_numpy() - self.summary.first,
                part["input"].to_numpy(),
                part["output"].to_numpy(),
                part["cap"].fill_null(NO_CAP).to_numpy(),
                part["bytes"].fill_null(0).to_numpy(),
            )


def open_trace(
    path: Path,
    columns: Mapping[str, str] | None = None,
    bytes_per_token: float = tables.DEFAULT_BYTES_PER_TOKEN,
) -> Trace:
    """Read a file of requests once, and again for rows without a time to be left out or for others to be sorted.

    Raises `PlanError` for an unreadable file, a missing column, fewer than two usable rows, a negative count
    (naming its row), or times that reach over `LONGEST_SPAN`.
    """
    frame, summary, notes = _read(path, columns or {}, bytes_per_token)
    if summary.usable < 2:
        raise PlanError(f"{path}: {summary.usable} usable rows of {summary.rows}: at least two requests are needed")
    trace = _in_order(_timed(Trace(path, frame, summary, notes)))
    summary = trace.summary
    if summary.whole and summary.last - summary.first > LONGEST_SPAN:
        years = (summary.last - summary.first) / LONGEST_SPAN
        raise PlanError(f"{path}: its times reach over {years:.3g} years, more than one: which of them is wrong?")
    if summary.timed and trace.untimed:
        trace = _noted(trace, f"{trace.untimed}: times are not used")
    if summary.rounded:
        trace = _noted(trace, f"lengths are rounded up to {STEP} tokens, there are so many")
    return trace


def _timed(trace: Trace) -> Trace:
    """Where most requests have a time, those without are bad rows."""
    summary = trace.summary
    if summary.whole or summary.timed <= summary.usable / 2:
        return trace
    return _again(_noted(trace, f"{trace.untimed}: left out"), trace.frame.filter(pl.col("time").is_not_null()))


def _in_order(trace: Trace) -> Trace:
    summary = trace.summary
    if not summary.whole or summary.ordered:
        return trace
    if summary.usable > SORTED_ROWS:
        return _noted(trace, "timestamps are not in order, and too many to sort")
    sorted_ = trace.frame.filter(USABLE).sort("time", maintain_order=True)
    return _again(_noted(trace, "timestamps were not in order: sorted"), sorted_)


def _noted(trace: Trace, note: str) -> Trace:
    return replace(trace, notes=(*trace.notes, f"{trace.path.name}: {note}"))


def _again(trace: Trace, frame: pl.LazyFrame) -> Trace:
    """Summarise `frame`, what of the trace's is to be kept; the other rows are bad."""
    summary = summarise(trace.path, frame)
    summary.rows, summary.bad = trace.summary.rows, trace.summary.rows - summary.usable
    return replace(trace, frame=frame, summary=summary)


def _read(
    path: Path, columns: Mapping[str, str], bytes_per_token: float
) -> tuple[pl.LazyFrame, Summary, tuple[str, ...]]:
    """Read fast, and once more line by line when a line is broken."""

    def read(*, tolerant: bool) -> tuple[pl.LazyFrame, Summary, tuple[str, ...]]:
        frame, notes = tables.scan(path, columns, bytes_per_token, tolerant)
        return frame, summarise(path, frame), notes

    try:
        return read(tolerant=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        with suppress(pl.exceptions.PolarsError, OSError):
            return read(tolerant=True)
        raise unreadable(path, error) from None


def workload(trace: Trace) -> Workload:
    """Summarise a trace: distinct lengths with their counts, and arrivals where it has times."""
    lengths = trace.summary.lengths
    return Workload(
        name=trace.path.name,
        inputs=lengths["input"].to_numpy(),
        outputs=lengths["output"].to_numpy(),
        caps=lengths["cap"].to_numpy(),
        weights=lengths["len"].to_numpy().astype(np.float64),
        arrivals=recorded(trace.summary),
        rows=trace.summary.usable,
        bad=trace.summary.bad,
        notes=trace.notes,
        untimed=trace.untimed,
    )


def recorded(summary: Summary) -> Arrivals | None:
    """The arrivals of a trace; None where not every row has a time, or all have the same."""
    span = summary.last - summary.first
    if not summary.whole or span <= 0:
        return None
    rate = (summary.timed - 1) / span
    minutes = summary.by_minute  # the last is cut short: its rate can only be too low
    return Arrivals(rate, max(rate, *minutes), summary.variation, float(span), tuple(minutes))
