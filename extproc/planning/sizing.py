"""How many instances a pool needs, and what it then does."""

import math
from dataclasses import dataclass

import numpy as np

from extproc.planning import queueing
from extproc.planning.engine import Engine
from extproc.planning.throughput import Throughput, prefill_chunks
from extproc.planning.workload import Floats, Workload

HOURS_A_YEAR = 8760

LATE = 0.01
"""Share of requests that may miss a P99 objective."""


@dataclass(frozen=True)
class Objective:
    """What a fleet must meet. `ttft`: P99 time to first token in seconds, None for no such objective.

    `utilisation`: highest share of an instance's throughput in use. `spare`: instances a pool may lose (N+1: 1).
    """

    ttft: float | None = None
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
        if self.objective.ttft is not None and self.late > LATE:
            slow = max(self.pools, key=lambda p: p.share * p.late)
            problems.append(
                f"{self.label}: {self.late:.2%} of requests get their first token after {self.objective.ttft:g} s, "
                f"most of them in pool {slow.name}, whose P99 is {slow.ttft:.2f} s"
            )
        return problems


class PoolModel:
    """Latency of a pool as a function of its instances: M/G/c over all slots, iterations slowed by the load."""

    def __init__(self, part: Workload, engine: Engine, throughput: Throughput, rate: float) -> None:
        self._engine, self._throughput, self._rate = engine, throughput, rate
        inputs = part.inputs.astype(float)
        self._chunks = prefill_chunks(inputs, engine)
        self._own = engine.token_time * inputs + engine.pair_time * inputs**2 / 2
        self._part = part
        order = np.argsort(inputs, kind="stable")  # both terms grow with the prompt
        cumulative = np.cumsum(part.weights[order])
        self._slowest = order[min(int(np.searchsorted(cumulative, 0.99 * cumulative[-1])), len(order) - 1)]

    def utilisation(self, instances: int) -> float:
        """Share of the throughput in use."""
        return self._rate / (instances * self._throughput.rate)

    def prefill(self, instances: float) -> float:
        """P99 over requests of the time from being scheduled to the first token, s."""
        return float(self._prefills(instances)[self._slowest])

    def _prefills(self, instances: float) -> Floats:
        """Each request's own: its chunks share iterations of W / (1 − λ·D) with what else the instance does, and it
        starts half an iteration late on average."""
        busy = min(self._rate / instances * self._throughput.demand, 0.999)
        iteration = self._engine.weights_time / (1 - busy)
        return (self._chunks + 0.5) * iteration + self._own

    def late(self, instances: int, ttft: float) -> float:
        """Share of requests over `ttft` (s), each with the P99 of the wait on top of its own prefill."""
        return self._part.share(self._prefills(instances) + self.wait(instances) > ttft)

    def wait(self, instances: int) -> float:
        """P99 of the wait for a free slot, s."""
        slots = instances * self._throughput.slots
        service = self._throughput.slots / self._throughput.rate
        return queueing.wait_quantile(0.99, slots, self._rate * service, service, self._throughput.service_cv2)

    def ttft(self, instances: int) -> float:
        """P99 time to first token, s: P99 of wait plus P99 of prefill, an upper bound of the P99 of their sum."""
        return self.wait(instances) + self.prefill(instances)


def size_pool(
    name: str,
    part: Workload,
    engine: Engine,
    throughput: Throughput,
    objective: Objective,
    *,
    rate: float,
    share: float,
    strict: bool = False,
) -> PoolPlan:
    """Return the smallest pool for `rate` requests/s of `part` under the utilisation cap.

    `strict`: also large enough that its own P99 meets the TTFT objective, where more instances can bring that about
    (prefill takes its time however many there are).
    """
    model = PoolModel(part, engine, throughput, rate)
    least = max(1, math.ceil(rate / (throughput.rate * objective.utilisation) * (1 - 1e-12)))
    if strict and objective.ttft is not None and model.prefill(math.inf) < objective.ttft:
        least = _enough(model, least, objective.ttft)
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
        late=0.0 if objective.ttft is None else model.late(least, objective.ttft),
        problem=problem,
    )


def _enough(model: PoolModel, least: int, ttft: float) -> int:
    """Fewest instances from `least` on that meet `ttft`: latency falls as instances are added."""
    high = least
    while model.ttft(high) > ttft:
        high *= 2
    low = least
    while low < high:
        middle = (low + high) // 2
        if model.ttft(middle) > ttft:
            low = middle + 1
        else:
            high = middle
    return low
