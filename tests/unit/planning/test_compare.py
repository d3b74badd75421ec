"""Rules of `extproc.planning.compare`, `dispatch`, `text` and `estimates`."""

import gzip
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from extproc.budget.features import text_bytes
from extproc.budget.learner import new_learner
from extproc.config import Config, Estimation, Pool
from extproc.planning.arrivals import drawn
from extproc.planning.compare import POLICIES, Setting, missed, simulate, simulated, smallest, unsettled
from extproc.planning.dispatch import Learned, Oracle, Static
from extproc.planning.engine import Engine
from extproc.planning.errors import PlanError
from extproc.planning.estimates import exact, settled
from extproc.planning.scenario import Scenario
from extproc.planning.search import Planner
from extproc.planning.simulator import SimulatedPool
from extproc.planning.sizing import Objective
from extproc.planning.text import LOWER, MEASURED, TextKind, Texts, measure, read_model, spread, write_model
from extproc.planning.workload import NO_CAP, Workload
from tests.unit.planning.conftest import make_workload

POOLS = (Pool(name="short", capacity=1000), Pool(name="long", capacity=8000))
PLAIN = (TextKind("plain", 1.0, 4.0, 0.0, MEASURED[1].mix),)
MIXED = make_workload(*[(80, 20, 20)] * 9, (600, 100, 100), rate=40)


def setting(workload: Workload, count: int = 2_000, ttft: float = 0.5) -> Setting:
    return Setting(lambda: drawn(workload, count, 1), PLAIN, seed=1, config=Config(), reserve=100, ttft=ttft)


def two_pools(engine: Engine) -> list[SimulatedPool]:
    return [SimulatedPool("short", engine.at(200), 4), SimulatedPool("long", engine, 4)]


def test_oracle_takes_the_smallest_that_holds_the_request() -> None:
    """Prompt and cap decide; the output where there is no cap."""
    oracle = Oracle(POOLS)
    assert [oracle.choose(0, 900, 50, cap) for cap in (100, 101, NO_CAP)] == [0, 1, 0]
    assert oracle.choose(0, 9000, 1, 1) == 1


def test_static_ratio_divides_bytes() -> None:
    """The static policy has no margin: a text of its own ratio is estimated exactly, but for the template."""
    static = Static(POOLS, PLAIN, 1, 4.0, 100)
    assert [static.choose(0, prompt, 1, NO_CAP) for prompt in (903, 906)] == [0, 1]


def test_learned_policy_starts_careful_and_learns() -> None:
    """The service's own estimator sends borderline requests short only after it has learned their ratio."""
    learned = Learned(new_learner(Config()), POOLS, PLAIN, 1)
    before = learned.choose(0, 850, 10, 100)
    learned.ended(0, 10, "completed")
    for serial in range(1, 60):
        learned.choose(serial, 500, 10, 100)
        learned.ended(serial, 10, "completed")
    assert (before, learned.choose(99, 850, 10, 100)) == (1, 0)


def test_learned_policy_estimates_known_bytes() -> None:
    """Bytes of the trace are estimated as they are: half the bytes of a settled ratio are half the tokens."""
    learned = Learned(new_learner(Config()), POOLS, (TextKind("x", 1.0, 1.0, 0.5),), 1)
    for serial in range(400):
        prompt = 400 + serial
        learned.choose(serial, prompt, 10, 100, 4 * prompt)
        learned.ended(serial, 10, "completed")
    assert [learned.choose(999, 900, 10, 100, size) for size in (3300, 3800)] == [0, 1]


def test_learned_policy_learns_nothing_from_a_rejection() -> None:
    """A rejected request has no usage."""
    learned = Learned(new_learner(Config()), POOLS, PLAIN, 1)
    learned.choose(0, 850, 10, 100)
    learned.ended(0, 0, "rejected")
    assert learned.choose(1, 850, 10, 100) == 1


def test_every_policy_serves_every_request(engine: Engine) -> None:
    """Whatever the policy, all requests are completed, on the same arrivals."""
    for policy in POLICIES:
        pools = [SimulatedPool("one", engine, 8)] if policy == "homogeneous" else two_pools(engine)
        result = simulate(policy, pools, setting(MIXED))
        assert result["fleet"]["completed"] == result["requests"] == 2_000
        assert all(0 < pool["utilisation"] <= 1 for pool in result["pools"])


def test_unknown_policy(engine: Engine) -> None:
    """An unknown policy is answered with those there are."""
    with pytest.raises(PlanError, match="--policies: 'best': must be among homogeneous"):
        simulate("best", two_pools(engine), setting(MIXED))


def test_missed_objective_is_said(engine: Engine) -> None:
    """A fleet too small is reported with its share of late requests; one large enough is not."""
    small = [SimulatedPool("short", engine.at(200), 1), SimulatedPool("long", engine, 1)]
    assert "of requests miss the TTFT objective" in missed(simulate("oracle", small, setting(MIXED)))
    assert missed(simulate("oracle", two_pools(engine), setting(MIXED))) == ""


def test_too_long_requests_are_a_missed_objective(engine: Engine) -> None:
    """A fleet that rejects more than one request in a hundred does not serve its traffic."""
    long = make_workload((900, 10, 10), (10, 10, 10), rate=10)
    assert "longer than any pool holds" in missed(simulate("oracle", two_pools(engine), setting(long)))


def test_a_simulation_shorter_than_its_answers_is_said(engine: Engine) -> None:
    """Answers of ten seconds fill a pool in a minute; a simulation of ten seconds never sees it full."""
    slow = make_workload((80, 1_000, NO_CAP), rate=1)
    pools = [SimulatedPool("one", replace(engine, max_model_len=1_600), 50)]
    short = unsettled(simulate("homogeneous", pools, setting(slow, 10)))
    assert "one of pool one takes 10 s on average" in short
    assert int(short.split("--requests ")[1].split()[0]) == pytest.approx(50, rel=0.5)
    assert unsettled(simulate("homogeneous", pools, setting(slow, 100))) == ""


