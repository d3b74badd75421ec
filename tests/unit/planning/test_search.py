"""Rules of `extproc.planning.search`, `sizing`, `savings` and `sensitivity`."""

import math
from dataclasses import replace
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

from extproc.config import Config, Output
from extproc.planning.engine import Engine
from extproc.planning.errors import PlanError
from extproc.planning.estimates import Estimates
from extproc.planning.savings import general_savings, savings
from extproc.planning.scenario import Scenario
from extproc.planning.search import Planner, against_present, best, saved, verdict
from extproc.planning.sensitivity import changes, variations
from extproc.planning.sizing import Objective, allowed_late
from extproc.planning.text import MEASURED
from extproc.planning.throughput import Measured
from extproc.planning.workload import LEAST_RATE, NO_CAP
from tests.unit.planning.conftest import make_workload

MIXED = make_workload(*[(80, 20, 20)] * 9, (600, 100, 100), rate=1000)


def planner(engine: Engine, /, **changes: Any) -> Planner:
    values: dict[str, Any] = {
        "workload": MIXED,
        "engine": replace(engine, concurrency="reserved"),
        "objective": Objective(ttft=math.inf),
        "lengths": (100, 200, 400),
        "poisson": True,
    }
    return Planner(Scenario(**(values | changes)))


def estimates(margin: float) -> Estimates:
    """Upper estimates over the truth: log-normal with a deviation of 0.2, `margin` above it."""
    normal = np.array([NormalDist().inv_cdf((n + 0.5) / 2000) for n in range(2000)])
    return Estimates(np.exp(margin + 0.2 * normal))


def test_paper_formula() -> None:
    """Savings are α(1 − 1/ρ): four fifths short at four times the rate save 60 %."""
    assert savings(0.8, 4) == pytest.approx(0.6)


def test_general_formula_charges_long_requests() -> None:
    """Long requests that take twice the work cost twice their share."""
    assert general_savings((0.8, 0.2), (4, 0.5)) == pytest.approx(1 - 0.2 - 0.4)


def test_formula_rejects_what_is_no_share() -> None:
    """α is a share, ρ and σ are ratios."""
    with pytest.raises(ValueError, match="alpha"):
        general_savings((1.2, -0.2), (4, 1))
    with pytest.raises(ValueError, match="rho"):
        savings(0.5, 0)


def test_short_pool_pays_when_kv_is_reserved(engine: Engine) -> None:
    """With KV reserved by context, mostly short traffic is cheaper in two pools; equals go to the higher cut."""
    plan = planner(engine)
    chosen = best(plan.curve())
    assert chosen.thresholds == (200,)
    assert saved(chosen.fleet, plan.homogeneous) > 0.2
    assert verdict(chosen, plan).startswith("Splitting saves")


def test_splitting_does_not_pay_when_blocks_are_paged(engine: Engine) -> None:
    """With blocks on demand and room for all sequences, nothing is gained and the verdict says why."""
    plan = planner(engine, engine=replace(engine, kv_tokens=1_000_000))
    words = verdict(best(plan.curve()), plan)
    assert words.startswith("Splitting does not pay against one pool at 800")
    assert "lost" not in words


@pytest.mark.parametrize(
    ("objective", "lost"),
    [
        (Objective(ttft=math.inf), "rounding up to whole instances"),
        (Objective(ttft=0.1), "the TTFT objective and rounding up to whole instances"),
        (Objective(ttft=math.inf, spare=1), "spare instances and rounding up to whole instances"),
    ],
)
def test_the_verdict_names_what_savings_are_lost_to(engine: Engine, objective: Objective, lost: str) -> None:
    """Rounding takes its part of the savings of a small fleet; the TTFT objective and spare instances theirs."""
    plan = planner(engine, workload=MIXED.with_rate(5), objective=objective)
    words = verdict(plan.split((100,)), plan)
    assert words.endswith(f"By throughput alone this would save 47.3%, which is lost to {lost}.")


def test_the_verdict_on_a_short_pool_that_nobody_is_sent_to(engine: Engine) -> None:
    """A threshold below every request is no split."""
    plan = planner(engine, workload=make_workload((600, 100, 100), rate=1000))
    assert verdict(plan.split((100,)), plan).endswith("threshold, 100, no request goes to the short pool.")


