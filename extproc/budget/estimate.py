"""The interface of estimators, and the one function that decides whether a request fits a pool."""

import math
from collections.abc import Iterator
from typing import Any, Literal, Protocol

import msgspec

from extproc.budget.observation import Basis, Observation
from extproc.budget.sums import Table

Source = Literal["exact", "learned", "prior"]

Verdict = Literal["used", "no_usage", "unparsable", "implausible", "outlier", "exact", "not_text", "failed"]
"""What became of an observation. `used`: prompt and output figures learned from it. `outlier`: the same, by a
bounded step. `exact`, `not_text`: only output figures did. Nothing was learned from the others; `failed` is an
error of ours."""

Snapshot = dict[str, list[dict[str, Any]]]
"""What was learned as JSON-compatible values, by kind of figure."""


class Estimate(msgspec.Struct, frozen=True):
    """Prompt tokens of one prompt.

    `tokens`: the expected number. `upper`: the number not exceeded, with the configured confidence; equal to
    `tokens` for an exact count. `source`: where the figure comes from.
    """

    tokens: int
    upper: int
    source: Source


class Reserve(msgspec.Struct, frozen=True):
    """Output tokens set aside for a request.

    `source`: `cap` (the client's own, or the API's default), `learned`, `default` (configured), or `unknown`, where
    `tokens` is 0 and the request goes to the largest pool.
    """

    tokens: int
    source: Literal["cap", "learned", "default", "unknown"]


class RawRatio(msgspec.Struct, frozen=True):
    """Bytes of a request body per token. A body of B bytes has B / `mean` tokens, at most B / `careful`."""

    mean: float
    careful: float
    source: Source

    def estimate(self, size: float) -> Estimate:
        """Estimate a body of `size` bytes, as the in-proxy filter does with the same figures."""
        return Estimate(math.ceil(size / self.mean), math.ceil(size / self.careful), self.source)


class Estimator(Protocol):
    """Learns the prompt tokens of a feature vector.

    `estimate`, `raw`, `is_settled` and `learn` take O(1) time, the others a step for each figure that is kept, of
    which there is a bounded number. `kinds`: the first parts of its keys in a `Table`.
    """

    kinds: frozenset[str]

    def estimate(self, model: str, category: str, basis: Basis, features: tuple[float, ...]) -> Estimate:
        """Estimate the prompt tokens of `features` (layout: `extproc.budget.features`)."""
        ...

    def raw(self, model: str, category: str) -> RawRatio:
        """Return the figures behind `estimate` for basis `raw`, by which the in-proxy filter decides."""
        ...

    def raw_keys(self) -> set[tuple[str, str]]:
        """Return the keys of all such figures: model and category, "" for all models or categories."""
        ...

    def is_settled(self, model: str, category: str, basis: Basis) -> bool:
        """Whether enough has been learned about exactly these, so that no more general figure stands in."""
        ...

    def learn(self, observation: Observation) -> Verdict:
        """Learn from one usage report. Never raises."""
        ...

    def snapshot(self) -> Snapshot:
        """Return what was learned, for people, in `/state`."""
        ...

    def prepare(self) -> Iterator[None]:
        """Do what takes time in `export` and `take` beforehand, in small steps, between which it may learn."""
        ...

    def export(self) -> Table:
        """Return everything learned, in the form that is stored and shared."""
        ...

    def take(self) -> Table:
        """Return what was learned since the last `take`."""
        ...

    def ready(self, table: Table) -> Iterator[None]:
        """Do what takes time in `restore` beforehand, in small steps, between which it may learn. Never raises."""
        ...

    def restore(self, table: Table) -> None:
        """Replace what was learned by the entries of `table` that are of this estimator's kinds and possible.

        Drops what `take` has not returned yet. Never raises: the table may come from anywhere.
        """
        ...


def fits(estimate: Estimate, cap: int, capacity: int) -> bool:
    """Whether a prompt and its output fit `capacity` tokens.

    The margin for error is in `estimate.upper` alone. The cap is not an estimate: the server adds it to the
    prompt as it stands (vLLM rejects `prompt + max_tokens > max_model_len`).
    """
    return estimate.upper + cap <= capacity
