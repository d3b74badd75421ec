"""Properties of workloads, sizing and the simulator that hold for any input."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extproc.config import Spillover
from extproc.planning import cdf, queueing
from extproc.planning.dispatch import Oracle
from extproc.planning.engine import Engine
from extproc.planning.errors import PlanError
from extproc.planning.simulator import SimulatedPool, Simulation
from extproc.planning.trace import open_trace, workload
from extproc.planning.workload import NO_CAP

POINTS = st.lists(
    st.tuples(st.integers(1, 10**6), st.floats(0.001, 1)), min_size=2, max_size=20, unique_by=lambda p: p[0]
)

ENGINE = Engine(
    weights_time=0.01,
    token_time=1e-5,
    kv_time=1e-8,
    pair_time=1e-9,
    kv_tokens=1600,
    max_model_len=800,
    max_num_seqs=8,
    batched_tokens=256,
    concurrency="paged",
    tp=1,
    price=1.0,
)


@given(POINTS)
def test_cdf_points_are_kept(points: list[tuple[int, float]]) -> None:
    """A workload read from a CDF has the file's fraction at every point."""
    tokens = sorted(t for t, _ in points)
    masses = np.cumsum([m for _, m in points])
    rising = [[t, float(f)] for t, f in zip(tokens, masses / masses[-1], strict=True)]
    rising[-1][1] = 1.0
    read = cdf.from_points("x", "x", rising, 0.5)
    for number, fraction in rising:
        assert read.share(read.totals <= number) == pytest.approx(fraction, abs=1e-9)


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=5), st.lists, max_leaves=8))
def test_anything_else_is_an_error_of_one_line(points: Any) -> None:
    """Whatever JSON a file holds, it is a CDF or one line says why not."""
    message = ""
    try:
        cdf.from_points("x", "file", points, 0.5)
    except PlanError as error:
        message = str(error)
    assert "\n" not in message


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(
    st.lists(
        st.tuples(st.none() | st.integers(-1, 9000), st.none() | st.integers(-1, 9000), st.floats(0, 1e9)),
        min_size=0,
        max_size=8,
    )
)
def test_any_usage_log_is_read_or_refused(tmp_path: Path, rows: list[tuple[int | None, int | None, float]]) -> None:
    """A log of any counts is a workload that accounts for every row, or an error of one line."""
    path = tmp_path / "log.jsonl"
    names = ("prompt_tokens", "completion_tokens", "timestamp")
    path.write_text("".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows))
    try:
        read = workload(open_trace(path))
    except PlanError as error:
        message = str(error)
    else:
        message = ""
        assert read.rows + read.bad == len(rows)
        assert read.weights.sum() == read.rows
    assert "\n" not in message


@given(st.integers(1, 500), st.floats(0.01, 0.99), st.floats(0, 5), st.floats(0.001, 100))
def test_waits_grow_with_load(servers: int, busy: float, cv2: float, service: float) -> None:
    """More load never shortens the mean wait, and no wait is negative."""
    waits = [
        queueing.erlang_c(servers, load) * queueing.conditional_wait(servers, load, service, cv2)
        for load in (servers * busy * 0.9, servers * busy)
    ]
    assert 0 <= waits[0] <= waits[1] * (1 + 1e-9)


@settings(max_examples=25)
@given(
    st.lists(
        st.tuples(st.floats(0, 2), st.integers(1, 700), st.integers(1, 300), st.sampled_from([NO_CAP, 1, 90])),
        min_size=1,
        max_size=40,
    ),
    st.booleans(),
)
def test_every_request_ends_and_everything_is_returned(
    rows: list[tuple[float, int, int, int]], spillover: bool
) -> None:
    """Whatever arrives, every request is completed or rejected and all blocks are free at the end."""
    rows = sorted((t, prompt, min(out, cap) if cap != NO_CAP else out, cap) for t, prompt, out, cap in rows)
    pools = [SimulatedPool("short", ENGINE.at(300), 1), SimulatedPool("long", ENGINE, 1)]
    policy = Oracle(tuple(pool.routed_to for pool in pools))
    simulation = Simulation(
        pools, policy, spillover=Spillover(waiting=0.5, interval_seconds=0.05) if spillover else None
    )
    times, prompts, outputs, caps = (np.array(column) for column in zip(*rows, strict=True))
    simulation.run(iter([(times, prompts, outputs, caps, np.zeros_like(caps))]))
    table = simulation.machines.instances
    assert simulation.fleet.completed + simulation.rejected == len(rows)
    assert (table["free"] == table["blocks"]).all()
    assert (table["busy"] <= simulation.time * (1 + 1e-9)).all()
