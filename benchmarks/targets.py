"""What a run says about the targets: `python -m benchmarks.targets benchmarks/results/DATE.json`.

Prints the table that docs/performance.md quotes. A ratio is that of two rows in one round; shown are the median
over the rounds and, in brackets, the smallest and the largest.
"""

import json
import statistics
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REFERENCE = "reference"
NO_FILTER = "no filter"
BODY = "body + response body"
BODYLESS = "bodyless + access log"
BOTH_SIZES = ("1 kB, JSON, {} connection{}", "64 kB, JSON, {} connection{}")
LOADED = tuple(name.format(64, "s") for name in BOTH_SIZES)
ALONE = tuple(name.format(1, "") for name in BOTH_SIZES)
EVENTS = ("1 kB, 500 events, 64 connections",)
PACED = ("1 kB, 20 events, 1 connection", "1 kB, 500 events, 1 connection")


@dataclass(frozen=True)
class Target:
    """`how` compares `row` with `base`: their quotient, their difference, or the row's own figure."""

    text: str
    limit: str
    key: str
    how: str
    row: str
    base: str
    workloads: tuple[str, ...]


TARGETS = (
    Target("CPU a request, in-proxy / reference", "≤ 0.067", "cpu_ms", "/", "in-proxy", REFERENCE, LOADED),
    Target("CPU a request, in-proxy, ms", "≤ 0.05", "cpu_ms", "", "in-proxy", "", LOADED),
    Target("added p50, in-proxy, ms", "≤ 0.15", "p50_ms", "-", "in-proxy", NO_FILTER, ALONE),
    Target("requests/s, in-proxy / no filter", "≥ 0.5", "requests_per_second", "/", "in-proxy", NO_FILTER, LOADED),
    Target("CPU, body + response body / reference", "≤ 0.9", "cpu_ms", "/", BODY, REFERENCE, LOADED),
    Target("CPU, bodyless + access log / reference", "≤ 0.65", "cpu_ms", "/", BODYLESS, REFERENCE, LOADED),
    Target("CPU, bodyless + access log, ms", "flat", "cpu_ms", "", BODYLESS, "", LOADED),
    Target("CPU of 500 events, bodyless / response body", "≤ 0.02", "cpu_ms", "/", BODYLESS, BODY, EVENTS),
    Target("CPU of 500 events, in-proxy / response body", "≤ 0.02", "cpu_ms", "/", "in-proxy", BODY, EVENTS),
    Target("between events, no filter, ms", "", "gap_ms", "", NO_FILTER, "", PACED),
    *(
        Target(f"between events, {row}, ms", "as no filter", "gap_ms", "", row, "", PACED)
        for row in ("body + access log", BODYLESS, "in-proxy")
    ),
)


def targets(samples: list[dict[str, Any]]) -> str:
    """Return the targets as Markdown, a column for each of the two workloads that a target names."""
    lines = ["| | target | 1 kB (20 events) | 64 kB (500 events) |", "|---|---|---|---|"]
    for target in TARGETS:
        cells = [_cell(_compared(samples, target, workload)) for workload in target.workloads]
        if target.workloads == EVENTS:
            cells.insert(0, "")
        lines.append(f"| {target.text} | {target.limit} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _compared(samples: list[dict[str, Any]], target: Target, workload: str) -> list[float]:
    """One figure for each round, none where a row took no part."""
    mine, base = (_rounds(samples, row, workload, target.key) for row in (target.row, target.base))
    if not target.how:
        return mine
    return [a - b if target.how == "-" else a / b for a, b in zip(mine, base, strict=False) if b]


def _rounds(samples: Iterable[dict[str, Any]], row: str, workload: str, key: str) -> list[float]:
    found = (s[key] for s in samples if s["row"] == row and s["workload"] == workload)
    return [value for value in found if value is not None]


def _cell(values: list[float]) -> str:
    if not values:
        return ""
    return f"{statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def main() -> None:
    """Print the table of one run."""
    whole = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    print(targets(whole["samples"]))


if __name__ == "__main__":
    main()
