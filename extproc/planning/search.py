"""Where to cut: every threshold is sized, the whole curve is kept, and baselines are named."""

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np

from extproc.planning.engine import Engine
from extproc.planning.errors import PlanError
from extproc.planning.estimates import exact
from extproc.planning.savings import general_savings
from extproc.planning.sizing import FleetPlan, Objective, PoolPlan, size_pool
from extproc.planning.throughput import Measured, Throughput, estimate, measured
from extproc.planning.workload import Floats, Ints, Workload

Cost = Literal["gpus", "cost"]

RESERVE_QUANTILE = 0.95
"""Quantile of outputs reserved for requests without a cap. The service's own reserve depends on its smallest pool;
`output.quantile` of its configuration makes it a quantile too."""

LEAST_SAVED = 0.001
"""Share of the cost below which nothing is said to be saved."""

LENGTHS = tuple(1024 * n for n in (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 24, 32, 48, 64, 96, 128))
"""Values of max_model_len tried when none are given."""


@dataclass(frozen=True)
class Scenario:
    """A workload, an instance, and what is asked of a fleet.

    `engine`: at full context. `lengths`: allowed values of max_model_len below it. `estimated`: distribution
    of estimate over truth, `estimates.exact` or `Estimates.below`. `rates`: measured throughputs
    by max_model_len. `poisson`: size for Poisson arrivals at the mean rate, not for the busiest minute.
    """

    workload: Workload
    engine: Engine
    objective: Objective = field(default_factory=Objective)
    lengths: tuple[int, ...] = LENGTHS
    estimated: Callable[[Floats], Floats] = exact
    rates: Mapping[int, Measured] = field(default_factory=dict)
    poisson: bool = False

    @cached_property
    def reserve(self) -> int:
        """Output tokens set aside for requests without a cap."""
        return self.workload.quantile(self.workload.outputs, RESERVE_QUANTILE)

    @cached_property
    def budgets(self) -> Ints:
        """Tokens each request asks for: its prompt and its cap, or the reserve."""
        return self.workload.budgets(self.reserve)

    def within(self, capacity: int) -> Floats:
        """Chance of each request to be served by a pool of `capacity` or a smaller one.

        It must fit (else it is rejected and served by the largest) and be estimated to fit.
        """
        if capacity >= self.full:
            return np.ones(len(self.budgets))
        return np.where(self.budgets <= capacity, self._sent_to(capacity), 0.0)

    def _sent_to(self, capacity: int) -> Floats:
        """Chance of each request to be estimated to fit a pool of `capacity`, rightly or not."""
        room = capacity - (self.budgets - self.workload.inputs)
        return self.estimated(np.maximum(room, 0) / self.workload.inputs)

    def misrouted(self, capacity: int) -> float:
        """Share of requests that a pool of `capacity` is sent and refuses; the largest pool serves them."""
        return self.workload.mean(np.where(self.budgets > capacity, self._sent_to(capacity), 0.0))

    def cautious(self, capacity: int) -> float:
        """Share of requests that would fit `capacity` and are sent to a larger pool, for their estimate."""
        return self.workload.mean(np.where(self.budgets <= capacity, 1.0 - self._sent_to(capacity), 0.0))

    @cached_property
    def load(self) -> float:
        """Requests/s the fleet is sized for: the busiest minute, or the mean of a Poisson process."""
        arrivals = self.workload.needs_rate()
        return arrivals.rate if self.poisson else arrivals.peak

    @property
    def full(self) -> int:
        """max_model_len at full context."""
        return self.engine.max_model_len

    def throughput(self, part: Workload, engine: Engine) -> Throughput:
        """Requests/s of an instance on `part`: measured at this max_model_len, else estimated."""
        given = self.rates.get(engine.max_model_len)
        return estimate(part, engine) if given is None else measured(given, part, engine)


@dataclass(frozen=True)
class Split:
    """One point of the curve. `alpha`, `rho`, `sigma`: the symbols of the closed form (two pools only).

    `rho` and `sigma`: throughput of a short and of a long instance over that of a homogeneous one.
    `predicted`: savings by the general closed form, before rounding to whole instances. `misrouted`, `cautious`:
    shares of requests sent to a pool that refuses them, and to a larger one than they need.
    """

    thresholds: tuple[int, ...]
    fleet: FleetPlan
    alpha: float
    rho: float
    sigma: float
    predicted: float
    misrouted: float
    cautious: float


