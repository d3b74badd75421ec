"""`make bench`: the pure decision, memory, counts, then all ways to exchange against no filter and the reference.

The rows run in turn on one machine with one upstream, so that what else the machine does meets all of them; several
times over, each time started anew. Medians over these rounds, and their spread, are printed. Ratios count, not the
figures themselves.
"""

import argparse
import datetime
import json
import os
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import counts, decision, memory
from benchmarks.load import Workload, run
from benchmarks.rows import FLUSH_SECONDS, ROWS, Row, cpu_seconds, running
from benchmarks.table import markdown
from benchmarks.targets import targets

RESULTS = Path(__file__).parent / "results"

WORKLOADS = (
    Workload("1 kB, JSON, 1 connection", 1_000, 0, 1, 600),
    Workload("1 kB, JSON, 32 connections", 1_000, 0, 32, 1600),
    Workload("1 kB, JSON, 64 connections", 1_000, 0, 64, 3200),
    Workload("64 kB, JSON, 1 connection", 64_000, 0, 1, 240),
    Workload("64 kB, JSON, 64 connections", 64_000, 0, 64, 960),
    Workload("1 kB, 20 events, 1 connection", 1_000, 20, 1, 30),
    Workload("1 kB, 20 events, 64 connections", 1_000, 20, 64, 640),
    Workload("1 kB, 500 events, 1 connection", 1_000, 500, 1, 1),
    Workload("1 kB, 500 events, 64 connections", 1_000, 500, 64, 192),
)

IDLE_SECONDS = 4.0

SENT = "http.llm.ext_proc.stream_msgs_sent"
BYTES = "cluster.dualpool.upstream_cx_tx_bytes_total"


def idle_cpu(rows: list[Row]) -> dict[str, float]:
    """CPU seconds a second that each row's service uses without requests."""
    before = [cpu_seconds(row) for row in rows]
    time.sleep(IDLE_SECONDS)
    return {row.name: (cpu_seconds(row) - cpu) / IDLE_SECONDS for row, cpu in zip(rows, before, strict=True)}


def measure(row: Row, workload: Workload, idle: float = 0.0) -> dict[str, Any]:
    """Run one workload on one row and return what was seen. `idle`: CPU seconds a second without requests."""
    before, cpu = row.envoy.stats("ext_proc|upstream_cx_tx_bytes_total"), cpu_seconds(row)
    started = time.perf_counter()
    timing = run(row.envoy, workload)
    time.sleep(FLUSH_SECONDS if row.process else 0)
    # What it does without a request (health checks, scrapes of its own figures) is not theirs.
    cpu = max(0.0, cpu_seconds(row) - cpu - idle * (time.perf_counter() - started))
    after = row.envoy.stats("ext_proc|upstream_cx_tx_bytes_total")
    latencies = sorted(timing.latencies)
    return {
        "row": row.name,
        "workload": workload.name,
        "p50_ms": round(1e3 * latencies[len(latencies) // 2], 4),
        "p99_ms": round(1e3 * latencies[int(len(latencies) * 0.99)], 4),
        "gap_ms": round(1e3 * sorted(timing.gaps)[len(timing.gaps) // 2], 4) if timing.gaps else None,
        "requests_per_second": len(latencies) / timing.seconds,
        "cpu_ms": 1e3 * cpu / workload.requests,
        "messages": (after.get(SENT, 0) - before.get(SENT, 0)) / workload.requests,
        "bytes": (after.get(BYTES, 0) - before.get(BYTES, 0)) / workload.requests,
        "failed": timing.failed,
    }


def measure_all(names: list[str]) -> list[dict[str, Any]]:
    """Run every workload on every row, all newly started: two runs of one Envoy are more alike than two Envoys."""
    with tempfile.TemporaryDirectory() as directory, running(names, Path(directory)) as rows:
        for row in rows:  # unmeasured: connections are made, code is warm, figures are learned
            measure(row, WORKLOADS[0])
        idle = idle_cpu(rows)
        return [measure(row, workload, idle[row.name]) for workload in WORKLOADS for row in rows]


def main() -> None:
    """Measure, print and write a dated JSON and Markdown file."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="times that every row takes its turn")
    parser.add_argument("--rows", nargs="*", default=list(ROWS), choices=ROWS, metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--output", type=Path, default=RESULTS, metavar="DIR", help="where results are written")
    args = parser.parse_args()
    decisions = decision.main()
    held = memory.main()
    counted = counts.main()
    samples: list[dict[str, Any]] = []
    for number in range(args.rounds):
        samples += measure_all(args.rows)
        print(f"round {number + 1} of {args.rounds}", flush=True)
    now = datetime.datetime.now(datetime.UTC)
    machine = f"{os.cpu_count()} CPUs, {platform.machine()}, Python {platform.python_version()}"
    whole = {
        "time": now.isoformat(),
        "machine": machine,
        "decision_us": decisions,
        "memory_mb": held,
        "counts": counted,
        "samples": samples,
    }
    alone = "\n".join((decision.text(decisions), memory.text(held), counts.text(counted)))
    title = f"{now:%Y-%m-%d}, {machine}, {args.rounds} rounds"
    text = "\n\n".join((title, targets(samples), f"```\n{alone}\n```", markdown(samples)))
    print(text)
    args.output.mkdir(exist_ok=True)
    stem = args.output / f"{now:%Y-%m-%d}"
    stem.with_suffix(".json").write_text(json.dumps(whole), "utf-8")
    stem.with_suffix(".md").write_text(text, "utf-8")


if __name__ == "__main__":
    main()
