"""The memory of the service over 50,000 requests, with four messages each: body + response body, the default.

`make soak` does the same with all kinds of requests and for longer.
"""

import resource
import tempfile
from pathlib import Path

from benchmarks.load import Workload, run
from benchmarks.rows import running

ROW = "body + response body"
WORKLOAD = Workload("1 kB, JSON, 32 connections", 1_000, 0, 32, 10_000)
TIMES = 5


def measure() -> dict[int, float]:
    """MB that the service holds, by the number of requests it has had."""
    with tempfile.TemporaryDirectory() as directory, running([ROW], Path(directory)) as [row]:
        assert row.process is not None
        figures = {0: held(row.process.pid)}
        for number in range(1, TIMES + 1):
            failed = run(row.envoy, WORKLOAD).failed
            assert not failed, f"{failed} requests failed"
            figures[number * WORKLOAD.requests] = held(row.process.pid)
        return figures


def held(pid: int) -> float:
    """MB of memory that a process holds (resident set)."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def text(figures: dict[int, float]) -> str:
    """A line for each figure."""
    return "\n".join(f"memory after {requests:6,} requests: {mb:5.1f} MB" for requests, mb in figures.items())


def main() -> dict[int, float]:
    """Measure, print, and return what was measured."""
    figures = measure()
    print(text(figures))
    return figures


if __name__ == "__main__":
    main()
