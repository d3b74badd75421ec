"""Terminal tables of plans and simulations, and progress on long work."""

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


def _console() -> Console:
    console = Report()
    return console if console.is_terminal else Report(width=REDIRECTED_WIDTH)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right")
    return table


def _dollars(amount: float) -> str:
    return f"${amount / 1e6:,.2f}M" if amount >= 1e6 else f"${amount:,.0f}"


def print_plan(record: Record) -> None:
    """Print a plan for people."""
    console = _console()
    workload, instance = record["workload"], record["instance"]
    console.print(f"[bold]{record['headline']}[/]", highlight=False)
    console.print(
        f"Assuming {instance['concurrency']} concurrency. Under {record['other']['concurrency']}: "
        f"{record['other']['headline']}",
        highlight=False,
    )
    console.print(_traffic(workload), highlight=False)
    console.print(_lengths(workload), _baselines(record), _fleet("Chosen fleet", record["chosen"]), sep="\n")
    console.print(
        f"{record['chosen']['cautious']:.2%} of requests go to a larger pool than they need, for their estimate; "
        f"{record['chosen']['misrouted']:.2%} are refused by the pool they are sent to and retried; "
        f"{record['chosen']['cut']:.2%} have no cap and are cut short at its context.",
        highlight=False,
    )
    console.print(_curve(record["curve"]), _sensitivity(record["sensitivity"]), sep="\n")
    if record.get("simulation"):
        console.print(_policies(record["simulation"]))
    else:
        console.print("The fleet is estimated, not simulated: --check simulates it.", highlight=False)
    for heading, lines in (
        ("Assumed", record["assumptions"] + workload["notes"]),
        ("Sources", record["sources"]),
        ("Next", record["next"]),
        ("Mind", record["remarks"]),
        ("NOT MET", record["problems"]),
    ):
        _list(console, heading, lines)


def _list(console: Console, heading: str, lines: list[str]) -> None:
    if lines:
        console.print(f"[bold]{heading}[/]")
    for line in lines:
        console.print(f"  {line}", highlight=False, markup=False)


def _traffic(workload: Record) -> str:
    return (
        f"{workload['name']}: {_rows(workload)}; "
        f"{workload['mean_rate']:.2f}/s mean, {workload['peak_rate']:.2f}/s peak minute, "
        f"CV {'unknown' if workload['cv'] is None else format(workload['cv'], '.2f')}"
    )


def _lengths(workload: Record) -> Table:
    table = _table("Lengths", "tokens", *workload["totals"])
    for name in ("totals", "budgets"):
        table.add_row(name, *(f"{v:,}" for v in workload[name].values()))
    return table


def _rows(workload: Record) -> str:
    if not workload["rows"]:
        return "a distribution"
    return f"{workload['rows']:,} requests, {workload['bad_rows']:,} bad rows left out"


def _baselines(record: Record) -> Table:
    table = _table("Against", "baseline", "instances", "GPUs", "$/hour", "$/year", "saved by the split")
    for base in record["baselines"]:
        cells = (
            f"{base['instances']:,}",
            f"{base['gpus']:,}",
            _dollars(base["cost_per_hour"]),
            _dollars(base["cost_per_year"]),
            f"{base['saved']:.1%}",
        )
        table.add_row(base["label"] + (" (misses its objective)" if base["problems"] else ""), *cells)
    return table


def _fleet(title: str, fleet: Record) -> Table:
    columns = ("pool", "instances", "GPUs", "share", "req/s/inst", "seqs", "use", "P99 wait", "P99 TTFT")
    cost = f"{_dollars(fleet['cost_per_hour'])} an hour, {_dollars(fleet['cost_per_year'])} a year"
    table = _table(f"{title}: {fleet['label']}, {cost}", *columns)
    for pool in fleet["pools"]:
        table.add_row(
            f"max_model_len {pool['max_model_len']}",
            str(pool["instances"]),
            str(pool["gpus"]),
            f"{pool['share']:.2%}",
            f"{pool['requests_per_second_per_instance']:.2f}" + (" (measured)" if pool["measured"] else ""),
            f"{pool['sequences']:.0f}",
            f"{pool['utilisation']:.0%}",
            f"{pool['wait_p99']:.2f} s",
            f"{pool['ttft_p99']:.2f} s",
        )
    return table


