"""What is said of estimates: errors, routing at thresholds, learning curves."""

from collections.abc import Sequence

import numpy as np

from benchmarks.accuracy.data import Row
from benchmarks.accuracy.estimate import LINEAR, Array, Estimates, Method, estimate

LARGE = 1000
THRESHOLDS = (2048, 4096, 8192, 32_768)
FIXED_MARGIN = 0.1
STEPS = (10, 30, 100, 300, 1000)
WINDOW = 100
"""Requests after a step over which a learning curve is averaged."""

CHANGE_ORDERS = 10
"""Random orders in which the tokenizer is replaced."""


def errors(found: Estimates, least: int) -> list[float]:
    """Return median, p95, p99 of the absolute error, the signed median, shares under by > 10 % and > 25 %, in %."""
    signed = found.error[found.true >= least]
    if not len(signed):
        return [float("nan")] * 6
    quantiles = np.quantile(np.abs(signed), (0.5, 0.95, 0.99))
    shares = (signed < -0.1).mean(), (signed < -0.25).mean()
    return [100 * float(value) for value in (*quantiles, np.median(signed), *shares)]


def routing(found: Estimates, threshold: int, margin: float | None) -> list[float]:
    """Return shares of all requests that are falsely short and falsely long, and wrong either way among those whose
    true budget is within 25 % of `threshold`; per cent. `margin`: fixed share, None for the learned one."""
    upper = found.upper if margin is None else found.tokens * (1 + margin)
    truth, short = found.true + found.caps > threshold, upper + found.caps <= threshold
    wrong = truth == short
    near = np.abs((found.true + found.caps) / threshold - 1) <= 0.25
    shares = (truth & short).mean(), (~truth & ~short).mean(), wrong[near].mean() if near.any() else 0.0
    return [100 * float(share) for share in shares]


def shuffled(method: Method, rows: Sequence[Row], tokenizer: str, times: int) -> list[Estimates]:
    """Return estimates of `rows` in random orders, the same at every call."""
    names = [tokenizer] * len(rows)
    orders = _orders(rows, times)
    return [estimate(method, rows, names, order) for order in orders]


def _orders(rows: Sequence[Row], times: int) -> list[list[int]]:
    """Return `times` random orders of `rows`, the same at every call."""
    return [np.random.default_rng(seed).permutation(len(rows)).tolist() for seed in range(times)]


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean of `values` and its 95 % bootstrap interval."""
    drawn = np.random.default_rng(1).choice(np.asarray(values), (2000, len(values))).mean(axis=1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return float(np.mean(values)), float(low), float(high)


def curve(runs: Sequence[Estimates]) -> list[float]:
    """Return the median absolute error, in per cent, of the requests after each of `STEPS`, over all runs."""
    together = np.abs(np.stack([run.error for run in runs]))
    return [100 * float(np.median(together[:, step : step + WINDOW])) for step in STEPS if step < together.shape[1]]


def change(rows: Sequence[Row], before: str, after: str) -> tuple[Array, float]:
    """Replace the tokenizer in the middle; return the median error by hundreds afterwards, and the final one."""
    half = len(rows) // 2
    names = [before] * half + [after] * (len(rows) - half)
    orders = _orders(rows, CHANGE_ORDERS)
    found = np.abs(np.stack([estimate(LINEAR, rows, names, order).error for order in orders]))
    hundreds = [100 * float(np.median(found[:, at : at + WINDOW])) for at in range(half, half + 400, WINDOW)]
    return np.array(hundreds), 100 * float(np.median(found[:, -300:]))
