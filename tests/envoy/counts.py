"""What a running service has counted."""

from tests.envoy.stack import Stack

OBSERVATIONS = "dualpool_observations_total"
AT_REST = "dualpool_exchanges_in_flight 0.0"
"""Stands on the page of metrics when no exchange is open."""


def total(page: str, metric: str, **labels: str) -> float:
    """Sum a metric on a page of metrics over the series that have `labels`."""
    found = 0.0
    for line in page.splitlines():
        if line.startswith(f"{metric}{{") and all(f'{key}="{value}"' in line for key, value in labels.items()):
            found += float(line.rpartition(" ")[2])
    return found


def requests_by_reason(stack: Stack) -> dict[str, int]:
    """Requests decided, by reason."""
    counts: dict[str, int] = {}
    for entry in stack.dualpool.state()["requests"]:
        counts[entry["reason"]] = counts.get(entry["reason"], 0) + entry["requests"]
    return counts


def observed(stack: Stack, **labels: str) -> float:
    """Usage reports seen: all of them, or those of one `verdict`."""
    return total(stack.dualpool.get("/metrics"), OBSERVATIONS, **labels)
