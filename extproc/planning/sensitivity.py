"""What the answer depends on: one thing is changed at a time, the threshold stays."""

from dataclasses import dataclass, replace

from extproc.planning.engine import Concurrency
from extproc.planning.estimates import Estimates, exact
from extproc.planning.search import Planner, Scenario, saved
from extproc.planning.text import TextModel, spread
from extproc.planning.workload import Workload, with_caps

DEVIATIONS = (0.0, 1.0, 2.0)
SPREADS = (0.5, 2.0)
RATE_FACTORS = (0.1, 0.5, 2.0, 10.0)
CAP_LAWS = ("exact", "round", "none")


@dataclass(frozen=True)
class Variation:
    """Savings against one pool at full context when `what` is changed. `gpus`: of the split fleet."""

    what: str
    gpus: int
    saved: float
    met: bool


def variations(scenario: Scenario, thresholds: tuple[int, ...], texts: TextModel) -> list[Variation]:
    """Vary estimation, arrival rate, output caps and concurrency for a fleet cut at `thresholds`."""
    traffic = scenario.workload
    cases = [("as planned", scenario), *_estimation(scenario, texts)]
    cases += [(f"arrival rate x {f:g}", replace(scenario, workload=_faster(traffic, f))) for f in RATE_FACTORS]
    cases += [(f"output caps: {law}", replace(scenario, workload=with_caps(traffic, law))) for law in CAP_LAWS]
    other: Concurrency = "paged" if scenario.engine.concurrency == "reserved" else "reserved"
    cases.append((f"{other} concurrency", replace(scenario, engine=replace(scenario.engine, concurrency=other))))
    return [_vary(what, case, thresholds) for what, case in cases]


def _estimation(scenario: Scenario, texts: TextModel) -> list[tuple[str, Scenario]]:
    cases = [("prompt lengths known exactly", replace(scenario, estimated=exact))]
    for z in DEVIATIONS:
        what = f"learned ratios, {z:g} deviations to the safe side"
        cases.append((what, replace(scenario, estimated=Estimates(texts, z).below)))
    for factor in SPREADS:
        wider = Estimates(spread(texts, factor), DEVIATIONS[-1]).below
        cases.append((f"the same, spread of bytes per token x {factor:g}", replace(scenario, estimated=wider)))
    return cases


def _faster(workload: Workload, factor: float) -> Workload:
    return workload.with_rate(workload.needs_rate().rate * factor)


def _vary(what: str, scenario: Scenario, thresholds: tuple[int, ...]) -> Variation:
    planner = Planner(scenario)
    fleet = planner.split(thresholds).fleet
    return Variation(what, fleet.gpus, saved(fleet, planner.homogeneous), not fleet.problems)