def test_nothing_is_predicted_where_every_pool_refuses_every_request(engine: Engine) -> None:
    """Requests longer than full context save nothing."""
    split = planner(engine, workload=make_workload((900, 10, 10), rate=1000)).split((100,))
    assert (split.alpha, split.predicted) == (0, 0)


def test_closed_form_is_the_sizing_without_rounding(engine: Engine) -> None:
    """At a high rate whole instances come within 1 % of the closed form."""
    plan = planner(engine)
    for split in plan.curve():
        assert saved(split.fleet, plan.homogeneous) == pytest.approx(split.predicted, abs=0.01)


def test_closed_form_counts_every_pool(engine: Engine) -> None:
    """With three pools, too, whole instances at a high rate come within 1 % of it."""
    plan = planner(engine, workload=make_workload((80, 20, 20), (200, 50, 50), (600, 100, 100), rate=10_000))
    for split in plan.curve(3):
        assert saved(split.fleet, plan.homogeneous) == pytest.approx(split.predicted, abs=0.01)


def test_every_threshold_is_on_the_curve(engine: Engine) -> None:
    """The curve has every allowed threshold, in order."""
    assert [s.thresholds for s in planner(engine).curve()] == [(100,), (200,), (400,)]


def test_threshold_given_is_the_only_one(engine: Engine) -> None:
    """A threshold is sized by itself; the second baseline is looked for among all lengths nonetheless."""
    workload = make_workload((80, 20, 20), (150, 20, 20), rate=1000)
    plan, free = planner(engine, workload=workload, threshold=130), planner(engine, workload=workload)
    assert [s.thresholds for s in plan.curve()] == [(130,)]
    assert plan.smallest.label == free.smallest.label


def test_three_pools(engine: Engine) -> None:
    """Three pools are cut at every pair of thresholds."""
    assert [s.thresholds for s in planner(engine).curve(3)] == [(100, 200), (100, 400), (200, 400)]


def test_long_pool_stays_without_long_requests(engine: Engine) -> None:
    """Full context stays available even when today's traffic does not need it."""
    plan = planner(engine, workload=make_workload((80, 20, 20), rate=1000))
    fleet = plan.split((400,)).fleet
    assert [p.engine.max_model_len for p in fleet.pools] == [400, 800]
    assert fleet.pools[1].instances == 1


def test_pools_are_no_larger_than_needed(engine: Engine) -> None:
    """One instance fewer would exceed the utilisation cap."""
    pool = planner(engine).homogeneous.pools[0]
    assert pool.rate <= pool.instances * pool.throughput.rate * 0.85
    assert pool.rate > (pool.instances - 1) * pool.throughput.rate * 0.85


def test_spare_instances_come_on_top(engine: Engine) -> None:
    """N+1 adds one instance to each pool."""
    bare = planner(engine).split((100,)).fleet
    spared = planner(engine, objective=Objective(ttft=math.inf, spare=1)).split((100,)).fleet
    assert spared.instances == bare.instances + 2


def test_ttft_below_prefill_cannot_be_met(engine: Engine) -> None:
    """No number of instances makes a prompt faster than its own prefill: the fleet says so."""
    fleet = planner(engine, objective=Objective(ttft=0.001)).homogeneous
    assert "100.00% of requests get their first token after 0.001 s" in fleet.problems[0]


def test_more_instances_when_ttft_asks_for_them(engine: Engine) -> None:
    """A TTFT objective adds instances until the loaded iteration is fast enough."""
    loose = planner(engine).homogeneous
    tight = planner(engine, objective=Objective(ttft=loose.pools[0].ttft - 1e-4)).homogeneous
    assert tight.instances > loose.instances
    assert not tight.problems


