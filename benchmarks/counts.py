"""What is counted, not measured: answers learned from by the access log, and requests while the service is down."""

import tempfile
import time
from pathlib import Path

from benchmarks.load import Workload, run
from benchmarks.rows import FLUSH_SECONDS, MODES, Row, running

WORKLOADS = {
    Workload("1 kB, JSON", 1_000, 0, 64, 3200): "short",
    Workload("1 kB, 20 events", 1_000, 20, 64, 640): "short",
    Workload("64 kB, JSON", 64_000, 0, 64, 960): "long",
}
"""And the pool that each belongs to."""

LEARNED = ("used", "outlier")


def measure() -> dict[str, dict[str, int]]:
    """Return counts by what was done: with each mode that has the access log, and in-proxy without the service."""
    names = [name for name, (_, usage) in MODES.items() if usage == "access-log"]
    with tempfile.TemporaryDirectory() as directory, running(names, Path(directory)) as rows:
        found = {f"{row.name}, service up": with_service(row) for row in rows}
        in_proxy = next(row for row in rows if row.name == "in-proxy")
        return {**found, "in-proxy, service down": without_service(in_proxy)}


def with_service(row: Row) -> dict[str, int]:
    """Count the requests that were completed, and the answers that were learned from."""
    completed = sum(workload.requests - run(row.envoy, workload).failed for workload in WORKLOADS)
    time.sleep(FLUSH_SECONDS)
    return {"completed": completed, "learned": learned(row)}


def learned(row: Row) -> int:
    """Answers that the service of `row` has learned from."""
    assert row.service is not None
    return int(sum(row.service.count("dualpool_observations_total", verdict=verdict) for verdict in LEARNED))


def without_service(row: Row) -> dict[str, int]:
    """Kill the service of `row`; count the requests sent, lost and sent to another pool than their own."""
    assert row.process is not None
    row.process.popen.kill()
    row.process.popen.wait()
    counts = {"sent": 0, "lost": 0, "misdirected": 0}
    for workload, pool in WORKLOADS.items():
        arrived = f"cluster.{pool}.upstream_rq_total"
        before = row.envoy.stats(arrived)[arrived]
        counts["sent"] += workload.requests
        counts["lost"] += run(row.envoy, workload).failed
        counts["misdirected"] += workload.requests - (row.envoy.stats(arrived)[arrived] - before)
    return counts


def text(found: dict[str, dict[str, int]]) -> str:
    """A line for each thing done."""
    return "\n".join(
        f"{name}: {', '.join(f'{number:,} {what}' for what, number in counts.items())}"
        for name, counts in found.items()
    )


def main() -> dict[str, dict[str, int]]:
    """Count, print, and return what was counted."""
    found = measure()
    print(text(found))
    return found


if __name__ == "__main__":
    main()
