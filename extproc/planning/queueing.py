"""M/G/c: Erlang's C formula, Kimura's mean, and an exponential tail."""

import math

MANY = 2000
"""Servers from which a limit theorem replaces the exact recursion, whose time grows with them."""


def erlang_c(servers: float, load: float) -> float:
    """Probability that an arrival waits in M/M/c. `load`: offered Erlangs, λ·E[S]; below `servers`.

    By the recursion of Erlang B, B(n) = a·B(n-1) / (n + a·B(n-1)), then C = B / (1 − ρ(1 − B)). From `MANY` servers
    on by the limit of Halfin and Whitt (Operations Research 29, 1981), within 1 % of it there.
    """
    if load <= 0:
        return 0.0
    count = max(1, math.floor(servers))
    if load >= count:
        return 1.0
    if count >= MANY:
        beta = (1 - load / count) * math.sqrt(count)
        below = math.erfc(-beta / math.sqrt(2)) / 2
        return 1 / (1 + beta * below * math.sqrt(2 * math.pi) * math.exp(min(beta**2 / 2, 700.0)))
    blocked = 1.0
    for n in range(1, count + 1):
        blocked = load * blocked / (n + load * blocked)
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
