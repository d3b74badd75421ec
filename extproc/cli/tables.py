"""What the reports of `plan` and `simulate` have in common on a terminal, and progress on long work."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from extproc.cli.console import Report
from extproc.planning.record import Record

REDIRECTED_WIDTH = 120
"""Columns when standard output is not a terminal and has no width of its own."""


@contextmanager
def progress(label: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """A progress bar on standard error, for as long as the work takes; silent when that is not a terminal."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(label, total=total)
        yield lambda done: bar.update(task, completed=done)


def new_console() -> Console:
    """Standard output, wide enough for the tables where it is not a terminal."""
    console = Report()
    return console if console.is_terminal else Report(width=REDIRECTED_WIDTH)


def new_table(title: str, *columns: str) -> Table:
    """An empty table whose first column is of text, the others of numbers."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right")
    return table


def dollars(amount: float) -> str:
    """An amount in dollars, in millions from there on."""
    return f"${amount / 1e6:,.2f}M" if amount >= 1e6 else f"${amount:,.0f}"


def print_list(console: Console, heading: str, lines: list[str]) -> None:
    """Print `lines` below `heading`; nothing when there are none."""
    if lines:
        console.print(f"[bold]{heading}[/]")
    for line in lines:
        console.print(f"  {line}", highlight=False, markup=False)


def traffic(workload: Record) -> str:
    """Say in a line how much traffic there is, and how it arrives."""
    return (
        f"{workload['name']}: {_rows(workload)}; "
        f"{workload['mean_rate']:.2f}/s mean, {workload['peak_rate']:.2f}/s peak minute, "
        f"CV {'unknown' if workload['cv'] is None else format(workload['cv'], '.2f')}"
    )


def lengths(workload: Record) -> Table:
    """Quantiles of the tokens requests used, and of those they asked for."""
    table = new_table("Lengths", "tokens", *workload["totals"])
    for name in ("totals", "budgets"):
        table.add_row(name, *(f"{v:,}" for v in workload[name].values()))
    return table


def _rows(workload: Record) -> str:
    if not workload["rows"]:
        return "a distribution"
    return f"{workload['rows']:,} requests, {workload['bad_rows']:,} bad rows left out"


def policies(results: list[Record]) -> Table:
    """A row for each simulated policy."""
    columns = (
        "policy",
        "GPUs",
        "GPU-hours",
        "P50 TTFT",
        "P99 TTFT",
        "late",
        "preempted/1000",
        "retried",
        "rejected",
        "spilled",
    )
    table = new_table("Policies on the same arrivals", *columns)
    for result in results:
        fleet = result["fleet"]
        table.add_row(
            result["policy"],
            f"{result['gpus']:,}",
            f"{result['gpu_hours']:,.1f}",
            f"{fleet['ttft']['p50']:.3f} s",
            f"{fleet['ttft']['p99']:.3f} s",
            f"{fleet['late']:.2%}",
            f"{fleet['preemptions_per_1000']:.2f}",
            str(result["retried"]),
            str(result["rejected"]),
            str(result["spilled"]),
        )
    return table
