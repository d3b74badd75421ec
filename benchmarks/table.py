"""Samples to a Markdown table: medians over the rounds, ± their spread, and the ratio to the first row."""

import statistics
from typing import Any

Samples = list[dict[str, Any]]


def markdown(samples: Samples) -> str:
    """Return a table for each workload."""
    parts = []
    for workload in dict.fromkeys(s["workload"] for s in samples):
        mine = [s for s in samples if s["workload"] == workload]
        parts.append(f"### {workload}\n\n{_table(mine)}")
    return "\n".join(parts)


def _table(samples: Samples) -> str:
    rows = list(dict.fromkeys(s["row"] for s in samples))
    first = {key: _median(samples, rows[0], key) for key in ("p50_ms", "p99_ms", "requests_per_second")}
    lines = [
        "| | p50 ms | added p50 | added p99 | requests/s | × first | CPU ms/request | messages | bytes "
        "| event gap ms | failed |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        p50, p99, rate = (_median(samples, row, key) for key in ("p50_ms", "p99_ms", "requests_per_second"))
        cells = [
            f"{p50:.2f} ± {_spread(samples, row, 'p50_ms'):.2f}",
            f"{p50 - first['p50_ms']:+.2f}",
            f"{p99 - first['p99_ms']:+.2f}",
            f"{rate:.0f} ± {_spread(samples, row, 'requests_per_second'):.0f}",
            f"{rate / first['requests_per_second']:.2f}",
            f"{_median(samples, row, 'cpu_ms'):.3f} ± {_spread(samples, row, 'cpu_ms'):.3f}",
            f"{_median(samples, row, 'messages'):.1f}",
            f"{_median(samples, row, 'bytes'):.0f}",
            _gap(samples, row),
            str(sum(s["failed"] for s in samples if s["row"] == row)),
        ]
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _gap(samples: Samples, row: str) -> str:
    """A plain answer has no events, one that is buffered on its way arrives as one."""
    if None in _values(samples, row, "gap_ms"):
        return ""
    return f"{_median(samples, row, 'gap_ms'):.2f} ± {_spread(samples, row, 'gap_ms'):.2f}"


def _values(samples: Samples, row: str, key: str) -> list[float]:
    return [s[key] for s in samples if s["row"] == row]


def _median(samples: Samples, row: str, key: str) -> float:
    return statistics.median(_values(samples, row, key))


def _spread(samples: Samples, row: str, key: str) -> float:
    """Half of what lies between the smallest and the largest of the rounds."""
    values = _values(samples, row, key)
    return (max(values) - min(values)) / 2
