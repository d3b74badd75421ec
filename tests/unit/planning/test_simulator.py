"""Rules of the simulator, against theory where theory is exact."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from extproc.config import Spillover
from extproc.planning.arrivals import capped, drawn
from extproc.planning.dispatch import Oracle
from extproc.planning.engine import Engine
from extproc.planning.errors import PlanError
from extproc.planning.queueing import conditional_wait, erlang_c
from extproc.planning.simulator import START_ROWS, SimulatedPool, Simulation
from extproc.planning.throughput import estimate
from extproc.planning.trace import Batch
from extproc.planning.workload import NO_CAP, Workload
from tests.unit.planning.conftest import make_workload

SECOND = Engine(
    weights_time=1.0,
    token_time=0.0,
    kv_time=0.0,
    pair_time=0.0,
    kv_tokens=16_000_000,
    max_model_len=100_000,
    max_num_seqs=1,
    batched_tokens=1_000_000,
    concurrency="paged",
    tp=1,
    price=1.0,
)
"""An iteration is one second whatever is in it."""


def run(
    pools: list[SimulatedPool],
    batches: Iterator[Batch],
    spillover: Spillover | None = None,
    ttft: float = math.inf,
) -> Simulation:
    policy = Oracle(tuple(pool.routed_to for pool in pools))
    simulation = Simulation(pools, policy, ttft=ttft, spillover=spillover)
    simulation.run(batches)
    return simulation


def one(engine: Engine, count: int = 1) -> list[SimulatedPool]:
    return [SimulatedPool("one", engine, count)]


def batch(*rows: tuple[float, int, int, int]) -> Iterator[Batch]:
    """Requests of (time, input, output, cap)."""
    times, prompts, outputs, caps = (np.array(column) for column in zip(*rows, strict=True))
    return iter([(times, prompts, outputs, caps, np.zeros_like(caps))])


def random_workload(outputs: np.ndarray[Any, Any], rate: float) -> Workload:
    ones = np.ones(len(outputs), np.int64)
    return replace(
        make_workload((1, 1, 1)), inputs=ones, outputs=outputs, caps=outputs, weights=ones.astype(float)
    ).with_rate(rate)


def test_md1_wait() -> None:
    """One slot and one-second iterations are M/D/1: the mean wait is ρ / 2(1 − ρ) service times."""
    result = run(one(SECOND), drawn(make_workload((1, 1, 1), rate=0.6), 60_000, 3))
    assert result.fleet.mean("ttft") - 1 == pytest.approx(0.6 / (2 * 0.4), rel=0.05)


def test_mmc_wait() -> None:
    """Slots with geometric service of many short iterations are M/M/c: the mean wait is Erlang's."""
    steps, slots, load = 100, 4, 3.0
    outputs = np.random.default_rng(5).geometric(1 / steps, 20_000)
    engine = replace(SECOND, weights_time=1 / steps, max_num_seqs=slots)
    result = run(one(engine), drawn(random_workload(outputs, load), 60_000, 3))
    # Arrivals wait for the iteration under way, half a step on average, and compute their first token in one more.
    wait = result.fleet.mean("ttft") - 1.5 / steps
    service = outputs.mean() / steps
    chance, mean = erlang_c(slots, load), conditional_wait(slots, load, service, 1.0)
    assert wait == pytest.approx(chance * mean, rel=0.1)


@pytest.mark.parametrize(
    ("law", "caps"), [("as logged", [64, 128, NO_CAP]), ("exact", [5, 5, 9]), ("32", [32] * 3)]
)
def test_replayed_requests_have_caps_of_their_own(law: str, caps: list[int]) -> None:
    """Logged caps are kept, also where requests differ in nothing else; any other law sets them row by row."""
    rows = batch((0.0, 10, 5, 64), (1.0, 10, 5, 128), (2.0, 10, 9, NO_CAP))
    assert [batch[3].tolist() for batch in capped(rows, law)] == [caps]


def test_blocks_and_places_are_returned(engine: Engine) -> None:
    """When all is done every block is free and nobody runs or waits."""
    result = run(one(engine, 3), drawn(make_workload((300, 90, 90), (20, 200, 200), rate=20), 2_000, 3))
    table = result.machines.instances
    assert (table["free"] == table["blocks"]).all()
    assert table["running"].sum() + table["waiting"].sum() == 0
    assert result.fleet.completed == 2_000


def test_utilisation_and_kv_use_are_shares(engine: Engine) -> None:
    """No instance is busy for longer than the simulation, nor are more blocks in use than there are."""
    result = run(one(engine), drawn(make_workload((300, 90, 90), rate=50), 1_000, 3))
    table = result.machines.instances
    assert table["busy"].max() <= result.time * (1 + 1e-9)
    assert (table["block_time"] <= table["blocks"] * result.time).all()
    assert (table["slot_time"] <= table["seqs"] * result.time).all()


