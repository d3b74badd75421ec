"""The interface of an estimator, and the one function that decides whether a request fits a pool."""

import math
from typing import Literal, Protocol

import msgspec

from extproc.budget.observation import Basis, Observation
from extproc.budget.sums import Table

Source = Literal["exact", "learned", "prior"]

Verdict = Literal["used", "no_usage", "unparsable", "implausible", "outlier", "exact", "not_text", "failed"]
"""What became of an observation. `used` moves what was learned of prompts and of answers, `outlier` by a bounded
step; `exact` and `not_text` what was learned of answers alone; all others nothing, `failed` by an error of ours."""


class Estimate(msgspec.Struct, frozen=True):
    """Prompt tokens of one prompt.

    `tokens`: the expected number. `upper`: the number it stays under with the configured confidence; equal to
    `tokens` for an exact count. `source`: where the figure comes from.
    """

    tokens: int
    upper: int
    source: Source


class Reserve(msgspec.Struct, frozen=True):
    """Output tokens set aside. `source`: `cap` (the client's own, or the API's default), `learned`, `default`
    (configured), or `unknown`, where `tokens` is 0 and the request goes to the largest pool."""

    tokens: int
    source: Literal["cap", "learned", "default", "unknown"]


class RawRatio(msgspec.Struct, frozen=True):
    """Bytes of a request body per token. A body of B bytes has B / `mean` tokens, at most B / `careful`."""

    mean: float
    careful: float
    source: Source

    def estimate(self, size: float) -> Estimate:
        """Estimate a body of `size` bytes, as a filter in the proxy does by the same figures."""
        return Estimate(math.ceil(size / self.mean), math.ceil(size / self.careful), self.source)


class Estimator(Protocol):
    """Learns the prompt tokens of a feature vector. Every method is O(1) in time and in memory.

    `kinds`: the first parts of the keys of what it learns.
    """

    kinds: frozenset[str]

    def estimate(self, model: str, category: str, basis: Basis, features: tuple[float, ...]) -> Estimate:
        """Estimate the prompt tokens of `features` (layout: `extproc.budget.features`)."""
        ...

    def raw(self, model: str, category: str) -> RawRatio:
        """Return the figures behind `estimate` for basis `raw`: what decides where the service is not asked."""
        ...

    def raw_keys(self) -> set[tuple[str, str]]:
        """Return model and category, "" for all of them, of whatever has such figures of its own."""
        ...

    def is_settled(self, model: str, category: str, basis: Basis) -> bool:
        """Whether enough has been learned of just these, so that no figure of others stands in."""
        ...

    def learn(self, observation: Observation) -> Verdict:
        """Take one usage report into account. Never raises."""
        ...

    def snapshot(self) -> dict[str, object]:
        """Return what was learned, as plain JSON-compatible values, for people to read in `/state`."""
        ...

    def export(self) -> Table:
        """Return everything learned, in the form that is kept and shared."""
        ...

    def take(self) -> Table:
        """Return what was learned since the last `take`."""
        ...

    def restore(self, table: Table) -> None:
        """Replace what was learned by the entries of `table` that are of this estimator's kind and possible.

        What `take` has not returned yet is dropped. Never raises: the table may come from anywhere.
        """
        ...


def fits(estimate: Estimate, cap: int, capacity: int) -> bool:
    """Whether a prompt and its output fit `capacity` tokens.

    The margin for error is in `estimate.upper` alone. The cap is a promise of the client, not an estimate:
    the model server adds it to the prompt as it stands (vLLM rejects `prompt + max_tokens > max_model_len`).
    """
    return estimate.upper + cap <= capacity
