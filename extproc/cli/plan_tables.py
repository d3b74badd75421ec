"""The terminal report of a plan."""

from rich.table import Table

from extproc.cli.tables import dollars, lengths, new_console, new_table, policies, print_list, traffic
from extproc.planning.record import Record


def print_plan(record: Record) -> None:
    """Print a plan for people."""
    console = new_console()
    workload, instance = record["workload"], record["instance"]
    console.print(f"[bold]{record['headline']}[/]", highlight=False)
    console.print(
        f"Assuming {instance['concurrency']} concurrency. Under {record['other']['concurrency']}: "
        f"{record['other']['headline']}",
        highlight=False,
    )
    console.print(traffic(workload), highlight=False, markup=False)
    console.print(lengths(workload), _baselines(record), _fleet("Chosen fleet", record["chosen"]), sep="\n")
    console.print(
        f"{record['chosen']['cautious']:.2%} of requests go to a larger pool than they need, for their estimate; "
        f"{record['chosen']['misrouted']:.2%} are refused by the pool they are sent to and retried; "
        f"{record['chosen']['cut']:.2%} have no cap and are cut short at its context.",
        highlight=False,
    )
    console.print(_curve(record["curve"]), _sensitivity(record["sensitivity"]), sep="\n")
    if record.get("simulation"):
        console.print(policies(record["simulation"]))
    else:
        console.print("The fleet is estimated, not simulated: --check simulates it.", highlight=False)
    for heading, lines in (
        ("Assumed", record["assumptions"] + workload["notes"]),
        ("Sources", record["sources"]),
        ("Next", record["next"]),
        ("Mind", record["remarks"]),
        ("NOT MET", record["problems"]),
    ):
        print_list(console, heading, lines)


def _baselines(record: Record) -> Table:
    table = new_table("Against", "baseline", "instances", "GPUs", "$/hour", "$/year", "saved by the split")
    for base in record["baselines"]:
        cells = (
            f"{base['instances']:,}",
            f"{base['gpus']:,}",
            dollars(base["cost_per_hour"]),
            dollars(base["cost_per_year"]),
            f"{base['saved']:.1%}",
        )
        table.add_row(base["label"] + (" (misses its objective)" if base["problems"] else ""), *cells)
    return table


def _fleet(title: str, fleet: Record) -> Table:
    columns = ("pool", "instances", "GPUs", "share", "req/s/inst", "seqs", "use", "P99 wait", "P99 TTFT")
    cost = f"{dollars(fleet['cost_per_hour'])} an hour, {dollars(fleet['cost_per_year'])} a year"
    table = new_table(f"{title}: {fleet['label']}, {cost}", *columns)
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
    table = new_table("Every threshold, against one pool at full context", *columns)
    for point in curve:
        table.add_row(
            ", ".join(map(str, point["thresholds"])),
            f"{point['gpus']:,}",
            dollars(point["cost_per_year"]),
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
    table = new_table("Same threshold, one thing changed", "what", "GPUs", "saved")
    for row in rows:
        gpus = "" if row["gpus"] is None else f"{row['gpus']:,}"
        table.add_row(row["what"], gpus, f"{row['saved']:.1%}" + ("" if row["met"] else " (missed)"))
    return table
