"""Rules of `extproc.planning.throughput`."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from extproc.planning.engine import Engine
from extproc.planning.errors import PlanError
from extproc.planning.throughput import Measured, estimate, measured, read_bench
from tests.unit.planning.conftest import make_workload


def test_decode_bound_instance(engine: Engine) -> None:
    """N sequences of S iterations finish N/S requests each W + N/S·D seconds."""
    workload = make_workload((16, 85, 85))
    finished = 8 / 85
    demand = 1e-5 * (16 + 84)
    assert estimate(workload, engine).rate == pytest.approx(finished / (0.01 + finished * demand))


def test_prefill_bound_instance(engine: Engine) -> None:
    """Long prompts with short answers are limited by the tokens of an iteration, which decoding takes some of."""
    workload = make_workload((1024, 5, 5))
    finished = 256 / (1024 + 4)
    roomy = replace(engine, kv_tokens=16_000)
    assert estimate(workload, roomy).rate == pytest.approx(finished / (0.01 + finished * 1e-5 * 1028))


def test_paged_sequences_are_limited_by_blocks(engine: Engine) -> None:
    """The mean sequence must fit: KV over mean resident tokens, when that is below max_num_seqs."""
    assert estimate(make_workload((600, 2, 2)), engine).slots < 4


def test_reserved_sequences_are_kv_over_context(engine: Engine) -> None:
    """Reserved concurrency does not depend on the requests."""
    reserved = replace(engine, concurrency="reserved")
    assert estimate(make_workload((10, 10, 10)), reserved).slots == 1600 // 800


def test_measured_rate_is_taken_as_it_is(engine: Engine) -> None:
    """A measurement replaces the estimate."""
    assert measured(Measured(3.5), make_workload((10, 10, 10)), engine).rate == 3.5


def test_tokens_become_requests_of_the_mean_length(engine: Engine) -> None:
    """A measurement in tokens/s is divided by the mean total of the pool's own requests."""
    workload = make_workload((10, 10, 10), (50, 10, 10))
    assert measured(Measured(400, "tokens"), workload, engine).rate == 400 / 40


def test_bench_result(tmp_path: Path) -> None:
    """Requests per second are read from the result of a vLLM benchmark."""
    path = tmp_path / "r.json"
    result = {"completed": 4, "total_input_tokens": 40, "total_output_tokens": 8, "request_throughput": 7.25}
    path.write_text(json.dumps(result))
    assert read_bench(path).value == 7.25
    assert str(read_bench(path)) == "7.25 requests/s on requests of 10 input and 2 output tokens on average"


@pytest.mark.parametrize("text", ["{}", '{"request_throughput": 0}', "[]"])
def test_bench_result_without_throughput(tmp_path: Path, text: str) -> None:
    """A result without a rate above 0 is an error."""
    path = tmp_path / "r.json"
    path.write_text(text)
    with pytest.raises(PlanError, match="request_throughput"):
        read_bench(path)
