"""How many instances a pool needs, and what it then does."""

import math
from dataclasses import dataclass

from extproc.planning.engine import Engine
from extproc.planning.errors import PlanError
from extproc.planning.latency import LATE, PoolModel
from extproc.planning.throughput import Throughput
from extproc.planning.workload import Workload

HOURS_A_YEAR = 8760

MOST_LATE = 0.5
"""Share of its own requests for which a pool may be late, however few of all they are."""

MOST_INSTANCES = 10_000_000
"""No fleet has more in one pool: a rate, a throughput or a utilisation is wrong."""


@dataclass(frozen=True)
class Objective:
    """What a fleet must meet. `ttft`: P99 time to first token in seconds, infinite for any.

    `utilisation`: highest share of an instance's throughput in use. `spare`: instances a pool may lose (N+1: 1).
    """

    ttft: float
    utilisation: float = 0.85
    spare: int = 0


@dataclass(frozen=True)
class PoolPlan:
    """A pool, sized. `share`: of all requests. `rate`: requests/s it gets. `instances` includes `spare`.

    `utilisation`, `wait` (P99, s), `ttft` (P99, s) and `late` (share of its requests over the objective) are those
    without the spare ones. `problem`: why it cannot run at all, empty when it can.
    """

    name: str
    engine: Engine
    throughput: Throughput
    share: float
    rate: float
    instances: int
    spare: int
    utilisation: float
    wait: float
    ttft: float
    late: float
    problem: str = ""

    @property
    def gpus(self) -> int:
        """GPUs of all instances."""
        return self.instances * self.engine.tp

    @property
    def cost(self) -> float:
        """Dollars an hour."""
        return self.instances * self.engine.price


@dataclass(frozen=True)
class FleetPlan:
    """Pools, smallest first, and the objective they were sized for."""

    label: str
    pools: tuple[PoolPlan, ...]
    objective: Objective

    @property
    def late(self) -> float:
        """Share of all requests whose first token comes after the objective."""
        return sum(p.share * p.late for p in self.pools)

    @property
    def enlarged(self) -> bool:
        """Whether a pool has more instances than the utilisation cap asks for, to meet the TTFT objective."""
        return any(
            p.rate <= (p.instances - p.spare - 1) * p.throughput.rate * self.objective.utilisation
            for p in self.pools
            if p.instances - p.spare > 1
        )

    @property
    def gpus(self) -> int:
        """GPUs of all pools."""
        return sum(p.gpus for p in self.pools)

    @property
    def instances(self) -> int:
        """Instances of all pools."""
        return sum(p.instances for p in self.pools)

    @property
    def cost(self) -> float:
        """Dollars an hour."""
        return sum(p.cost for p in self.pools)

    @property
    def cost_year(self) -> float:
        """Dollars a year of 8,760 hours."""
        return self.cost * HOURS_A_YEAR

    @property
    def problems(self) -> list[str]:
        """Why the fleet misses its objective by the closed form; empty when it meets it."""
        problems = [f"{self.label}: pool {p.name}: {p.problem}" for p in self.pools if p.problem]
        if self.late > LATE:
            slow = max(self.pools, key=lambda p: p.share * p.late)
            problems.append(
                f"{self.label}: {self.late:.2%} of requests get their first token after {self.objective.ttft:g} s, "
                f"most of them in pool {slow.name}, whose P99 is {slow.ttft:.2f} s"
            )
        return problems


def allowed_late(pools: int, share: float) -> float:
    """Share of its own requests for which a pool may be late that gets `share` of all.

    The 1 % of all that may be late is divided equally among `pools` pools; none may be late for over `MOST_LATE`.
    """
    return min(LATE / pools / share, MOST_LATE) if share > 0 else MOST_LATE


def size_pool(
    name: str,
    part: Workload,
    engine: Engine,
    throughput: Throughput,
    objective: Objective,
    *,
    rate: float,
    share: float,
    allowed: float | None,
) -> PoolPlan:
    """Return the smallest pool for `rate` requests/s of `part` under the utilisation cap.

    `allowed`: also large enough that no more than this share of its requests miss the TTFT objective, where more
    instances can bring that about (prefill takes its time however many there are). Raises `PlanError` for a pool
    of more than `MOST_INSTANCES`.
    """
    usable = throughput.rate * objective.utilisation
    if rate >= MOST_INSTANCES * usable:
        raise PlanError(
            f"pool {name}: {rate:g} requests/s at {throughput.rate:g} an instance and {objective.utilisation:g} "
            f"utilisation need more than {MOST_INSTANCES:,} instances"
        )
    model = PoolModel(part, engine, throughput, rate)
    least = max(1, math.ceil(rate / usable * (1 - 1e-12)))
    if allowed is not None and model.late(math.inf, objective.ttft) < allowed:
        least = _enough(model, least, objective.ttft, allowed)
    problem = ""
    if not engine.fits:
        problem = f"max_model_len {engine.max_model_len} does not fit the KV cache of {engine.kv_tokens} tokens"
    return PoolPlan(
        name=name,
        engine=engine,
        throughput=throughput,
        share=share,
        rate=rate,
        instances=least + objective.spare,
        spare=objective.spare,
        utilisation=model.utilisation(least),
        wait=model.wait(least),
        ttft=model.ttft(least),
        late=model.late(least, objective.ttft),
        problem=problem,
    )


def _enough(model: PoolModel, least: int, ttft: float, allowed: float) -> int:
    """Fewest instances, from `least` on, with which no more than `allowed` of the requests are over `ttft`, s.

    Doubled until they are enough, then bisected: the more instances there are, the fewer requests are late.
    """
    high = least
    while model.late(high, ttft) > allowed:
        high *= 2
    low = least
    while low < high:
        middle = (low + high) // 2
        if model.late(middle, ttft) > allowed:
            low = middle + 1
        else:
            high = middle
    return low
