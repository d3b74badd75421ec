"""Requests to simulate, a batch at a time: a trace replayed, or lengths drawn from a workload."""

import heapq
from collections.abc import Iterator

import numpy as np

from extproc.planning.trace import Batch, Trace
from extproc.planning.workload import Workload, caps_by

BATCH = 10_000
"""Requests made at once."""

LEAST_CV = 0.01
"""Arrivals of a smaller coefficient of variation are as good as evenly spaced."""

Row = tuple[float, int, int, int, int]
"""One request: the columns of a `Batch`."""


def drawn(workload: Workload, count: int, seed: int, cv: float = 1.0) -> Iterator[Batch]:
    """Yield `count` requests with lengths drawn from `workload`, arriving at its mean rate.

    Times between arrivals are gamma distributed with the coefficient of variation `cv`, but not below `LEAST_CV`:
    at 1 that is a Poisson process. The same seed gives the same requests. Raises `PlanError` for a workload without
    a rate.
    """
    rate = workload.needs_rate().rate
    random = np.random.default_rng(seed)
    shares = workload.weights / workload.weights.sum()
    shape = 1 / max(cv, LEAST_CV) ** 2
    now = 0.0
    for start in range(0, count, BATCH):
        size = min(BATCH, count - start)
        times = now + np.cumsum(random.gamma(shape, 1 / (shape * rate), size))
        picked = random.choice(len(shares), size, p=shares)
        unknown = np.zeros(size, np.int64)
        yield times, workload.inputs[picked], workload.outputs[picked], workload.caps[picked], unknown
        now = float(times[-1])


def replayed(traces: list[Trace], rate_factor: float, count: int | None) -> Iterator[Batch]:
    """Yield the requests of `traces` in time order, each trace from its own start, `rate_factor` times as fast.

    `count`: of how many to stop, None for all. Raises `PlanError` for a trace that has no times, or not in order.
    """
    merged = heapq.merge(*(_rows(trace) for trace in traces), key=lambda row: row[0])
    buffer: list[Row] = []
    for number, (time, prompt, output, cap, size) in enumerate(merged):
        if number == count:
            break
        buffer.append((time / rate_factor, prompt, output, cap, size))
        if len(buffer) == BATCH:
            yield _batch(buffer)
            buffer = []
    if buffer:
        yield _batch(buffer)


def _rows(trace: Trace) -> Iterator[Row]:
    for batch in trace.batches():
        yield from zip(*(column.tolist() for column in batch), strict=True)


def _batch(rows: list[Row]) -> Batch:
    times, prompts, outputs, caps, sizes = zip(*rows, strict=True)
    return np.array(times), np.array(prompts), np.array(outputs), np.array(caps), np.array(sizes)


def capped(batches: Iterator[Batch], law: str) -> Iterator[Batch]:
    """Give each replayed request its cap by `law`: its own, as logged, or another (`caps_by`)."""
    for times, prompts, outputs, caps, sizes in batches:
        yield times, prompts, outputs, caps_by(law, outputs, caps), sizes