def test_every_token_is_generated_in_spite_of_preemption(engine: Engine) -> None:
    """Sequences that outgrow the blocks are preempted, computed again and finished with all their tokens."""
    result = run(one(engine), drawn(make_workload((100, 500, 500), rate=50), 200, 3))
    assert result.fleet.preemptions > 0
    assert result.fleet.tokens == 200 * 500


def test_reserved_concurrency_never_preempts(engine: Engine) -> None:
    """With max_model_len set aside there is nothing to run out of."""
    reserved = replace(engine, concurrency="reserved")
    result = run(one(reserved), drawn(make_workload((100, 500, 500), rate=50), 200, 3))
    assert result.fleet.preemptions == 0


def test_prefill_is_chunked(engine: Engine) -> None:
    """A prompt of three token budgets takes three iterations to its first token."""
    result = run(one(engine), batch((0.0, 768, 1, 1)))
    assert result.fleet.mean("ttft") == pytest.approx(3 * (0.01 + 256 * 1e-5))


def test_iteration_costs_weights_tokens_and_context() -> None:
    """An iteration takes W plus what its tokens and the KV they read cost."""
    engine = replace(SECOND, token_time=0.1, kv_time=0.01)
    result = run(one(engine), batch((0.0, 10, 3, 3)))
    prefill, decode = 1 + 10 * 0.1 + 10 * 0.01, 2 * (1 + 0.1) + (11 + 12) * 0.01
    assert result.fleet.mean("latency") == pytest.approx(prefill + decode)


@pytest.mark.parametrize("concurrency", ["paged", "reserved"])
def test_saturated_throughput_agrees_with_the_closed_form(engine: Engine, concurrency: Any) -> None:
    """A saturated instance does what the closed form says, within 10 %."""
    roomy = replace(engine, kv_tokens=16_000, max_num_seqs=64, concurrency=concurrency)
    workload = make_workload((100, 50, 50), (400, 20, 20), (30, 200, 200), rate=1000)
    result = run(one(roomy), drawn(workload, 5_000, 3))
    assert result.fleet.completed / result.time == pytest.approx(estimate(workload, roomy).rate, rel=0.1)


def test_prefill_bound_throughput_agrees_with_the_closed_form(engine: Engine) -> None:
    """Where the tokens of an iteration are the limit, only the sequences that decode take some: within 5 %."""
    roomy = replace(engine, kv_tokens=160_000, max_num_seqs=128)
    workload = make_workload((700, 5, 5), (100, 20, 20), rate=1000)
    result = run(one(roomy), drawn(workload, 3_000, 3))
    assert result.fleet.completed / result.time == pytest.approx(estimate(workload, roomy).rate, rel=0.05)


def test_requests_over_every_capacity_are_rejected(engine: Engine) -> None:
    """vLLM refuses a prompt and a cap beyond max_model_len."""
    result = run(one(engine), batch((0.0, 700, 10, 101), (1.0, 700, 10, 100)))
    assert (result.rejected, result.fleet.completed) == (1, 1)


def test_answers_without_a_cap_end_at_the_context(engine: Engine) -> None:
    """Without a cap generation stops at max_model_len and counts as truncated."""
    result = run(one(engine), batch((0.0, 700, 300, NO_CAP)))
    assert (result.truncated, result.fleet.tokens) == (1, 100)


class Always:
    """Sends everything to one pool and remembers how it ended."""

    def __init__(self, place: int) -> None:
        self.place = place
        self.heard: list[tuple[int, int, str]] = []

    def choose(self, serial: int, prompt: int, output: int, cap: int, size: int = 0) -> int:  # noqa: ARG002 - the protocol's
        return self.place

    def ended(self, serial: int, generated: int, outcome: str) -> None:
        self.heard.append((serial, generated, outcome))


def test_littles_law() -> None:
    """Poisson arrivals find as many requests in the system, on average, as arrive during the mean latency."""
    found: list[int] = []

    class Counting(Always):
        def choose(self, serial: int, prompt: int, output: int, cap: int, size: int = 0) -> int:
            (server,) = simulation.machines.servers(0)
            found.append(int(server.waiting + server.running))
            return super().choose(serial, prompt, output, cap, size)

    simulation = Simulation(one(SECOND), Counting(0))
    simulation.run(drawn(make_workload((1, 1, 1), (1, 5, 5), rate=0.2), 20_000, 3))
    assert np.mean(found) == pytest.approx(0.2 * simulation.fleet.mean("latency"), rel=0.05)


