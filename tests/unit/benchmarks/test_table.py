"""What `make bench` prints of its samples."""

from typing import Any

from benchmarks.table import markdown


def sample(row: str, milliseconds: float, gap: float | None = None) -> dict[str, Any]:
    return {
        "row": row,
        "workload": "w",
        "p50_ms": milliseconds,
        "p99_ms": 10 * milliseconds,
        "gap_ms": gap,
        "requests_per_second": 1000 / milliseconds,
        "cpu_ms": milliseconds / 10,
        "messages": 2.0,
        "bytes": 900.0,
        "failed": 1,
    }


def test_columns() -> None:
    """Medians over the rounds with half of what lies between the extremes, and ratios to the first row."""
    rounds = [("no filter", 1.0, 2.0), ("in-proxy", 2.0, 2.2), ("no filter", 1.5, 2.2), ("in-proxy", 2.5, 2.2)]
    title, _, head, _, first, second = markdown([sample(*one) for one in rounds]).splitlines()
    cells = [cell.strip() for cell in second.split("|")[2:-1]]
    assert (title, first.split("|")[1].strip()) == ("### w", "no filter")
    assert dict(zip((name.strip() for name in head.split("|")[2:-1]), cells, strict=True)) == {
        "p50 ms": "2.25 ± 0.25",
        "added p50": "+1.00",
        "added p99": "+10.00",
        "requests/s": "450 ± 50",
        "× first": "0.54",
        "CPU ms/request": "0.225 ± 0.025",
        "messages": "2.0",
        "bytes": "900",
        "event gap ms": "2.20 ± 0.00",
        "failed": "2",
    }


def test_no_events() -> None:
    """Where no events came one by one, there is nothing between them."""
    assert markdown([sample("no filter", 1.0)]).splitlines()[-1].split("|")[-3].strip() == ""