def test_pools_share_what_may_be_late(engine: Engine) -> None:
    """A pool that few requests reach may be late for more than 1 % of its own, as long as all are met together."""
    fleet = planner(engine, objective=Objective(ttft=0.06)).split((100,)).fleet
    assert fleet.late <= 0.01 < fleet.pools[1].late
    assert fleet.instances > planner(engine).split((100,)).fleet.instances
    assert [allowed_late(2, share) for share in (1.0, 0.1, 0.001, 0.0)] == pytest.approx([0.005, 0.05, 0.5, 0.5])


def test_a_pool_without_requests_has_no_part_in_what_may_be_late(engine: Engine) -> None:
    """A long pool kept for what may come does not make the short one larger than one pool would be."""
    workload = make_workload(*[(80, 20, 20)] * 9, (300, 50, 50), rate=1000)
    values = {"workload": workload, "engine": replace(engine, kv_tokens=100_000)}
    plan = planner(engine, **values, objective=Objective(ttft=0.03))
    short, long = plan.split((400,)).fleet.pools
    assert long.share == 0
    assert short.instances == plan.homogeneous.instances > planner(engine, **values).homogeneous.instances


@pytest.mark.parametrize("rate", [1e12, 1e300])
def test_no_fleet_is_without_bound(engine: Engine, rate: float) -> None:
    """A rate that nobody has is an error that names it, not a fleet of so many instances."""
    with pytest.raises(PlanError, match="need more than 10,000,000 instances"):
        planner(engine, workload=MIXED.with_rate(rate)).split((100,))


def test_an_instance_that_does_nothing_makes_no_fleet(engine: Engine) -> None:
    """A throughput too small to be a number is an error, too."""
    with pytest.raises(PlanError, match="need more than 10,000,000 instances"):
        planner(engine, engine=replace(engine, weights_time=math.inf)).split((100,))


def test_context_that_does_not_fit_is_a_problem(engine: Engine) -> None:
    """vLLM would not start with a context larger than its KV cache."""
    fleet = planner(engine, engine=replace(engine, max_model_len=3200)).homogeneous
    assert "does not fit the KV cache" in fleet.problems[0]


def test_careful_estimates_send_requests_long(engine: Engine) -> None:
    """Estimates held above the truth shrink the short share."""
    assert planner(engine).split((110,)).alpha == pytest.approx(0.9)
    assert planner(engine, estimated=estimates(0.4).below).split((110,)).alpha < 0.3


def test_alpha_counts_caps_not_outputs(engine: Engine) -> None:
    """A short answer with a large cap is a long request."""
    workload = make_workload((80, 20, 20), (80, 20, 500), rate=1000)
    assert planner(engine, workload=workload).split((100,)).alpha == pytest.approx(0.5)


def test_misjudged_answers_without_a_cap_are_counted(engine: Engine) -> None:
    """An answer longer than what was set aside for it is cut at the context of the pool, not refused."""
    workload = make_workload(*[(50, 10, NO_CAP)] * 99, (50, 100, NO_CAP), rate=1000)
    split = planner(engine, workload=workload, config=Config(output=Output(quantile=0.9))).split((100,))
    assert split.missent.refused == 0
    assert [split.alpha, split.missent.cut] == pytest.approx([1, 0.01])


def test_smallest_context_baseline(engine: Engine) -> None:
    """The second baseline is the smallest allowed context that holds every budget."""
    workload = make_workload((80, 20, 20), (150, 20, 20), rate=1000)
    assert planner(engine, workload=workload).smallest.pools[0].engine.max_model_len == 200


TOO_LONG = make_workload(*[(80, 20, 20)] * 8, (600, 100, 100), (600, 100, 300), rate=1000)


def test_requests_longer_than_full_context_are_not_sized_for(engine: Engine) -> None:
    """What every pool refuses costs nothing: the fleet is that of the nine tenths it serves."""
    served = make_workload(*[(80, 20, 20)] * 8, (600, 100, 100), rate=900)
    plan, without = planner(engine, workload=TOO_LONG), planner(engine, workload=served)
    assert plan.scenario.refused == pytest.approx(0.1)
    assert plan.homogeneous.instances == without.homogeneous.instances
    split, other = plan.split((100,)), without.split((100,))
    assert [p.instances for p in split.fleet.pools] == [p.instances for p in other.fleet.pools]
    assert (split.alpha, split.predicted) == pytest.approx((other.alpha, other.predicted))


