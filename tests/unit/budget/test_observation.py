"""Rules of `extproc.budget.observation.ending`."""

from typing import Any

import pytest

from extproc.body.usage import Usage
from extproc.budget.observation import Outcome, ending
from tests.unit.budget.test_ratio import observation


@pytest.mark.parametrize(
    ("status", "usage", "changes", "outcome"),
    [
        (200, Usage(100, 10), {}, "completed"),
        (200, None, {}, "completed"),
        (500, None, {}, "failed"),
        (0, None, {}, "failed"),
        (400, None, {}, "rejected"),
        (400, None, {"largest": True}, "failed"),
        (200, Usage(900, 10), {"cap": 100}, "completed"),
        (200, Usage(901, 10), {"cap": 100}, "rejected"),
        (200, Usage(901, 10), {"cap": 100, "largest": True}, "completed"),
        (200, Usage(901, 10), {"cap": 100, "prompts": 3}, "completed"),
        (200, Usage(1000), {"cap": 0}, "completed"),
        (200, Usage(1001), {"cap": 0}, "rejected"),
        (200, Usage(1001, 10), {"cap": None}, "rejected"),
        (200, Usage(900, 100), {"cap": None, "finish_reason": "length"}, "truncated"),
        (200, Usage(900, 99), {"cap": None, "finish_reason": "length"}, "completed"),
        (200, Usage(900, 100), {"cap": None, "finish_reason": "stop"}, "completed"),
        (200, Usage(900, 100), {"cap": 100, "finish_reason": "length"}, "completed"),
        (200, Usage(900, 100), {"cap": 200, "finish_reason": "length", "largest": True}, "truncated"),
        (200, Usage(900, 200), {"cap": None, "finish_reason": "length", "choices": 2}, "truncated"),
    ],
)
def test_how_a_request_ended(status: int, usage: Usage | None, changes: dict[str, Any], outcome: Outcome) -> None:
    """Rejected: prompt and cap exceed the pool. Truncated: ended at the pool's capacity, before any cap."""
    reason = changes.get("finish_reason")
    request = observation(None, capacity=1000, **{k: v for k, v in changes.items() if k != "finish_reason"})
    ended = ending(request, status, usage, reason)
    assert (ended.outcome, ended.usage, ended.finish_reason) == (outcome, usage, reason)


@pytest.mark.parametrize(("prompts", "usage"), [(1, Usage(100)), (2, None)])
def test_an_answer_that_was_cut(prompts: int, usage: Usage | None) -> None:
    """How long it would have been nobody knows; of a batch, not even how long its prompts are."""
    ended = ending(observation(None, capacity=1000, prompts=prompts), 200, Usage(100, 10), whole=False)
    assert ended.usage == usage


@pytest.mark.parametrize(
    ("changes", "usage"),
    [({}, Usage(100, 10)), ({"choices": 2}, Usage(100)), ({"prompts": 2}, None)],
    ids=["one", "choices", "batch"],
)
def test_an_answer_that_was_cut_after_it_told_why_it_ended(changes: dict[str, int], usage: Usage | None) -> None:
    """It is as long as it says. Of several, others may have gone on."""
    request = observation(None, capacity=1000, **changes)
    assert ending(request, 200, Usage(100, 10), "stop", whole=False).usage == usage


@pytest.mark.parametrize("prompts", [0, 2])
def test_a_sum_over_prompts_is_no_misroute(prompts: int) -> None:
    """Of several prompts, or nobody knows how many, usage does not say how long one was."""
    request = observation(None, capacity=1000, cap=None, prompts=prompts)
    assert ending(request, 200, Usage(900, 5000), attempts=2).outcome == "completed"


def test_several_choices_do_not_fill_a_context_together() -> None:
    """Each has its own: two answers of 75 tokens beside 900 of prompt end before a context of 1,000."""
    request = observation(None, capacity=1000, cap=None, choices=2)
    assert ending(request, 200, Usage(900, 150), "length").outcome == "completed"