class Planner:
    """Sizes fleets for a scenario. Pools are sized once for each range of budgets."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self._sized: dict[tuple[int, int, bool], PoolPlan | None] = {}
        _check(scenario)

    def pool(self, low: int, high: int, strict: bool = False) -> PoolPlan | None:
        """Size the pool for budgets in (low, high], or over `low` at full context; None without traffic.

        At full context there is always a pool: what does not come today may come tomorrow.
        """
        key = (low, high, strict)
        if key not in self._sized:
            self._sized[key] = self._size(low, high, strict)
        return self._sized[key]

    def _size(self, low: int, high: int, strict: bool) -> PoolPlan | None:
        scenario = self.scenario
        shares = scenario.within(high) - (scenario.within(low) if low else 0.0)
        share = float(np.average(shares, weights=scenario.workload.weights))
        part = scenario.workload.part(shares)
        if part is None and high < scenario.full:
            return None
        part = part or scenario.workload
        engine = scenario.engine.at(high)
        return size_pool(
            f"{high}",
            part,
            engine,
            scenario.throughput(part, engine),
            scenario.objective,
            rate=scenario.load * share,
            share=share,
            strict=strict,
        )

    def fleet(self, label: str, thresholds: tuple[int, ...]) -> FleetPlan:
        """Size a fleet cut at `thresholds`, none for a homogeneous one; pools without traffic are left out.

        The TTFT objective is the fleet's: a small long pool may miss it by itself as long as 99 % of all requests
        meet it. When they do not, every pool is sized to meet it alone where it can.
        """
        edges = (0, *thresholds, self.scenario.full)
        for strict in (False, True):
            pools = [self.pool(low, high, strict) for low, high in itertools.pairwise(edges)]
            fleet = FleetPlan(label, tuple(p for p in pools if p), self.scenario.objective)
            if not fleet.problems:
                break
        return fleet

    @cached_property
    def homogeneous(self) -> FleetPlan:
        """The baseline at full context."""
        return self.fleet(f"one pool at {self.scenario.full}", ())

    @cached_property
    def smallest(self) -> FleetPlan:
        """The baseline at the smallest allowed context that holds the traffic."""
        scenario = self.scenario
        needed = scenario.budgets.max()
        enough = next((n for n in scenario.lengths if needed <= n < scenario.full), scenario.full)
        scenario = replace(scenario, engine=scenario.engine.at(enough), lengths=())
        return Planner(scenario).fleet(f"one pool at {enough}, the smallest that holds the traffic", ())

    def split(self, thresholds: tuple[int, ...]) -> Split:
        """Size a fleet cut at `thresholds` and compare it with the homogeneous baseline."""
        named = " and ".join(str(t) for t in thresholds)
        fleet = self.fleet(f"{len(thresholds) + 1} pools cut at {named}", thresholds)
        base = self.homogeneous.pools[0].throughput.rate
        first, last = self.pool(0, thresholds[0]), self.pool(thresholds[-1], self.scenario.full)
        alpha = first.share if first else 0.0
        rho = first.throughput.rate / base if first else 1.0
        sigma = last.throughput.rate / base if last else 1.0
        return Split(
            thresholds=thresholds,
            fleet=fleet,
            alpha=alpha,
            rho=rho,
            sigma=sigma,
            predicted=general_savings(alpha, rho, sigma),
            misrouted=sum(self.scenario.misrouted(t) for t in thresholds),
            cautious=sum(self.scenario.cautious(t) for t in thresholds),
        )

    def curve(self, pools: int = 2, progress: Callable[[int], None] = lambda _done: None) -> list[Split]:
        """Size every choice of `pools` − 1 thresholds among the allowed lengths."""
        lengths = [n for n in self.scenario.lengths if n < self.scenario.full]
        choices = list(itertools.combinations(lengths, pools - 1))
        splits = []
        for done, thresholds in enumerate(choices, 1):
            splits.append(self.split(thresholds))
            progress(done)
        return splits


def best(curve: list[Split], by: Cost = "gpus") -> Split:
    """Return the cheapest split that meets its objective, else the cheapest; of equals the highest threshold.

    A higher threshold keeps more requests out of the long pool and leaves more room for estimation error.
    """
    if not curve:
        raise PlanError("--lengths: no value below full context is allowed: there is nothing to search")

    def key(split: Split) -> tuple[bool, float, tuple[int, ...]]:
        price = split.fleet.gpus if by == "gpus" else split.fleet.cost
        return (bool(split.fleet.problems), price, tuple(-t for t in split.thresholds))

    return min(curve, key=key)


def saved(plan: FleetPlan, baseline: FleetPlan) -> float:
    """Share of the baseline's cost that `plan` saves; negative when it costs more."""
    return 1 - plan.cost / baseline.cost


def verdict(chosen: Split, planner: Planner) -> str:
    """Say in one sentence whether splitting pays, against which baseline, and why not when it does not."""
    baseline = planner.homogeneous
    share = saved(chosen.fleet, baseline)
    if share >= LEAST_SAVED:
        return f"Splitting saves {share:.1%} against {baseline.label}."
    cut = " and ".join(map(str, chosen.thresholds))
    why = f"{chosen.alpha:.1%} of requests go short, where an instance does {chosen.rho:.2f} times the requests of"
    why += f" {baseline.label}; a long one does {chosen.sigma:.2f} times"
    if chosen.predicted >= LEAST_SAVED:
        why += f"; the {chosen.predicted:.1%} this is worth are lost to rounding up to whole instances"
    return f"Splitting does not pay against {baseline.label}. At the best threshold, {cut}, {why}."


def against_present(chosen: Split, scenario: Scenario, instances: int) -> str:
    """Say what `chosen` saves of the `instances` at full context that are in use."""
    share = 1 - chosen.fleet.cost / (instances * scenario.engine.price)
    words = f"saves {share:.1%} of" if share > 0 else f"costs {-share:.1%} more than"
    return f"It {words} the present fleet of {instances} instances."


def _check(scenario: Scenario) -> None:
    if not 0 < scenario.objective.utilisation <= 1:
        raise PlanError(f"--utilisation: {scenario.objective.utilisation:g}: must be above 0 and at most 1")
    if scenario.objective.ttft is not None and scenario.objective.ttft <= 0:
        raise PlanError(f"--ttft: {scenario.objective.ttft:g}: must be above 0 seconds")
    for length, given in scenario.rates.items():
        if not 0 < given.value < math.inf:
            raise PlanError(f"--throughput: {length}={given.value:g}: must be above 0 {given.unit} per second")
