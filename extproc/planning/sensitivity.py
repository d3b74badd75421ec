"""What the answer depends on: one thing is changed at a time, the threshold stays."""

from dataclasses import dataclass, replace

from extproc.planning.engine import Concurrency
from extproc.planning.search import Planner, Scenario, saved
from extproc.planning.workload import Workload, with_caps

MARGINS = (0.0, 0.05, 0.1, 0.2, 0.4)
RATE_FACTORS = (0.1, 0.5, 2.0, 10.0)
CAP_LAWS = ("exact", "round", "none")


@dataclass(frozen=True)
class Variation:
    """Savings against one pool at full context when `what` is changed. `gpus`: of the split fleet."""

    what: str
    gpus: int
    saved: float
    met: bool


def variations(scenario: Scenario, thresholds: tuple[int, ...]) -> list[Variation]:
    """Vary estimation margin, arrival rate, output caps and concurrency for a fleet cut at `thresholds`."""
    cases: list[tuple[str, Scenario]] = [("as planned", scenario)]
    cases += [
        (f"prompts over-estimated by {m:.0%} to be safe", replace(scenario, margin=m))
        for m in MARGINS
        if m != scenario.margin
    ]
    cases += [
        (f"arrival rate x {f:g}", replace(scenario, workload=_faster(scenario.workload, f))) for f in RATE_FACTORS
    ]
    cases += [
        (f"output caps: {law}", replace(scenario, workload=with_caps(scenario.workload, law))) for law in CAP_LAWS
    ]
    other: Concurrency = "paged" if scenario.engine.concurrency == "reserved" else "reserved"
    cases.append((f"{other} concurrency", replace(scenario, engine=replace(scenario.engine, concurrency=other))))
    return [_vary(what, case, thresholds) for what, case in cases]


def _faster(workload: Workload, factor: float) -> Workload:
    return workload.with_rate(workload.needs_rate().rate * factor)


def _vary(what: str, scenario: Scenario, thresholds: tuple[int, ...]) -> Variation:
    planner = Planner(scenario)
    fleet = planner.split(thresholds).fleet
    return Variation(what, fleet.gpus, saved(fleet, planner.homogeneous), not fleet.problems)
