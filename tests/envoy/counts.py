"""What a running service has counted."""

import re

from tests.envoy.stack import Stack


def requests_by_reason(stack: Stack) -> dict[str, int]:
    """Requests decided, by reason."""
    counts: dict[str, int] = {}
    for entry in stack.dualpool.state()["requests"]:
        counts[entry["reason"]] = counts.get(entry["reason"], 0) + entry["requests"]
    return counts


def observed(stack: Stack, verdict: str = r"\w+") -> int:
    """Usage reports seen, of one verdict or of all."""
    pattern = rf'^dualpool_observations_total\{{verdict="{verdict}"\}} ([0-9.]+)'
    return sum(int(float(count)) for count in re.findall(pattern, stack.dualpool.get("/metrics"), re.M))