def test_all_that_is_served_may_go_short(engine: Engine) -> None:
    """A short pool that holds everything but what is refused has all of it, not a trifle more by rounding."""
    workload = make_workload((80, 20, 20), (60, 20, 20), (600, 100, 300), rate=1000)
    plan = planner(engine, workload=replace(workload, weights=np.array([0.3, 0.3, 0.1])))
    assert plan.split((100,)).alpha == 1


def test_no_context_holds_what_is_longer_than_all(engine: Engine) -> None:
    """The second baseline does not claim to hold requests that need more than full context."""
    assert (
        planner(engine, workload=TOO_LONG).smallest.label == "one pool at 800, where the longest request needs 900"
    )


def test_measured_throughput_counts(engine: Engine) -> None:
    """A measured rate sizes the pool it was measured for."""
    pool = planner(engine, rates={800: Measured(50.0)}).homogeneous.pools[0]
    assert pool.instances == -(-1000 // (50 * 0.85))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": Objective(2.0, utilisation=0)}, "--utilisation: 0"),
        ({"objective": Objective(ttft=0.0)}, "--ttft: 0"),
        ({"rates": {100: Measured(0.0)}}, "--throughput: 100=0"),
    ],
)
def test_impossible_objectives(engine: Engine, changes: dict[str, Any], message: str) -> None:
    """An objective no fleet could have is an error."""
    with pytest.raises(PlanError, match=message):
        planner(engine, **changes)


def test_nothing_to_search(engine: Engine) -> None:
    """Without an allowed threshold there is no best one."""
    with pytest.raises(PlanError, match="--lengths"):
        best(planner(engine, lengths=()).curve())


def test_sensitivity_changes_one_thing(engine: Engine) -> None:
    """Every variation is sized for the same threshold; the first is the plan itself."""
    plan = planner(engine)
    chosen = plan.split((100,))
    rows = {row.what: row for row in variations(chosen, plan.scenario, changes(plan.scenario, Config(), MEASURED))}
    assert rows["as planned"].saved == pytest.approx(saved(chosen.fleet, plan.homogeneous))
    assert rows["arrival rate x 2"].gpus == planner(engine, workload=MIXED.with_rate(2000)).split((100,)).fleet.gpus
    slower = next(row for what, row in rows.items() if what.startswith("short instances x 0.8"))
    assert slower.saved == general_savings((chosen.alpha, 1 - chosen.alpha), (0.8 * chosen.rho, chosen.sigma))
    twice = make_workload(*[(80, 20, 20)] * 8, *[(600, 100, 100)] * 2, rate=1000)
    assert rows["long requests x 2: α 0.800"].gpus == planner(engine, workload=twice).split((100,)).fleet.gpus


def test_sensitivity_of_the_rarest_requests(engine: Engine) -> None:
    """A smaller part of the lowest rate that can be asked for is no error of the user's."""
    scenario = planner(engine, workload=MIXED.with_rate(LEAST_RATE)).scenario
    assert any(what.startswith("arrival rate") for what, _ in changes(scenario, Config(), MEASURED))


def test_misjudged_requests_are_counted(engine: Engine) -> None:
    """Who is sent short and refused, and who is sent long without need, follows from the spread of estimates."""
    workload = make_workload((90, 20, 20), (60, 20, 20), rate=1000)
    exactly = planner(engine, workload=workload).split((100,))
    assert list(exactly.missent) == [0, 0, 0]
    careless = planner(engine, workload=workload, estimated=estimates(0.0).below)
    refused, _, cautious = careless.split((100,)).missent
    assert refused == pytest.approx(0.31 / 2, abs=0.02)  # estimated at 80 of 90 or below
    assert cautious == pytest.approx(0.06 / 2, abs=0.02)  # at more than 80 of 60


def test_headline_names_the_present_fleet() -> None:
    """What the split saves of the fleet in use, or costs beyond it."""
    assert against_present(0.5, 20) == "It saves 50.0% of the present fleet of 20 instances."
    assert against_present(-88.0, 1) == "It costs 8800.0% more than the present fleet of 1 instances."
