"""Policies side by side on the same arrivals, and the smallest fleet a policy needs by simulation."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from extproc.budget.learner import Learner, new_learner
from extproc.config import DEFAULT_POOL_SET, Config
from extproc.planning.dispatch import Learned, Oracle, Policy, Pools, Static
from extproc.planning.errors import PlanError
from extproc.planning.estimates import taught
from extproc.planning.latency import LATE
from extproc.planning.nextsteps import pool_names
from extproc.planning.simulator import SimulatedPool, Simulation
from extproc.planning.sizing import FleetPlan, allowed_late
from extproc.planning.text import TextModel
from extproc.planning.trace import Batch
from extproc.planning.workload import Workload

POLICIES = ("homogeneous", "oracle", "learned", "learned+spillover", "static")
STATIC_RATIO = 4.0

SETTLED = 5
"""Mean times in system for which requests must arrive before a pool is about as full as it will ever be."""


@dataclass(frozen=True)
class Setting:
    """What all policies share.

    `arrivals`: starts the same stream of requests anew. `config`: settings of the estimators. `texts`: the
    estimate-error model, drawn with `seed`. `reserve`: output tokens the static policy sets aside without a cap.
    `ttft`: P99 objective, s. `before`: traffic the service has learned from when the simulation begins, None for
    nothing.
    """

    arrivals: Callable[[], Iterator[Batch]]
    texts: TextModel
    seed: int
    config: Config
    reserve: int = 0
    ttft: float = math.inf
    before: Workload | None = None

    def learner(self, pools: Pools) -> Learner:
        """What the service in front of `pools` knows when the simulation begins."""
        config = self.config.model_copy(update={"pools": {DEFAULT_POOL_SET: pools}})
        return taught(config, self.texts, self.before) if self.before else new_learner(config)


def simulated(fleet: FleetPlan) -> list[SimulatedPool]:
    """The pools of a planned fleet without its spare instances, which are there to fail."""
    names = pool_names(len(fleet.pools))
    return [
        SimulatedPool(name, pool.engine, pool.instances - pool.spare)
        for name, pool in zip(names, fleet.pools, strict=True)
    ]


def simulate(
    policy: str,
    pools: list[SimulatedPool],
    setting: Setting,
    progress: Callable[[int], None] = lambda _done: None,
) -> dict[str, Any]:
    """Run one policy and return what it measured, as plain values.

    `progress` is told how many requests have arrived. Raises `PlanError` for an unknown policy, or pools that
    cannot be simulated.
    """
    choosing = build(policy, tuple(pool.routed_to for pool in pools), setting)
    spillover = setting.config.spillover if policy.endswith("+spillover") else None
    simulation = Simulation(pools, choosing, ttft=setting.ttft, spillover=spillover)
    simulation.run(setting.arrivals(), progress)
    return {"policy": policy} | record(simulation)


def build(policy: str, pools: Pools, setting: Setting) -> Policy:
    """Build a policy by name; one pool needs no choice, so *homogeneous* is the oracle on one.

    Raises `PlanError` for an unknown name.
    """
    kind = policy.removesuffix("+spillover")
    if kind in ("homogeneous", "oracle"):
        return Oracle(pools)
    if kind == "learned":
        return Learned(setting.learner(pools), pools, setting.texts, setting.seed)
    if kind == "static":
        return Static(pools, setting.texts, setting.seed, STATIC_RATIO, setting.reserve)
    raise _unknown(policy)


def named(policies: str) -> list[str]:
    """Return the policies of a comma-separated list. Raises `PlanError` for one that is none of `POLICIES`."""
    names = [name.strip() for name in policies.split(",")]
    for name in names:
        if name not in POLICIES:
            raise _unknown(name)
    return names


def _unknown(policy: str) -> PlanError:
    return PlanError(f"--policies: {policy!r}: must be among {', '.join(POLICIES)}")


def record(simulation: Simulation) -> dict[str, Any]:
    """What a finished simulation measured, for the fleet and by pool."""
    pools = [_pool_record(simulation, place) for place in range(len(simulation.pools))]
    whole = {"instances": sum(p["instances"] for p in pools), "refused": simulation.rejected}
    uses = {name: _mean_use(pools, name) for name in ("utilisation", "slot_use", "kv_use")}
    return {
        "requests": simulation.arrived,
        "seconds": simulation.time,
        "span": simulation.span,
        "rejected": simulation.rejected,
        "retried": simulation.retried,
        "truncated": simulation.truncated,
        "spilled": simulation.spilled,
        "gpus": sum(p.instances * p.engine.tp for p in simulation.pools),
        "gpu_hours": sum(p["gpu_hours"] for p in pools),
        "fleet": whole | uses | simulation.fleet.record(),
        "pools": pools,
    }


def _pool_record(simulation: Simulation, place: int) -> dict[str, Any]:
    pool = simulation.pools[place]
    first, last = simulation.machines.ranges[place]
    rows = simulation.machines.instances[first:last]
    whole = simulation.time * pool.instances
    return {
        "name": pool.name,
        "max_model_len": pool.engine.max_model_len,
        "instances": pool.instances,
        "gpu_hours": whole * pool.engine.tp / 3600,
        "utilisation": float(rows["busy"].sum() / whole),
        "slot_use": float((rows["slot_time"] / rows["seqs"]).sum() / whole),
        "kv_use": float((rows["block_time"] / rows["blocks"]).sum() / whole),
        "refused": simulation.refused[place],
    } | simulation.by_pool[place].record()


def _mean_use(pools: list[dict[str, Any]], name: str) -> float:
    """Mean over all instances of a fleet."""
    return float(sum(p[name] * p["instances"] for p in pools) / sum(p["instances"] for p in pools))


def missed(result: dict[str, Any]) -> str:
    """Why a simulated fleet misses its objective, empty when it meets it."""
    fleet = result["fleet"]
    if result["rejected"] > LATE * result["requests"]:
        return f"simulated: {result['rejected']} of {result['requests']} requests are longer than any pool holds"
    if fleet["late"] <= LATE:
        return ""
    worst = max(result["pools"], key=lambda pool: pool["late"] * pool["completed"])
    return (
        f"simulated, {result['policy']} routing: {fleet['late']:.2%} of requests miss the TTFT objective, P99 "
        f"{fleet['ttft']['p99']:.2f} s; worst in pool {worst['name']}, P99 {worst['ttft']['p99']:.2f} s, "
        f"{worst['utilisation']:.0%} busy"
    )


def unsettled(result: dict[str, Any]) -> str:
    """Why a simulation is too short to say what its fleet needs, empty when it is not."""
    slow = max(result["pools"], key=lambda pool: pool["latency"]["mean"])
    mean, span = slow["latency"]["mean"], result["span"]
    if span >= SETTLED * mean:
        return ""
    return (
        f"{result['policy']} routing: requests arrive for {span:.0f} s, and one of pool {slow['name']} takes "
        f"{mean:.0f} s on average: the pool does not fill, and what is measured of it is too good; "
        f"--requests {math.ceil(result['requests'] * SETTLED * mean / max(span, 1e-9)):,} would do"
    )


def sizes(policy: str, planned: list[SimulatedPool], setting: Setting) -> dict[str, Any]:
    """Compare `planned` pools with the smallest that meet the objective by simulation, as plain values.

    Instances of a pool are None where twice the planned ones do not keep it, and so are then the GPUs of all.
    """
    doubled = [replace(pool, instances=2 * pool.instances) for pool in planned]
    found = smallest(policy, doubled, setting)
    kept = [f for f in found if f is not None]
    return {
        "policy": policy,
        "pools": [
            {"name": p.name, "planned": p.instances, "simulated": f and f.instances}
            for f, p in zip(found, planned, strict=True)
        ],
        "planned_gpus": sum(p.instances * p.engine.tp for p in planned),
        "gpus": sum(f.instances * f.engine.tp for f in kept) if len(kept) == len(found) else None,
    }


def smallest(policy: str, pools: list[SimulatedPool], setting: Setting) -> list[SimulatedPool | None]:
    """Return the smallest pools that together meet the fleet's P99 objective by simulation.

    None for a pool that does not keep its part of the objective with all the instances given. Pools are searched
    one after the other, the others staying as they are given: without spillover they do not act on each other.
    """
    as_given = simulate(policy, pools, setting)
    return [
        _fewest(policy, pools, place, setting) if _keeps(as_given, place) else None for place in range(len(pools))
    ]


def _fewest(policy: str, pools: list[SimulatedPool], place: int, setting: Setting) -> SimulatedPool:
    """Bisect the instances of the pool at `place`, which keeps its part with those it has."""
    low, high = 0, pools[place].instances
    while high - low > 1:
        middle = (low + high) // 2
        trial = [replace(p, instances=middle) if i == place else p for i, p in enumerate(pools)]
        if _keeps(simulate(policy, trial, setting), place):
            high = middle
        else:
            low = middle
    return replace(pools[place], instances=high)


def _keeps(result: dict[str, Any], place: int) -> bool:
    """Whether the pool at `place` is late for no more than its part of the requests that may be.

    These are 1 % of all, of which every pool with requests has an equal part, but not more than half of its own: a
    pool that few requests reach must keep up with them all the same.
    """
    part, sharing = result["pools"][place], sum(pool["completed"] > 0 for pool in result["pools"])
    return bool(part["late"] <= allowed_late(sharing, part["completed"] / result["requests"]))
