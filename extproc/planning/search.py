"""Where to cut: every threshold is sized, the whole curve is kept, and baselines are named."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from extproc.planning.errors import PlanError
from extproc.planning.savings import general_savings
from extproc.planning.scenario import Missent, Scenario
from extproc.planning.sizing import FleetPlan, PoolPlan, allowed_late, size_pool

Cost = Literal["gpus", "cost"]

LEAST_SAVED = 0.001
"""Share of the cost below which nothing is said to be saved."""


@dataclass(frozen=True)
class Split:
    """One point of the curve, in the symbols of the closed form.

    `alpha`: what the smallest pool gets, as a share of the requests that fit full context. `rho` and `sigma`:
    throughput of an instance of the smallest and of the largest pool over that of a homogeneous one. `predicted`:
    savings by the closed form over all pools, before rounding to whole instances.
    """

    thresholds: tuple[int, ...]
    fleet: FleetPlan
    alpha: float
    rho: float
    sigma: float
    predicted: float
    missent: Missent


class Planner:
    """Sizes fleets for a scenario. Pools are sized once for each range of budgets."""

    def __init__(self, scenario: Scenario) -> None:
        """Raises `PlanError` for objectives or measured throughputs that nothing can have."""
        self.scenario = scenario
        self._sized: dict[tuple[int, int, int, int], PoolPlan | None] = {}
        _check(scenario)

    def _pool(self, low: int, high: int, smallest: int, among: int) -> PoolPlan | None:
        """Size the pool for budgets in (low, high], or over `low` at full context; None without traffic.

        `smallest`: capacity of the fleet's smallest pool. `among`: pools that share what may be late, 0 for as many
        instances as the throughput asks for. At full context there is always a pool: what does not come today may
        come tomorrow.
        """
        key = (low, high, self.scenario.reserve(smallest), among)
        if key not in self._sized:
            self._sized[key] = self._size(*key)
        return self._sized[key]

    def _size(self, low: int, high: int, reserve: int, among: int) -> PoolPlan | None:
        scenario = self.scenario
        shares = scenario.within(high, reserve) - (scenario.within(low, reserve) if low else 0.0)
        share = scenario.workload.mean(shares)
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
            allowed=allowed_late(among, share) if among else None,
        )

    def fleet(self, label: str, thresholds: tuple[int, ...]) -> FleetPlan:
        """Size a fleet cut at `thresholds`, none for a homogeneous one; pools without traffic are left out.

        The TTFT objective is the fleet's: a small long pool may miss it by itself as long as 99 % of all requests
        meet it. When they do not, every pool is enlarged, where that helps, until it is late for no more than its
        part. A pool that gets no requests today has no part.
        """
        edges = (0, *thresholds, self.scenario.full)

        def sized(among: int) -> FleetPlan:
            pools = (self._pool(low, high, edges[1], among) for low, high in itertools.pairwise(edges))
            return FleetPlan(label, tuple(p for p in pools if p), self.scenario.objective)

        fleet = sized(0)
        return sized(sum(p.share > 0 for p in fleet.pools)) if fleet.problems else fleet

    @cached_property
    def homogeneous(self) -> FleetPlan:
        """The baseline at full context."""
        return self.fleet(f"one pool at {self.scenario.full}", ())

    @cached_property
    def smallest(self) -> FleetPlan:
        """The baseline at the smallest allowed context that holds the traffic, full context when none does."""
        scenario = self.scenario
        needed = scenario.needs.max()
        enough = next((n for n in scenario.lengths if needed <= n < scenario.full), scenario.full)
        why = (
            "the smallest that holds the traffic"
            if needed <= enough
            else f"where the longest request needs {needed}"
        )
        sized = Planner(replace(scenario, engine=scenario.engine.at(enough)))
        return sized.fleet(f"one pool at {enough}, {why}", ())

    def split(self, thresholds: tuple[int, ...]) -> Split:
        """Size a fleet cut at `thresholds` and compare it with the homogeneous baseline."""
        named = " and ".join(str(t) for t in thresholds)
        fleet = self.fleet(f"{len(thresholds) + 1} pools cut at {named}", thresholds)
        base = self.homogeneous.pools[0].throughput.rate
        served = self.scenario.served
        ratios = [pool.throughput.rate / base for pool in fleet.pools]
        shares = [pool.share / served if served else 0.0 for pool in fleet.pools]
        short = fleet.pools[0].engine.max_model_len == thresholds[0]  # otherwise it has no traffic and is left out
        return Split(
            thresholds=thresholds,
            fleet=fleet,
            alpha=shares[0] if short else 0.0,
            rho=ratios[0] if short else 1.0,
            sigma=ratios[-1],
            predicted=general_savings(shares, ratios) if served else 0.0,
            missent=self.scenario.missent(thresholds),
        )

    def curve(self, pools: int = 2, progress: Callable[[int], None] = lambda _done: None) -> list[Split]:
        """Size every choice of `pools` − 1 thresholds among the allowed lengths, or the one given."""
        lengths = [n for n in self.scenario.lengths if n < self.scenario.full]
        given = self.scenario.threshold
        choices = list(itertools.combinations(lengths, pools - 1)) if given is None else [(given,)]
        splits = []
        for done, thresholds in enumerate(choices, 1):
            splits.append(self.split(thresholds))
            progress(done)
        return splits


def best(curve: list[Split], by: Cost = "gpus") -> Split:
    """Return the cheapest split that meets its objective, else the cheapest; of equals the highest threshold.

    A higher threshold keeps more requests out of the long pool and leaves more room for estimation error. Raises
    `PlanError` for an empty curve.
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
    words = f"Splitting does not pay against {baseline.label}. At the best threshold, {cut}, "
    if not chosen.alpha:
        return f"{words}no request goes to the short pool."
    words += (
        f"{chosen.alpha:.1%} of requests go to the short pool, whose instances serve {chosen.rho:.2f} times as "
        f"many as those of the one pool; long instances serve {chosen.sigma:.2f} times as many."
    )
    if chosen.predicted < LEAST_SAVED:
        return words
    lost = _lost(chosen.fleet)
    return f"{words} By throughput alone this would save {chosen.predicted:.1%}, which is lost to {lost}."


def _lost(fleet: FleetPlan) -> str:
    """What `fleet` needs more instances for than the closed form gives it."""
    causes = ["spare instances"] if fleet.objective.spare else []
    causes += ["the TTFT objective"] if fleet.enlarged else []
    rounding = "rounding up to whole instances"
    return f"{', '.join(causes)} and {rounding}" if causes else rounding


def against_present(share: float, instances: int) -> str:
    """Say that a split saves `share` of the `instances` at full context that are in use."""
    words = f"saves {share:.1%} of" if share > 0 else f"costs {-share:.1%} more than"
    return f"It {words} the present fleet of {instances} instances."


def _check(scenario: Scenario) -> None:
    if not 0 < scenario.objective.utilisation <= 1:
        raise PlanError(f"--utilisation: {scenario.objective.utilisation:g}: must be above 0 and at most 1")
    if scenario.objective.ttft <= 0:
        raise PlanError(f"--ttft: {scenario.objective.ttft:g}: must be above 0 seconds")
    for length, given in scenario.rates.items():
        if not 0 < given.value < math.inf:
            raise PlanError(f"--throughput: {length}={given.value:g}: must be above 0 {given.unit} per second")
