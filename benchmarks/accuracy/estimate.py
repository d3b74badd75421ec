"""Prequential estimates: each request is estimated before it is learned from."""

from collections.abc import Callable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy.data import Row
from extproc.body.usage import Usage
from extproc.budget.estimate import Estimator
from extproc.budget.linear import LinearEstimator
from extproc.budget.observation import Basis, Observation
from extproc.budget.ratio import RatioEstimator
from extproc.config import Estimation

Array = NDArray[np.float64]


class Method(msgspec.Struct, frozen=True):
    """A way to estimate. `make`: None for bytes over four."""

    name: str
    make: Callable[[], Estimator] | None
    by_category: bool = False
    basis: Basis = "text"


METHODS = (
    Method("bytes / 4", None),
    Method("ratio, one for all", lambda: RatioEstimator(Estimation(), 64)),
    Method("ratio by content class", lambda: RatioEstimator(Estimation(), 64), by_category=True),
    Method("linear", lambda: LinearEstimator(Estimation(), 64)),
    Method("raw bytes (bodyless, in-proxy)", lambda: LinearEstimator(Estimation(), 64), basis="raw"),
)
LINEAR, RAW = METHODS[3:]


class Estimates(msgspec.Struct, frozen=True):
    """In the order of the requests as they came: estimates, upper estimates, true tokens, caps."""

    tokens: Array
    upper: Array
    true: Array
    caps: Array

    @property
    def error(self) -> Array:
        """Relative error, signed."""
        return self.tokens / self.true - 1


def estimate(method: Method, rows: Sequence[Row], tokenizers: Sequence[str], order: Sequence[int]) -> Estimates:
    """Estimate `rows` in `order` and learn from each. `tokenizers`: which one counts at each step."""
    estimator = method.make() if method.make else None
    found = np.empty((4, len(order)))
    for step, number in enumerate(order):
        row = rows[number]
        vector = row.raw if method.basis == "raw" else row.text
        tokens = row.tokens[tokenizers[step]]
        expected, upper = tokens, tokens
        if not row.exact or method.basis == "raw":
            expected, upper = _one(estimator, method, row, vector, tokens)
        found[:, step] = expected, upper, max(1, tokens), row.cap
    return Estimates(*found)


def _one(
    estimator: Estimator | None, method: Method, row: Row, vector: tuple[float, ...], tokens: int
) -> tuple[int, int]:
    if estimator is None:
        size = int(row.raw[0]) // 4
        return size, size
    category = row.category if method.by_category else "all"
    made = estimator.estimate("m", category, method.basis, vector)
    estimator.learn(
        Observation(
            model="m",
            category=category,
            basis=method.basis,
            features=vector,
            estimate=made.tokens,
            cap=None,
            prompts=1,
            choices=1,
            teaches=True,
            pool="",
            capacity=1,
            largest=True,
            usage=Usage(prompt_tokens=tokens),
        )
    )
    return made.tokens, made.upper
