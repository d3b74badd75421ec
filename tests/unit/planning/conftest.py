"""Small engines and workloads for the tests of planning."""

from typing import Any

import numpy as np
import pytest

from extproc.planning.engine import Engine
from extproc.planning.workload import Arrivals, Workload


@pytest.fixture
def engine() -> Engine:
    """An instance with round figures: 10 ms an iteration, 10 µs a token, 100 blocks of KV."""
    return Engine(
        weights_time=0.01,
        token_time=1e-5,
        kv_time=0.0,
        pair_time=0.0,
        kv_tokens=1600,
        max_model_len=800,
        max_num_seqs=8,
        batched_tokens=256,
        concurrency="paged",
        tp=2,
        price=4.0,
    )


def make_workload(*rows: tuple[int, int, int], rate: float | None = 10.0, **changes: Any) -> Workload:
    """A workload of (input, output, cap) rows of equal weight."""
    table = np.array(rows, np.int64)
    values: dict[str, Any] = {
        "name": "made up",
        "inputs": table[:, 0],
        "outputs": table[:, 1],
        "caps": table[:, 2],
        "weights": np.ones(len(rows)),
        "arrivals": None if rate is None else Arrivals(rate, rate),
        "rows": len(rows),
    }
    return Workload(**(values | changes))
