"""What the terminal output of plans and simulations shares: tables, the workload, policies, progress."""

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
    """Show a progress bar on standard error while the work takes; nothing where that is not a terminal."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(label, total=total)
        yield lambda done: bar.update(task, completed=done)


def new_console() -> Console:
    """Return a console for standard output."""
    console = Report()
    return console if console.is_terminal else Report(width=REDIRECTED_WIDTH)


def new_table(title: str, *columns: str) -> Table:
    """Return a table without rows: the first column to the left, the others, numbers, to the right."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right")
    return table


def dollars(amount: float) -> str:
    """Return an amount of US dollars for people."""
    return f"${amount / 1e6:,.2f}M" if amount >= 1e6 else f"${amount:,.0f}"


def print_list(console: Console, heading: str, lines: list[str]) -> None:
    """Print `lines` under `heading`, and nothing when there are none."""
    if lines:
        console.print(f"[bold]{heading}[/]")
    for line in lines:
        console.print(f"  {line}", highlight=False, markup=False)


def traffic(workload: Record) -> str:
    """Return a line about the workload."""
    return (
        f"{workload['name']}: {_rows(workload)}; "
        f"{workload['mean_rate']:.2f}/s mean, {workload['peak_rate']:.2f}/s peak minute, "
        f"CV {'unknown' if workload['cv'] is None else format(workload['cv'], '.2f')}"
    )


def _rows(workload: Record) -> str:
    if not workload["rows"]:
        return "a distribution"
    return f"{workload['rows']:,} requests, {workload['bad_rows']:,} bad rows left out"


def lengths(workload: Record) -> Table:
    """Return the distribution of total tokens and of budgets."""
    table = new_table("Lengths", "tokens", *workload["totals"])
    for name in ("totals", "budgets"):
        table.add_row(name, *(f"{v:,}" for v in workload[name].values()))
    return table


def policies(results: list[Record]) -> Table:
    """Return the results of simulated policies, a row each."""
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
            f"{fleet.get('late', 0):.2%}",
            f"{fleet['preemptions_per_1000']:.2f}",
            str(result["retried"]),
            str(result["rejected"]),
            str(result["spilled"]),
        )
    return table
