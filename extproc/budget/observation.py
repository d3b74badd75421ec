"""The one value that carries a request and its answer to the learner."""

from typing import Annotated, Literal

import msgspec

from extproc.body.usage import LARGEST_COUNT, Count, Usage

Basis = Literal["text", "raw", "tokens"]
"""What the features count: decoded text, raw body bytes, or token ids, which are exact and teach nothing."""

Outcome = Literal["completed", "rejected", "truncated", "failed"]
"""How a request ended (see `ending`). `rejected` and `truncated` are the two kinds of misroute."""

PositiveCount = Annotated[int, msgspec.Meta(ge=1, lt=LARGEST_COUNT)]
"""Observations are decoded from untrusted metadata, and these numbers are divisors."""

Feature = Annotated[float, msgspec.Meta(ge=0, le=LARGEST_COUNT)]
"""A count of bytes or places. A larger one, squared, would drown everything learned before."""


class Observation(msgspec.Struct, frozen=True):
    """What was known of a request when it was sent, and what its answer said.

    It travels with the request as Envoy dynamic metadata, so that any replica can learn from any answer.

    `features`: the estimator's feature vector of the whole request, summed over a batch because usage is a sum too
    (layout: `extproc.budget.features`). `estimate`: expected prompt tokens of the whole request at the decision,
    without margin. `cap`: output cap in tokens, None when the client set none. `prompts`: prompts in the batch, 0
    where the body was not read and may be a batch. `choices`: completions of all prompts together, by which
    `completion_tokens` is divided. `teaches`: False where usage says nothing certain about the text (media,
    reasoning of earlier turns, prompts that are cut or come with documents). `pool`, `capacity` (tokens): where the
    request was sent. `largest`: no pool of its set is larger. `usage`, `finish_reason`: from the answer, None until
    it comes and where it does not say. `outcome`: see `ending`.
    """

    model: str
    category: str
    basis: Basis
    features: tuple[Feature, ...]
    estimate: Count
    cap: Count | None
    prompts: Count
    choices: PositiveCount
    teaches: bool
    pool: str
    capacity: PositiveCount
    largest: bool
    usage: Usage | None = None
    finish_reason: str | None = None
    outcome: Outcome = "completed"


def ending(
    request: Observation,
    status: int,
    usage: Usage | None = None,
    finish_reason: str | None = None,
    whole: bool = True,
    attempts: int | None = None,
) -> Observation:
    """Return `request`, completed by its answer and the outcome.

    `whole`: the answer came to its end. The full length of another one is unknown, unless it had told why it
    ended: many clients hang up on the last event. `attempts`: how often the request was sent to a pool, None when
    that is not known.

    The outcome is `rejected` when prompt and cap exceed the pool's context, which the pool answers with a 400.
    Usage shows that when a retry on a larger pool succeeded. Otherwise the 400 itself does, unless it came from
    the largest pool, at once or by a retry: that one refuses only what no pool takes. It is `truncated` when the
    answer ended at the pool's context and not at the request's cap, with reason `length` or an unknown one;
    `failed` with any status other than 2xx; else `completed`. The usage of a batch is a sum, which does not tell
    how its prompts fitted.
    """
    ended = whole or (finish_reason is not None and request.prompts == request.choices == 1)
    if usage is not None and not ended:
        # A stream that was cut has reported one prompt in full, and only a part of the answer.
        usage = msgspec.structs.replace(usage, completion_tokens=None) if request.prompts == 1 else None
    outcome: Outcome = "completed" if 200 <= status < 300 else "failed"
    if request.prompts == 1 and usage is not None and usage.prompt_tokens is not None:
        per_choice = -(-(usage.completion_tokens or 0) // request.choices)
        too_long = usage.prompt_tokens + (request.cap or 0) > request.capacity
        if too_long and attempts != 1 and not request.largest:
            outcome = "rejected"
        elif (
            (request.cap is None or per_choice < request.cap)
            and finish_reason in ("length", None)  # an answer that reaches the context has run out of room
            and usage.prompt_tokens + per_choice >= request.capacity
        ):
            outcome = "truncated"
    elif usage is None and status == 400 and attempts in (None, 1) and not request.largest:
        outcome = "rejected"
    return msgspec.structs.replace(request, usage=usage, finish_reason=finish_reason, outcome=outcome)
