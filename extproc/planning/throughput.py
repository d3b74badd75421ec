"""Requests per second one instance sustains: measured, or estimated from its `Engine`."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from extproc.planning.engine import BLOCK, Engine
from extproc.planning.errors import PlanError
from extproc.planning.json_file import read_json
from extproc.planning.workload import Floats, Workload


@dataclass(frozen=True)
class Throughput:
    """What one instance does with a kind of request.

    `rate`: requests per second at saturation. `slots`: sequences running at once. `demand`: seconds of the instance
    one request costs beyond its share of reading weights. `service_cv2`: squared coefficient of variation of the
    service time. `measured`: read or typed in, not estimated.
    """

    rate: float
    slots: float
    demand: float
    service_cv2: float
    measured: bool = False


def prefill_chunks(inputs: Floats, engine: Engine) -> Floats:
    """Iterations each prompt takes when it has the token budget of an iteration to itself."""
    return np.asarray(np.ceil(inputs / engine.batched_tokens), np.float64)


def _later(workload: Workload) -> Floats:
    """Output tokens after the first, which ends the prefill."""
    return np.asarray(np.maximum(workload.outputs - 1, 0), np.float64)


def iterations(workload: Workload, engine: Engine) -> Floats:
    """Iterations of each request: its prefill chunks, the last of which gives the first token, and the rest."""
    return np.asarray(prefill_chunks(workload.inputs.astype(float), engine) + _later(workload), np.float64)


def context_read(workload: Workload, engine: Engine) -> Floats:
    """KV entries read over the life of each request, summed over its iterations.

    A prompt of n tokens in c chunks reads n/c, 2n/c … n of them, n·(c + 1)/2 in all; token i after the first n + i.
    """
    inputs, later = workload.inputs.astype(float), _later(workload)
    chunks = prefill_chunks(inputs, engine)
    return np.asarray(inputs * (chunks + 1) / 2 + later * inputs + later * (later + 1) / 2, np.float64)


def demands(workload: Workload, engine: Engine) -> Floats:
    """Seconds of the instance each request costs by itself: compute, attention, and its KV reads."""
    inputs, later = workload.inputs.astype(float), _later(workload)
    compute = engine.token_time * (inputs + later) + engine.pair_time * inputs**2 / 2
    return np.asarray(compute + engine.kv_time * context_read(workload, engine), np.float64)


def estimate(workload: Workload, engine: Engine) -> Throughput:
    """Estimate the throughput of a saturated instance.

    With x requests finishing an iteration, an iteration takes W + x·D, so the rate is x / (W + x·D). x is limited
    by the slots (N sequences, S iterations each: N / S) and by the token budget of an iteration, B over the tokens
    a request computes: its prompt, and one for each token after the first.
    """
    steps = workload.mean(iterations(workload, engine))
    demand = workload.mean(demands(workload, engine))
    slots = float(engine.slots)
    if engine.concurrency == "paged":
        resident = workload.mean(context_read(workload, engine)) / steps + BLOCK / 2
        slots = min(slots, engine.kv_tokens / resident)
    slots = max(slots, 1.0)
    finished = min(slots / steps, engine.batched_tokens / workload.mean(workload.inputs + _later(workload)))
    rate = finished / (engine.weights_time + finished * demand)
    return Throughput(rate, slots, demand, _service_cv2(workload, engine))


def _service_cv2(workload: Workload, engine: Engine) -> float:
    """Squared coefficient of variation of iterations a request, that of its service time at a steady pace."""
    steps = iterations(workload, engine)
    mean = workload.mean(steps)
    return workload.mean((steps - mean) ** 2) / mean**2


@dataclass(frozen=True)
class Measured:
    """Throughput of one instance as somebody measured it: `value` requests/s, or input and output tokens/s.

    `conditions`: on what requests, empty when that is not known.
    """

    value: float
    unit: Literal["requests", "tokens"] = "requests"
    conditions: str = ""

    def rate(self, workload: Workload) -> float:
        """Requests/s of an instance: tokens become requests of the mean length of `workload`."""
        return self.value if self.unit == "requests" else self.value / workload.mean(workload.totals)

    def __str__(self) -> str:
        return f"{self.value:g} {self.unit}/s{self.conditions}"


def measured(given: Measured, workload: Workload, engine: Engine) -> Throughput:
    """Return a measurement in place of the estimate, its slots and variation still estimated.

    The demand is the one with which the formula of `estimate`, limited by slots, gives the rate measured.
    """
    rate = given.rate(workload)
    guess = estimate(workload, engine)
    steps = workload.mean(iterations(workload, engine))
    demand = max(0.0, 1 / rate - engine.weights_time * steps / guess.slots)
    return Throughput(rate, guess.slots, demand, guess.service_cv2, measured=True)


def read_bench(path: Path) -> Measured:
    """Read requests per second of one instance from the result of `vllm bench serve` or `benchmark_serving.py`.

    Raises `PlanError` where the file has no `request_throughput` above 0.
    """
    record = read_json(path)
    value: Any = record.get("request_throughput") if isinstance(record, dict) else None
    if type(value) not in (int, float) or not 0 < value < math.inf:
        raise PlanError(f"{path}: request_throughput: {value!r}: must be a number above 0")
    return Measured(float(value), conditions=_conditions(record))


def _conditions(record: dict[str, Any]) -> str:
    """The mean length of the requests of a benchmark, where its result says it."""
    keys = ("completed", "total_input_tokens", "total_output_tokens")
    if not all(type(record.get(key)) is int and record[key] > 0 for key in keys):
        return ""
    count, inputs, outputs = (record[key] for key in keys)
    return f" on requests of {inputs / count:.0f} input and {outputs / count:.0f} output tokens on average"
