"""Workloads known only as a distribution of totals: a CDF file, or the budget histogram of a running Dualpool."""

import http.client
import re
import urllib.request
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from extproc.planning.errors import PlanError
from extproc.planning.json_file import read_json
from extproc.planning.workload import MOST_TOKENS, NO_CAP, Workload

DEFAULT_OUTPUT_SHARE = 0.5
POINTS_A_SEGMENT = 32
"""Lengths that stand for one segment of the CDF, evenly spread: the CDF is read as piecewise linear."""

LOOPBACK = ("127.0.0.1", "::1", "localhost")

BUDGET_METRIC = "dualpool_budget_tokens"
UNANSWERED = "unknown_path|not_post|no_body|not_json|wrong_type|no_prompt"
"""Reasons for which no model answers a request. All others have a budget, or may not be left out without a word."""

_ANSWERED = re.compile(
    rf'^dualpool_requests_total{{(?![^}}]*\breason="(?:{UNANSWERED})")[^}}]*}} (\S+)', re.MULTILINE
)
_BUCKET = re.compile(rf'^{BUDGET_METRIC}_bucket{{[^}}]*\ble="(?P<le>[^"]+)"[^}}]*}} (?P<count>\S+)', re.MULTILINE)


def read_cdf(path: Path, output_share: float = DEFAULT_OUTPUT_SHARE) -> Workload:
    """Read `[[tokens, fraction], …]`, fractions rising to 1.

    Totals alone say nothing of input and output: every request's output is `output_share` of its total, which the
    notes name. Raises `PlanError` for anything that is not a CDF.
    """
    points = read_json(path)
    return from_points(path.name, str(path), points, output_share)


def from_points(name: str, source: str, points: Any, output_share: float) -> Workload:
    """Build a workload from CDF points, as `read_cdf` does; `source` names them in errors. Raises `PlanError`."""
    if not 0 <= output_share < 1:
        raise PlanError(f"--output-share: {output_share:g}: must be at least 0 and below 1")
    tokens, fractions = _checked(source, points)
    lows, highs = np.concatenate([[0.0], tokens[:-1]]), tokens
    mass = np.diff(np.concatenate([[0.0], fractions]))
    steps = (np.arange(POINTS_A_SEGMENT) + 1) / POINTS_A_SEGMENT
    totals = np.ceil(lows[:, None] + (highs - lows)[:, None] * steps).astype(np.int64).ravel()
    weights = np.repeat(mass / POINTS_A_SEGMENT, POINTS_A_SEGMENT)
    keep = (weights > 0) & (totals > 0)
    totals, weights = totals[keep], weights[keep]
    outputs = np.minimum(np.rint(totals * output_share).astype(np.int64), totals - 1)
    return Workload(
        name=name,
        inputs=totals - outputs,
        outputs=outputs,
        caps=np.full_like(outputs, NO_CAP),
        weights=weights,
        notes=(f"only totals are known: output assumed to be {output_share:.0%} of each total",),
    )


def _checked(source: str, points: Any) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    if not isinstance(points, list) or len(points) < 2:
        raise PlanError(f"{source}: must be a list of at least two [tokens, fraction] pairs")
    last_tokens, last_fraction = 0.0, 0.0
    for row, point in enumerate(points, 1):
        if not (isinstance(point, list) and len(point) == 2 and all(type(v) in (int, float) for v in point)):
            raise PlanError(f"{source}: row {row}: {repr(point)[:60]}: must be [tokens, fraction]")
        tokens, fraction = point
        if row == 1 and tokens == 0 == fraction:  # where many a CDF begins
            continue
        if not last_tokens < tokens <= MOST_TOKENS:
            rule = f"must be above {last_tokens:g} and at most {MOST_TOKENS}"
            raise PlanError(f"{source}: row {row}: tokens {_printed(tokens)}: {rule}")
        if not last_fraction <= fraction <= 1:
            rule = f"must rise from {last_fraction:g} to 1"
            raise PlanError(f"{source}: row {row}: fraction {_printed(fraction)}: {rule}")
        last_tokens, last_fraction = tokens, fraction
    if last_fraction < 1 - 1e-9:
        raise PlanError(f"{source}: row {len(points)}: fraction {last_fraction:g}: the last must be 1")
    table = np.array(points, np.float64)
    table = table[table[:, 0] > 0]
    return table[:, 0], table[:, 1]


def _printed(number: float) -> str:
    """A number of a file for an error: an integer may be too long to be a float, and too long to read."""
    return f"{number:g}" if isinstance(number, float) else str(number)[:60]


def read_metrics(source: str, output_share: float = DEFAULT_OUTPUT_SHARE) -> Workload:
    """Read the budget histogram of a running Dualpool from its metrics: an http(s) address, or a saved page.

    Budgets count the output cap, so the workload's caps are its outputs. Raises `PlanError` when there is none.
    """
    buckets: dict[float, float] = {}
    text = _page(source)
    for match in _BUCKET.finditer(text):
        bound = _number(source, "le", match["le"])
        buckets[bound] = buckets.get(bound, 0.0) + _count(source, match["count"])
    bounds = sorted(b for b in buckets if np.isfinite(b))
    total = buckets.get(float("inf"), 0.0)
    if not bounds or total <= 0:
        raise PlanError(f"{source}: no {BUDGET_METRIC} histogram with requests in it")
    points = [[b, buckets[b] / total] for b in bounds]
    beyond = total - buckets[bounds[-1]]
    if beyond > 0:
        points.append([2 * bounds[-1], 1.0])
    workload = from_points(source, source, points, output_share)
    note = f"budgets (caps included) of {total:.0f} requests, not realised lengths"
    if beyond > 0:
        note += f"; {beyond / total:.2%} are beyond the last bucket and taken as up to {2 * bounds[-1]:g}"
    missing = sum(_count(source, count) for count in _ANSWERED.findall(text)) - total
    if missing > 0:
        note += f"; {missing:.0f} more have no budget and are not in this plan"
    weights = workload.weights * total
    return replace(workload, caps=workload.outputs, weights=weights, rows=int(total), notes=(*workload.notes, note))


def _number(source: str, what: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise PlanError(f"{source}: {what} {text[:60]!r}: must be a number") from None


def _count(source: str, text: str) -> float:
    count = _number(source, "count", text)
    if not 0 <= count < np.inf:
        raise PlanError(f"{source}: count {text[:60]!r}: must be a number that is not negative")
    return count


def _page(source: str) -> str:
    try:
        return _fetched(source) if source.startswith(("http://", "https://")) else Path(source).read_text("utf-8")
    except (OSError, http.client.HTTPException, ValueError) as error:
        why = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise PlanError(f"{source}: cannot be read: {why}") from None


@cache
def _fetched(address: str) -> str:
    """Ask once, however often a plan reads it: all of a plan is of the same requests."""
    # A proxy that the environment names knows nothing of this machine.
    proxies = urllib.request.ProxyHandler({} if urlsplit(address).hostname in LOOPBACK else None)
    with urllib.request.build_opener(proxies).open(address, timeout=10) as answer:
        page: bytes = answer.read()
    return page.decode("utf-8", "replace")
