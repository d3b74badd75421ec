"""M/G/c by Erlang's C formula and Kimura's mean, M/G/1 by Pollaczek and Khinchine's; tails are exponential."""

import math

import numpy as np

from extproc.planning.workload import Floats

AT_ONCE = 100_000
"""Terms of a sum computed together."""

NEGLIGIBLE = 1e-20
"""A term below this share of its sum, and all that follow, smaller still, do not change it."""


def erlang_c(servers: int, load: float) -> float:
    """Probability that an arrival waits in M/M/c. `load`: offered Erlangs, λ·E[S]; 1 at or above `servers`.

    C = B / (1 − ρ(1 − B)) from Erlang's B (`_inverse_erlang_b`).
    """
    if load <= 0:
        return 0.0
    if load >= servers:
        return 1.0
    blocked = 1 / _inverse_erlang_b(servers, load)
    return blocked / (1 - load / servers * (1 - blocked))


def _inverse_erlang_b(servers: int, load: float) -> float:
    """1/B = Σ c! / ((c − k)!·a^k) over k from 0 to c servers, infinite where nobody is ever blocked.

    All terms are positive: they rise while c − k is above the load a, then fall, and the sum ends early.
    """
    total = term = 1.0
    for most in range(servers, 0, -AT_ONCE):
        with np.errstate(over="ignore"):
            terms = term * np.cumprod(np.arange(most, max(most - AT_ONCE, 0), -1) / load)
            total += float(terms.sum())
        term = float(terms[-1])
        if term <= NEGLIGIBLE * total:
            break
    return total


def conditional_wait(servers: int, load: float, service: float, cv2: float) -> float:
    """Mean wait in M/G/c of those who wait, in the unit of `service` (mean service time).

    Kimura's two-moment interpolation between M/M/c and M/D/c (Queueing Systems 17, 1994), the latter by
    Cosmetatos's correction. `load`: offered Erlangs, above 0 and below `servers`. `cv2`: squared coefficient of
    variation of the service time.
    """
    busy = load / servers
    gap = (1 - busy) * (servers - 1) * (math.sqrt(4 + 5 * servers) - 2) / (16 * busy * servers)
    fixed = (1 + min(gap, 1.0)) / 2  # M/D/c over M/M/c
    return service / (servers - load) * (1 + cv2) / (2 * cv2 + (1 - cv2) / fixed)


def wait_quantile(q: float, servers: int, load: float, service: float, cv2: float) -> float:
    """Quantile `q` of the wait in M/G/c, in the unit of `service`; infinite at or above saturation.

    It is 0 when no more than 1 − q wait at all. The tail is exponential with the mean of `conditional_wait`: exact
    for M/M/c.
    """
    if load >= servers:
        return math.inf
    waits = erlang_c(servers, load)
    return math.log(waits / (1 - q)) * conditional_wait(servers, load, service, cv2) if waits > 1 - q else 0.0


def residual(service: Floats, shares: Floats) -> float:
    """Mean time left of the service an arrival of M/G/1 finds under way: E[S²] / 2·E[S], in the unit of `service`.

    Over 1 − ρ it is the mean wait of those who wait: the mean of all is ρ·E[S²] / (2·E[S]·(1 − ρ)), Pollaczek and
    Khinchine's, and the share ρ of them waits. `shares`: of arrivals with each service time.
    """
    return float(shares @ service**2 / (2 * shares @ service))


def exceeds(seconds: Floats, waits: float, mean: float, least: float = 0.0) -> Floats:
    """Chance of a wait of more than each of `seconds`, 1 below 0.

    The share `waits` of arrivals waits, exponentially with that `mean`: exact for M/M/1, and the limit of GI/G/1
    in heavy traffic (Kingman, Proc. Cambridge Phil. Soc. 57, 1961). A share of `least` or less is taken as none.
    """
    chance = waits if waits > least else 0.0
    return np.where(seconds < 0, 1.0, chance * np.exp(-np.maximum(seconds, 0.0) / mean))