def _curve(curve: list[Record]) -> Table:
    columns = ("threshold", "GPUs", "$/year", "saved", "closed form", "α", "ρ", "σ", "late", "objective")
    table = _table("Every threshold, against one pool at full context", *columns)
    for point in curve:
        table.add_row(
            ", ".join(map(str, point["thresholds"])),
            f"{point['gpus']:,}",
            _dollars(point["cost_per_year"]),
            f"{point['saved']:.1%}",
            f"{point['predicted']:.1%}",
            f"{point['alpha']:.3f}",
            f"{point['rho']:.2f}",
            f"{point['sigma']:.2f}",
            f"{point['late']:.2%}",
            "missed" if point["problems"] else "estimated",
        )
    return table


def _sensitivity(rows: list[Record]) -> Table:
    table = _table("Same threshold, one thing changed", "what", "GPUs", "saved")
    for row in rows:
        gpus = "" if row["gpus"] is None else f"{row['gpus']:,}"
        table.add_row(row["what"], gpus, f"{row['saved']:.1%}" + ("" if row["met"] else " (missed)"))
    return table


def print_simulation(record: Record) -> None:
    """Print a simulation for people."""
    console = _console()
    results = record["policies"]
    console.print(
        f"[bold]{results[0]['requests']:,} requests, {record['concurrency']} concurrency, threshold "
        f"{record['threshold']}, seed {record['seed']}[/]",
        highlight=False,
    )
    console.print(_traffic(record["workload"]), highlight=False)
    console.print(_lengths(record["workload"]), _policies(results), sep="\n")
    for result in results:
        console.print(_pools(result))
    if record["smallest"]:
        console.print(_smallest(record["smallest"]))
    _list(console, "Assumed", record["assumptions"])
    _list(console, "Mind", record["remarks"])
    _list(console, "NOT MET", record["problems"])


def _policies(results: list[Record]) -> Table:
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
    table = _table("Policies on the same arrivals", *columns)
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


def _smallest(rows: list[Record]) -> Table:
    columns = (
        "policy",
        "instances planned",
        "smallest simulated",
        "GPUs planned",
        "simulated",
        "saved by simulation",
    )
    table = _table("Smallest pools that meet the objective", *columns)
    base = rows[0]["gpus"]
    for row in rows:
        table.add_row(
            row["policy"],
            " + ".join(str(p["planned"]) for p in row["pools"]),
            " + ".join(_found(pool) for pool in row["pools"]),
            f"{row['planned_gpus']:,}",
            f"{row['gpus']:,}" if row["gpus"] else "",
            f"{1 - row['gpus'] / base:.1%}" if row["gpus"] and base else "",
        )
    return table


def _found(pool: Record) -> str:
    """Instances that simulation asks for; twice those planned are the most that are tried."""
    return f"over {2 * pool['planned']}" if pool["simulated"] is None else str(pool["simulated"])


def _pools(result: Record) -> Table:
    columns = (
        "pool",
        "instances",
        "requests",
        "TTFT s\np50/p95/p99",
        "latency s\np50/p95/p99",
        "TPOT s\np50/p99",
        "preempted\n/1000",
        "refused",
        "busy",
        "KV",
    )
    table = _table(result["policy"], *columns)
    for pool in result["pools"]:
        table.add_row(f"{pool['name']} {pool['max_model_len']}", *_measured(pool))
    if len(result["pools"]) > 1:
        table.add_row("fleet", *_measured(result["fleet"]))
    return table


def _measured(part: Record) -> list[str]:
    """The cells of a pool, or of the fleet."""
    return [
        f"{part['instances']:,}",
        f"{part['completed']:,}",
        _spread(part["ttft"], "p50", "p95", "p99"),
        _spread(part["latency"], "p50", "p95", "p99"),
        _spread(part["tpot"], "p50", "p99", digits=3),
        f"{part['preemptions_per_1000']:.1f}",
        str(part["refused"]),
        f"{part['utilisation']:.0%}",
        f"{part['kv_use']:.0%}",
    ]


def _spread(figures: Record, *names: str, digits: int = 2) -> str:
    return "/".join(f"{figures[name]:.{digits if figures[name] < 10 else 1}f}" for name in names)
