"""The one value that carries a request and its answer to the learner."""

from typing import Annotated, Literal

import msgspec

from extproc.body.usage import LARGEST_COUNT, Count, Usage

Basis = Literal["text", "raw", "tokens"]
"""What the features count: decoded text, raw body bytes, or token ids (exact: nothing of prompts is learned)."""

Outcome = Literal["completed", "rejected", "truncated", "failed"]
"""How the request ended: see `ending`. `rejected` and `truncated` are the two kinds of misroute."""

PositiveCount = Annotated[int, msgspec.Meta(ge=1, lt=LARGEST_COUNT)]
"""What is decoded comes from outside, and these numbers are divided by."""

Feature = Annotated[float, msgspec.Meta(ge=0, le=LARGEST_COUNT)]
"""A number of bytes, or of places: of one beyond this the square would leave nothing of what was learned before."""


class Observation(msgspec.Struct, frozen=True):
    """What was known when a request was sent and what its answer said.

    It travels with the request as Envoy dynamic metadata, so that any replica can learn from any answer.

    `features`: the estimator's feature vector of the whole request, summed over a batch, because usage is a
    sum too (layout: `extproc.budget.features`). `estimate`: expected prompt tokens of the whole request,
    without margin, as it stood at the decision. `cap`: output cap in tokens, None when the client set none.
    `prompts`: prompts in the batch, 0 where it may be one that nobody has read. `choices`: completions of all of
    them, by which `completion_tokens` is divided. `teaches`: False for prompts whose usage says nothing certain of
    their text (media, reasoning of earlier turns, prompts that are cut or come with documents). `pool`, `capacity`
    (tokens): where it was sent. `largest`: no pool of its set is larger. `usage`, `finish_reason`: what the answer
    said, None before it is there or where it does not say. `outcome`: see `ending`.
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
    """Return `request` completed by what its answer says, and the outcome judged by that.

    `whole`: the answer came to its end; of one that did not, nobody knows how long it would have been, unless it
    had told why it ended: many clients hang up on the last event. `attempts`: how often the request was sent on,
    None when that is not known.

    `rejected`: prompt and cap exceed the pool's context, which the pool answers with a 400. Usage shows it when a
    retry on a larger pool succeeded; else the 400 itself, unless it came from the largest pool, by the decision or
    by a retry: that one refuses only what no pool takes. `truncated`: an answer ended with reason `length`, or
    with none that is known, at the pool's context, and not at the request's cap.
    `failed`: any other status than 2xx. `completed`: the rest. The usage of a batch is a sum, and says nothing of
    how its prompts fitted.
    """
    ended = whole or (finish_reason is not None and request.prompts == request.choices == 1)
    if usage is not None and not ended:
        # What a stream has told before its end is of one prompt, and of a part of the answer.
        usage = msgspec.structs.replace(usage, completion_tokens=None) if request.prompts == 1 else None
    outcome: Outcome = "completed" if 200 <= status < 300 else "failed"
    if request.prompts == 1 and usage is not None and usage.prompt_tokens is not None:
        per_choice = -(-(usage.completion_tokens or 0) // request.choices)
        too_long = usage.prompt_tokens + (request.cap or 0) > request.capacity
        if too_long and attempts != 1 and not request.largest:
            outcome = "rejected"
        elif (
            (request.cap is None or per_choice < request.cap)
            and finish_reason in ("length", None)  # no answer reaches the context but by running out
            and usage.prompt_tokens + per_choice >= request.capacity
        ):
            outcome = "truncated"
    elif usage is None and status == 400 and attempts in (None, 1) and not request.largest:
        outcome = "rejected"
    return msgspec.structs.replace(request, usage=usage, finish_reason=finish_reason, outcome=outcome)
