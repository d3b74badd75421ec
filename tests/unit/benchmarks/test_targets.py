"""What a run of the benchmark says about its targets."""

from typing import Any

from benchmarks.targets import targets


def sample(row: str, cpu_ms: float, workload: str = "1 kB, JSON, 64 connections") -> dict[str, Any]:
    return {"row": row, "workload": workload, "cpu_ms": cpu_ms, "requests_per_second": 1.0, "gap_ms": None}


def test_a_ratio_is_taken_within_a_round() -> None:
    """Two rounds, the second on a machine half as fast: the ratio is the same, and so is its spread."""
    rounds = [("reference", 1.0), ("in-proxy", 0.1), ("reference", 2.0), ("in-proxy", 0.2)]
    lines = targets([sample(row, cpu) for row, cpu in rounds]).splitlines()
    assert "| CPU a request, in-proxy / reference | ≤ 0.067 | 0.100 (0.100 to 0.100) |  |" in lines
    assert "| CPU a request, in-proxy, ms | ≤ 0.05 | 0.150 (0.100 to 0.200) |  |" in lines


def test_what_was_not_measured_is_left_empty() -> None:
    """A run of some rows says nothing of the others."""
    assert "| added p50, in-proxy, ms | ≤ 0.15 |  |  |" in targets([]).splitlines()
