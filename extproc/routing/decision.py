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
        "no_output_cap",  # the request states no cap, and the reserve is not learned yet
        "oversized",  # too long for any smaller pool, or to be read at all: decided by size
        "shadow",  # decided, but not acted on
        "rollout",  # the conversation is not in the rolled-out share
        "sticky",  # the conversation has gone long before
        "spillover",  # the pool chosen is saturated, and the next larger one has room
        "slow",  # the body did not arrive in time
        "cut",  # the body is longer than Envoy's buffer
        "not_post",  # the path of an API, with another method
        "no_body",
        "no_length",  # the body stays in Envoy and its length is unknown
        "many_headers",  # one more, the routing header, would be too many, or too long
        "unknown_path",  # not the path of an API that is read
        "error",  # an error of ours
    ]
    | Unreadability
)


class Decision(msgspec.Struct, frozen=True):
    """Where a request goes, and why.

    `pool`: where it is sent. `chosen`: the pool that its budget asks for, which differs from `pool` in shadow
    mode, outside the roll-out, in sticky conversations and when it spills. `budget`: upper prompt tokens plus
    reserve, the number compared with a pool's capacity. `observation`: what the learner needs, None when the body
    gave no facts. `spilled`: the pool it spills to, or would in shadow mode; None when it does not spill.
    """

    pool: Pool
    chosen: Pool
    reason: Reason
    estimate: Estimate | None = None
    reserve: Reserve | None = None
    budget: int = 0
    observation: Observation | None = None
    spilled: Pool | None = None