def test_misroutes_are_retried_on_the_long_pool(engine: Engine) -> None:
    """A request the short pool refuses is answered by the long one."""
    pools = [SimulatedPool("short", engine.at(200), 1), SimulatedPool("long", engine, 1)]
    simulation = Simulation(pools, Always(0))
    simulation.run(batch((0.0, 150, 10, 51), (1.0, 150, 10, 50)))
    assert (simulation.retried, simulation.refused) == (1, [1, 0])
    assert [m.completed for m in simulation.by_pool] == [1, 1]


def test_spillover_uses_room_in_the_long_pool(engine: Engine) -> None:
    """A pool spills from its mark on, seen at the next look, until it drains; without spillover it does not."""
    pools = [SimulatedPool("short", replace(engine.at(200), max_num_seqs=1), 1), SimulatedPool("long", engine, 1)]
    settings = Spillover(waiting=2, interval_seconds=1)
    burst = [(0.0, 50, 150, 150)] * 4  # a second and a half each, one after the other
    later = [(1.2, 50, 5, 5), (200.0, 50, 5, 5)]
    assert run(pools, batch(*burst), spillover=settings).spilled == 0  # nobody has looked since
    assert run(pools, batch(*burst, *later), spillover=settings).spilled == 1
    assert run(pools, batch(*burst, *later)).spilled == 0


def test_a_full_pool_is_not_spilled_to(engine: Engine) -> None:
    """Both saturated: requests stay where they belong."""
    slots = [replace(pool, max_num_seqs=1) for pool in (engine.at(200), engine)]
    pools = [SimulatedPool(name, slot, 1) for name, slot in zip(("short", "long"), slots, strict=True)]
    settings = Spillover(waiting=2, interval_seconds=1)
    both = [(0.0, 50, 150, 150)] * 4 + [(0.0, 500, 150, 150)] * 4
    assert run(pools, batch(*both, (1.2, 50, 5, 5)), spillover=settings).spilled == 0


def test_policies_hear_in_order_of_completion(engine: Engine) -> None:
    """Answers are heard when they end, with their tokens."""
    policy = Always(0)
    Simulation(one(engine, 2), policy).run(batch((0.0, 10, 50, 50), (0.0, 10, 5, 5), (9.0, 10, 1, 1)))
    assert policy.heard == [(1, 5, "completed"), (0, 50, "completed"), (2, 1, "completed")]


def test_memory_is_what_is_in_flight(engine: Engine) -> None:
    """The request table stays as it is however long the trace is, and grows with what is in flight."""
    idle = run(one(engine, 4), drawn(make_workload((10, 5, 5), rate=50), 3 * START_ROWS, 3))
    assert len(idle.machines.requests) == START_ROWS
    crowd = run(one(engine), batch(*[(0.0, 10, 2, 2)] * (START_ROWS + 10)))
    assert len(crowd.machines.requests) == 2 * START_ROWS
    assert crowd.fleet.completed == START_ROWS + 10


def test_same_seed_same_result(engine: Engine) -> None:
    """A simulation is a function of its seed."""
    workload = make_workload((100, 50, 50), (300, 20, 20), rate=30)
    records = [run(one(engine, 2), drawn(workload, 3_000, 7)).fleet.record() for _ in range(2)]
    assert records[0] == records[1]


def test_percentiles_are_within_two_percent(engine: Engine) -> None:
    """Latency percentiles come from bins of one percent."""
    result = run(one(engine), batch(*[(float(10 * i), 10, 1, 1) for i in range(100)]))
    assert result.fleet.percentile("ttft", 0.99) == pytest.approx(result.fleet.mean("ttft"), rel=0.02)


def test_late_requests_are_counted(engine: Engine) -> None:
    """Requests over the TTFT objective are counted exactly."""
    result = run(one(engine), batch((0.0, 768, 1, 1), (9.0, 10, 1, 1)), ttft=0.02)
    assert result.fleet.late == 1


def test_a_context_beyond_the_cache_is_an_error(engine: Engine) -> None:
    """An instance that vLLM would not start is not simulated."""
    with pytest.raises(PlanError, match="does not fit its KV cache"):
        run(one(engine.at(5000)), batch((0.0, 1, 1, 1)))


def test_a_fleet_beyond_memory_is_an_error(engine: Engine) -> None:
    """More sequences than can be held are refused, not attempted."""
    with pytest.raises(PlanError, match="sequences at once: at most"):
        run(one(engine, 10_000_000), batch((0.0, 1, 1, 1)))


def test_bursty_arrivals_have_their_variation() -> None:
    """Drawn arrivals have the rate of the workload and the coefficient of variation asked for."""
    workload = make_workload((1, 1, 1), rate=5)
    gaps = np.diff(np.concatenate([times for times, *_ in drawn(workload, 50_000, 3, cv=2.0)]))
    assert gaps.mean() == pytest.approx(1 / 5, rel=0.05)
    assert gaps.std() / gaps.mean() == pytest.approx(2.0, rel=0.05)
