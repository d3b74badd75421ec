"""Rules of `extproc.planning.latency`, beside the simulator too."""

import math
from dataclasses import replace

import numpy as np
import pytest

from extproc.config import Config
from extproc.planning.arrivals import drawn
from extproc.planning.catalog import find_gpu, find_model
from extproc.planning.compare import Setting, simulate
from extproc.planning.engine import Engine, build_engine
from extproc.planning.latency import LATE, PoolModel
from extproc.planning.simulator import SimulatedPool
from extproc.planning.text import MEASURED
from extproc.planning.throughput import estimate
from extproc.planning.workload import Workload
from tests.unit.planning.conftest import make_workload

PROMPTS = make_workload((4000, 200, 200))
MIXED = make_workload(*[(200, 30, 30)] * 3, *[(1500, 20, 20)] * 4, *[(4000, 40, 40)] * 2, (7500, 30, 30))


@pytest.fixture
def roomy() -> Engine:
    """An instance with slots for everybody: who waits, waits for prefill."""
    gpu, model = find_gpu("A100-80G"), find_model("Llama-3-70B")
    return build_engine(gpu, model, tp=8, max_model_len=65_536, concurrency="paged")


def pool(engine: Engine, traffic: Workload, instances: int, use: float) -> tuple[PoolModel, float]:
    """The model of `instances` that are used by the share `use`, and the rate it takes, requests/s."""
    throughput = estimate(traffic, engine)
    rate = use * instances * throughput.rate
    return PoolModel(traffic, engine, throughput, rate), rate


@pytest.mark.parametrize("traffic", [PROMPTS, MIXED])
@pytest.mark.parametrize(("instances", "use"), [(1, 0.3), (1, 0.85), (5, 0.6), (20, 0.3), (20, 0.85)])
def test_within_a_factor_of_two_of_the_simulator(
    roomy: Engine, traffic: Workload, instances: int, use: float
) -> None:
    """P99 TTFT of short and long prompts, at low and high use, of one instance and of many."""
    model, rate = pool(roomy, traffic, instances, use)
    arriving = traffic.with_rate(rate)
    setting = Setting(lambda: drawn(arriving, 20_000, 1), MEASURED, seed=1, config=Config())
    fleet = simulate("homogeneous", [SimulatedPool("one", roomy, instances)], setting)["fleet"]
    assert fleet["ttft"]["p99"] / 2 < model.ttft(instances) < 2 * fleet["ttft"]["p99"]


def test_prefill_is_waited_for_while_slots_are_free(roomy: Engine) -> None:
    """With a slot for everybody a request still waits for the prompts before it on its instance."""
    model, _ = pool(roomy, PROMPTS, 1, 0.8)
    assert model.slot_wait(1) == 0
    assert model.wait(1) > 5 * model.prefill(1)


def test_p99_is_what_one_in_a_hundred_exceeds(roomy: Engine) -> None:
    """The share of late requests at the P99 is 1 %."""
    model, _ = pool(roomy, MIXED, 4, 0.8)
    assert model.late(4, model.ttft(4)) == pytest.approx(LATE, rel=1e-3)


def test_without_load_only_prefill_is_left(roomy: Engine) -> None:
    """Infinitely many instances leave the request's own chunks, half an iteration late."""
    model, _ = pool(roomy, PROMPTS, 1, 0.8)
    alone = 2.5 * roomy.weights_time + 4000 * roomy.token_time + 4000**2 / 2 * roomy.pair_time
    assert model.ttft(math.inf) == pytest.approx(alone)
    assert model.late(math.inf, alone + 1e-9) == 0


def test_more_instances_make_fewer_late(roomy: Engine) -> None:
    """At the same rate the share of late requests falls with every instance."""
    model, _ = pool(roomy, MIXED, 4, 0.8)
    late = [model.late(n, 2.0) for n in (4, 5, 8, 16)]
    assert late == sorted(late, reverse=True)
    assert late[0] > late[-1]


@pytest.mark.parametrize("requests", range(100, 2_001, 100))
def test_p99_is_that_of_99_requests_in_a_hundred(roomy: Engine, requests: int) -> None:
    """Where exactly one request in a hundred is long, the prefill of the others is the P99, however sums round."""
    kinds, short = 57, requests - requests // 100
    counts = [short - short // kinds * (kinds - 1), *[short // kinds] * (kinds - 1), requests - short]
    rows = [(length, 10, 10) for length in (*range(100, 100 + kinds), 50_000)]
    traffic = replace(make_workload(*rows), weights=np.array(counts, float))
    model, _ = pool(roomy, traffic, 1, 1e-6)
    assert model.prefill(1) < 1
