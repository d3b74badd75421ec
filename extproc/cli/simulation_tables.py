"""The terminal report of a simulation."""

from rich.table import Table

from extproc.cli.tables import lengths, new_console, new_table, policies, print_list, traffic
from extproc.planning.record import Record


def print_simulation(record: Record) -> None:
    """Print a simulation for people."""
    console = new_console()
    results = record["policies"]
    console.print(
        f"[bold]{results[0]['requests']:,} requests, {record['concurrency']} concurrency, threshold "
        f"{record['threshold']}, seed {record['seed']}[/]",
        highlight=False,
    )
    console.print(traffic(record["workload"]), highlight=False, markup=False)
    console.print(lengths(record["workload"]), policies(results), sep="\n")
    for result in results:
        console.print(_pools(result))
    if record["smallest"]:
        console.print(_smallest(record["smallest"]))
    print_list(console, "Assumed", record["assumptions"])
    print_list(console, "Mind", record["remarks"])
    print_list(console, "NOT MET", record["problems"])


def _smallest(rows: list[Record]) -> Table:
    columns = (
        "policy",
        "instances planned",
        "smallest simulated",
        "GPUs planned",
        "simulated",
        "saved by simulation",
    )
    table = new_table("Smallest pools that meet the objective", *columns)
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
    table = new_table(result["policy"], *columns)
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
