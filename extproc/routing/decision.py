"""What the router decides about one request."""

from typing import Literal

import msgspec

from extproc.body.facts import Unreadability
from extproc.budget.estimate import Estimate, Reserve
from extproc.budget.observation import Observation
from extproc.config import Pool

Reason = (
    Literal[
        "fits",  # the smallest pool whose capacity holds the budget
        "too_long",  # no pool holds the budget
        "no_output_cap",  # no cap, and the reserve is not learned yet
        "oversized",  # longer than any smaller pool could hold, or than is ever read: decided without parsing
        "shadow",  # decided, but not acted on
        "rollout",  # the conversation is not in the rolled-out share
        "sticky",  # the conversation has gone long before
        "spillover",  # the pool its budget asks for is saturated, and the next larger one has room
        "slow",  # the body had not come in time
        "cut",  # the body was longer than Envoy's buffer
        "not_post",  # a path of ours with another method
        "no_body",
        "no_length",  # the body does not come here, and nothing says how long it is
        "unknown_path",  # none of an API that is read
        "error",  # of ours
    ]
    | Unreadability
)


class Decision(msgspec.Struct, frozen=True):
    """Where a request goes, and why.

    `pool`: where it is sent. `chosen`: the pool its budget asks for, which differs from `pool` in shadow mode,
    outside the roll-out, for sticky conversations and when it spills. `budget`: upper prompt tokens plus reserve,
    the number compared with the capacity. `observation`: what the learner needs, None when the body gave no facts.
    `spilled`: where it spills to, or in shadow mode would, None when it does not.
    """

    pool: Pool
    chosen: Pool
    reason: Reason
    estimate: Estimate | None = None
    reserve: Reserve | None = None
    budget: int = 0
    observation: Observation | None = None
    spilled: Pool | None = None
