"""What a soak records, and how its last third compares with the middle one."""

import os
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from extproc.demo.requests import MODEL
from tests.soak.load import Interval

FLAT = 1.03
"""Memory of the last third over that of the middle third, at most."""


class Sample(msgspec.Struct, frozen=True):
    """The service at `second` of the run: resident memory (MiB), open descriptors, threads.

    Of the requests that ended since the sample before: counts, latency (milliseconds). Of what was learned for the
    model: the sum of its weights (tokens) and its usual error.
    """

    second: float
    memory: float
    descriptors: int
    threads: int
    requests: int
    failed: int
    left: int
    retried: int
    short: int
    long: int
    median: float
    p99: float
    weights: float
    error: float


def sample(second: float, pid: int, state: dict[str, Any], interval: Interval) -> Sample:
    """Take a sample of process `pid`. `state`: its /state."""
    process = Path(f"/proc/{pid}")
    status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines() if ":" in line)
    milliseconds = sorted(1e3 * each for each in interval.seconds) or [0.0]
    weights, error = _learned(state)
    return Sample(
        second=round(second, 1),
        memory=round(int(status["VmRSS"].split()[0]) / 1024, 2),
        descriptors=len(os.listdir(process / "fd")),  # noqa: PTH208 - only counted
        threads=int(status["Threads"]),
        requests=len(interval.seconds),
        failed=interval.failed,
        left=interval.left,
        retried=interval.retried,
        short=interval.pools.get("short", 0),
        long=interval.pools.get("long", 0),
        median=round(statistics.median(milliseconds), 2),
        p99=round(milliseconds[int(0.99 * len(milliseconds))], 2),
        weights=round(weights, 4),
        error=round(error, 4),
    )


def _learned(state: dict[str, Any]) -> tuple[float, float]:
    found = [(sum(m["weights"].values()), m["error"]) for m in state["learned"]["linear"] if m["model"] == MODEL]
    return found[0] if found else (0.0, 0.0)


def thirds(samples: Sequence[Sample]) -> tuple[Sequence[Sample], Sequence[Sample]]:
    """Return the middle and the last third."""
    third = len(samples) // 3
    return samples[third : 2 * third], samples[2 * third :]


def compared(samples: Sequence[Sample]) -> list[tuple[str, float, float]]:
    """Return the mean of each figure in the middle and in the last third, by name."""
    names = (
        "memory",
        "descriptors",
        "threads",
        "requests",
        "retried",
        "short",
        "long",
        "median",
        "p99",
        "weights",
        "error",
    )
    middle, last = thirds(samples)
    return [(name, _mean(middle, name), _mean(last, name)) for name in names]


def _mean(samples: Sequence[Sample], name: str) -> float:
    return statistics.fmean(getattr(s, name) for s in samples)


def verdict(samples: Sequence[Sample]) -> list[str]:
    """Return what is wrong; nothing when memory was flat and no request failed."""
    problems = []
    middle, last = (_mean(part, "memory") for part in thirds(samples))
    if last > FLAT * middle:
        problems.append(f"memory grew: {middle:.1f} MiB in the middle third, {last:.1f} MiB in the last")
    failed = sum(s.failed for s in samples)
    if failed:
        problems.append(f"{failed} requests failed")
    return problems