@pytest.mark.parametrize(("policy", "thresholds"), [("homogeneous", ()), ("oracle", (100,))])
def test_simulated_and_planned_instances_agree(engine: Engine, policy: str, thresholds: tuple[int, ...]) -> None:
    """Where only throughput counts, the smallest pools by simulation are the closed form's within 10 %."""
    workload = MIXED.with_rate(600)
    scenario = Scenario(
        workload=workload,
        engine=replace(engine, concurrency="reserved", kv_tokens=16_000),
        objective=Objective(ttft=0.3, utilisation=0.95),
        poisson=True,
    )
    fleet = Planner(scenario).fleet("planned", thresholds)
    given = [replace(p, instances=2 * p.instances) for p in simulated(fleet)]
    found = smallest(policy, given, setting(workload, 20_000, ttft=0.3))
    assert sum(p.instances for p in found if p) == pytest.approx(fleet.instances, rel=0.1)


def test_spare_instances_are_not_simulated(engine: Engine) -> None:
    """An instance kept for a failure does no work."""
    bare = Scenario(MIXED, engine, Objective(ttft=math.inf), poisson=True)
    spared = replace(bare, objective=Objective(ttft=math.inf, spare=1))
    assert simulated(Planner(bare).homogeneous) == simulated(Planner(spared).homogeneous)


def test_texts_have_the_ratio_of_their_kind() -> None:
    """The mean of bytes per token drawn is the kind's, with its spread."""
    texts = Texts((TextKind("x", 1.0, 3.5, 0.2),), 1)
    ratios = np.array([texts.draw(1000)[1][LOWER] / 1000 for _ in range(20_000)])
    assert ratios.mean() == pytest.approx(3.5, rel=0.01)
    assert ratios.std() / ratios.mean() == pytest.approx(0.2, rel=0.05)


def test_spread_scales_deviations() -> None:
    """Twice the spread is twice every deviation."""
    assert [k.spread for k in spread(MEASURED, 2.0)] == [2 * k.spread for k in MEASURED]


def line(text: str, tokens: int) -> bytes:
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": text}]})
    return json.dumps({"path": "/v1/chat/completions", "body": body, "prompt_tokens": {"llama3": tokens}}).encode()


def test_text_model_measured_from_bodies(tmp_path: Path) -> None:
    """Shares, ratios and mixes come from bodies with token counts, template tokens left out."""
    path = tmp_path / "bodies.jsonl.gz"
    lines = [line("word " * 80, 104), line("word " * 80, 84), b"", line("短" * 300, 304), line("a", 5)]
    path.write_bytes(gzip.compress(b"\n".join(lines)))
    kinds = {k.name: k for k in measure(path)}
    assert kinds["latin"].share == pytest.approx(2 / 3, abs=1e-3)
    assert kinds["latin"].ratio == pytest.approx(4.5)
    assert kinds["cjk"].ratio == pytest.approx(3.0)
    assert dict(kinds["latin"].mix)["lower"] == pytest.approx(0.8)
    assert {k.category for k in kinds.values()} == {"latin", "cjk"}
    assert read_model(write_model(tuple(kinds.values()))) == tuple(kinds.values())


def test_kinds_are_named_where_the_file_names_them(tmp_path: Path) -> None:
    """A line's `category` is its kind of text."""
    path = tmp_path / "bodies.jsonl"
    path.write_bytes(json.dumps(json.loads(line("word " * 80, 104)) | {"category": "chat"}).encode())
    assert [k.name for k in measure(path)] == ["chat"]


def test_shipped_texts_are_whole() -> None:
    """Shares add up, and the byte classes of a byte of text are one byte, but for continuation bytes."""
    assert sum(k.share for k in MEASURED) == pytest.approx(1, abs=1e-3)
    for kind in MEASURED:
        assert text_bytes(tuple(kind.vector.tolist())) == pytest.approx(1, abs=0.02), kind.name
        assert 1 < kind.ratio < 6


@pytest.mark.parametrize("content", [b"{}", b"[", b"", b"\xff"])
def test_texts_that_cannot_be_measured(tmp_path: Path, content: bytes) -> None:
    """A file that is not such lines is an error that names the option."""
    path = tmp_path / "bodies.jsonl"
    path.write_bytes(content)
    with pytest.raises(PlanError, match="--texts"):
        measure(path)


@pytest.mark.parametrize("estimator", ["linear", "ratio"])
def test_estimates_agree_with_the_simulated_router(estimator: Literal["linear", "ratio"]) -> None:
    """The chance to be sent short is what the router does that learns in a simulation."""
    texts = (TextKind("x", 1.0, 4.0, 0.1),)
    config = Config(estimation=Estimation(estimator=estimator))
    learned = Learned(new_learner(config), POOLS, texts, 1)
    short = 0
    for serial in range(4_000):
        place = learned.choose(serial, 750, 10, 100)
        learned.ended(serial, 10, "completed")
        short += place == 0 and serial >= 2_000
    expected = settled(config, texts, make_workload((750, 10, 100))).below(np.array([900 / 750]))[0]
    assert 0.05 < expected < 0.95
    assert short / 2_000 == pytest.approx(expected, abs=0.1)


def test_an_oracle_is_never_above_the_truth() -> None:
    """Exact lengths fit as soon as the capacity is the length."""
    assert exact(np.array([0.99, 1.0, 2.0])).tolist() == [0, 1, 1]
