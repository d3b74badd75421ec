"""The one value that carries a request and its answer to the learner."""

from typing import Literal

import msgspec

Basis = Literal["text", "raw", "tokens"]
"""What the features count: decoded text, raw body bytes, or token ids (exact, teaches nothing)."""

Outcome = Literal["completed", "rejected", "truncated", "failed"]
"""How the request ended.

`completed`: a 2xx answer. `rejected`: the pool answered 400 because the prompt and the output cap exceed its
context. `truncated`: a request without a cap ended with `finish_reason` length at the pool's capacity.
`failed`: any other status, or no answer. Rejected and truncated are the two kinds of misroute.
"""


class Usage(msgspec.Struct, frozen=True):
    """Token counts as the model server reports them; None where the answer does not say.

    `prompt_tokens` counts the whole prompt, cached or not, whatever API it came from.
    """

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None


class Observation(msgspec.Struct, frozen=True):
    """What was known when a request was sent and what its answer said.

    It travels with the request as Envoy dynamic metadata, so that any replica can learn from any answer.

    `features`: the estimator's feature vector of the whole request, summed over a batch, because usage is a
    sum too (layout: `extproc.budget.features`). `estimate`: expected prompt tokens of the whole request,
    without margin, as it stood at the decision. `cap`: output cap in tokens, None when the client set none.
    `choices`: completions per prompt times prompts; `completion_tokens` is divided by it. `teaches`: False for
    bodies whose usage counts more than text (images, audio). `pool` and `capacity` (tokens): where it was sent.
    """

    model: str
    category: str
    basis: Basis
    features: tuple[float, ...]
    estimate: int
    cap: int | None
    choices: int
    teaches: bool
    pool: str
    capacity: int
    usage: Usage | None = None
    finish_reason: str | None = None
    outcome: Outcome = "completed"
