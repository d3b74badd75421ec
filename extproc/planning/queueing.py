"""M/G/c: Erlang's C formula, Kimura's mean, and an exponential tail."""

import math

import numpy as np


def erlang_c(servers: float, load: float) -> float:
    """Probability that an arrival waits in M/M/c. `load`: offered Erlangs, λ·E[S]; below `servers`.

    From Erlang B, 1/B = Σ c! / ((c−k)!·a^k) over k from 0 to c, all of whose terms are positive, then
    C = B / (1 − ρ(1 − B)). Exact for any number of servers, whose time grows with them.
    """
    if load <= 0:
        return 0.0
    count = max(1, math.floor(servers))
    if load >= count:
        return 1.0
    with np.errstate(over="ignore"):  # where nobody is ever blocked
        blocked = 1 / (1 + float(np.cumprod(np.arange(count, 0, -1) / load).sum()))
    return blocked / (1 - load / count * (1 - blocked))


def mean_wait(servers: float, load: float, service: float, cv2: float) -> float:
    """Mean wait in M/G/c, in the unit of `service` (mean service time); infinite at or above saturation.

    Kimura's two-moment interpolation between M/M/c and M/D/c (Queueing Systems 17, 1994), the latter by
    Cosmetatos's correction.
    """
    count = max(1, math.floor(servers))
    if load >= count:
        return math.inf
    if load <= 0:
        return 0.0
    exponential = erlang_c(count, load) * service / (count - load)
    busy = load / count
    gap = (1 - busy) * (count - 1) * (math.sqrt(4 + 5 * count) - 2) / (16 * busy * count)
    fixed = (1 + min(gap, 1.0)) / 2  # M/D/c over M/M/c
    return exponential * (1 + cv2) / (2 * cv2 + (1 - cv2) / fixed)


def wait_quantile(q: float, servers: float, load: float, service: float, cv2: float) -> float:
    """Quantile `q` of the wait: 0 when fewer than 1 − q wait at all, else an exponential tail.

    P(wait > t) = C·exp(−t·C / E[W]), exact for M/M/c; for other service times the mean is Kimura's.
    """
    count = max(1, math.floor(servers))
    if load >= count:
        return math.inf
    waits = erlang_c(count, load)
    if waits <= 1 - q:
        return 0.0
    return math.log(waits / (1 - q)) * mean_wait(count, load, service, cv2) / waits
