"""What the answer depends on: one thing is changed at a time, the threshold stays."""

from dataclasses import dataclass, replace
from typing import TypeAlias

from extproc.config import Config
from extproc.planning.estimates import exact, settled
from extproc.planning.savings import general_savings
from extproc.planning.scenario import Scenario
from extproc.planning.search import Planner, Split, saved
from extproc.planning.text import TextModel, spread
from extproc.planning.workload import Workload, with_caps

MISROUTE_PERCENTS = (1.0, 5.0)
SPREADS = (0.5, 2.0)
RATE_FACTORS = (0.1, 0.5, 2.0, 10.0)
CAPS_TRIED = ("exact", "round", "none")
LONG_FACTORS = (0.5, 2.0)
RHOS = (0.8, 1.2)

Cases: TypeAlias = list[tuple[str, Scenario]]
"""What is changed, in words, and the scenario changed."""


@dataclass(frozen=True)
class Variation:
    """Savings against one pool at full context when `what` is changed.

    `gpus`: of the split fleet, None where the closed form says the savings and nothing is sized.
    """

    what: str
    gpus: int | None
    saved: float
    met: bool


def variations(chosen: Split, scenario: Scenario, cases: Cases) -> list[Variation]:
    """Size the fleet cut as `chosen` in `scenario` and in every case.

    Of two pools, also for other shares of long requests, and with another ρ in the closed form.
    """
    two = len(chosen.thresholds) == 1
    cases = [("as planned", scenario), *cases, *(_alphas(chosen, scenario) if two else [])]
    sized = [_vary(what, case, chosen.thresholds) for what, case in cases]
    return sized + (_rhos(chosen) if two else [])


def changes(scenario: Scenario, config: Config, texts: TextModel) -> Cases:
    """Change estimation, arrival rate, output caps and concurrency, one at a time."""
    traffic = scenario.workload
    cases = _estimation(scenario, config, texts)
    cases += [(f"arrival rate x {f:g}", replace(scenario, workload=_faster(traffic, f))) for f in RATE_FACTORS]
    cases += [(f"output caps: {law}", replace(scenario, workload=with_caps(traffic, law))) for law in CAPS_TRIED]
    other = scenario.other_concurrency
    cases.append((f"{other.engine.concurrency} concurrency", other))
    return cases


def _estimation(scenario: Scenario, config: Config, texts: TextModel) -> Cases:
    def learned(what: str, other: Config, made_of: TextModel) -> tuple[str, Scenario]:
        return what, replace(scenario, config=other, estimated=settled(other, made_of, scenario.workload).below)

    cases = [("prompt lengths known exactly", replace(scenario, estimated=exact))]
    for percent in MISROUTE_PERCENTS:
        cases.append(
            learned(f"{percent:g} % of requests may be misrouted", _with(config, misroute_percent=percent), texts)
        )
    for factor in SPREADS:
        cases.append(learned(f"spread of bytes per token x {factor:g}", config, spread(texts, factor)))
    other = "ratio" if config.estimation.estimator == "linear" else "linear"
    cases.append(learned(f"the {other} estimator", _with(config, estimator=other), texts))
    return cases


def _with(config: Config, **changes: object) -> Config:
    return config.model_copy(update={"estimation": config.estimation.model_copy(update=changes)})


def _faster(workload: Workload, factor: float) -> Workload:
    arrivals = workload.needs_rate()
    return replace(workload, arrivals=arrivals.scaled(arrivals.rate * factor))


def _vary(what: str, scenario: Scenario, thresholds: tuple[int, ...]) -> Variation:
    planner = Planner(scenario)
    fleet = planner.split(thresholds).fleet
    return Variation(what, fleet.gpus, saved(fleet, planner.homogeneous), not fleet.problems)


def _alphas(chosen: Split, scenario: Scenario) -> Cases:
    """The same lengths with fewer or more of those that go long, at the same rate."""
    threshold = chosen.thresholds[0]
    short = scenario.within(threshold, scenario.reserve(threshold))
    share = scenario.workload.mean(short)
    cases: Cases = []
    for factor in LONG_FACTORS:
        alpha = 1 - factor * (1 - share)
        if 0 < share < 1 and alpha > 0:
            weights = scenario.workload.weights * (short * alpha / share + (1 - short) * factor)
            case = replace(scenario, workload=replace(scenario.workload, weights=weights))
            cases.append((f"long requests x {factor:g}: α {alpha:.3f}", case))
    return cases


def _rhos(chosen: Split) -> list[Variation]:
    """The closed form with a short pool faster or slower than it was found to be."""
    return [
        Variation(
            f"short instances x {factor:g} as fast, by the closed form: ρ {chosen.rho * factor:.2f}",
            None,
            general_savings((chosen.alpha, 1 - chosen.alpha), (chosen.rho * factor, chosen.sigma)),
            met=True,
        )
        for factor in RHOS
    ]
