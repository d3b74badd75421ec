"""However a request ends, it is counted as what it was, and teaches no more than its answer said: in every mode."""

import http.client
import json
from typing import Any

import pytest

from extproc.demo.pool import Behaviour
from tests.envoy.client import CHAT, chat, connect
from tests.envoy.conftest import Start
from tests.envoy.counts import ENTRIES, OBSERVATIONS
from tests.envoy.modes import BODY, MODES, Mode, heard, name
from tests.envoy.stack import Stack

MESSAGES = "/v1/messages"
"""Its streams tell of prompt tokens at their start, of completion tokens at their end."""

RESERVING = {"output": {"default": 100}}
"""So that a request without a cap goes short, too."""

every_mode = pytest.mark.parametrize("mode", MODES, ids=name)


def ended(stack: Stack, mode: Mode, **ends: int) -> None:
    """Check how requests ended, where the access log tells."""
    if mode != BODY:
        assert {end: stack.count(ENTRIES, pool="short", end=end) for end in ends} == ends


def seen_before_leaving(stack: Stack, path: str, request: dict[str, Any], mark: bytes) -> bytes:
    """Hang up as soon as `mark` is seen in the answer, and return what has come of it."""
    body = json.dumps(request).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    with connect(stack.url) as client:
        client.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        seen = b""
        while mark not in seen:
            seen += client.recv(4096)
    return seen


@every_mode
def test_failures_and_silence(shared_mode: Start, mode: Mode) -> None:
    """A 5xx answer and one without usage are two observations without usage, and only one of them has failed."""
    stack = shared_mode(mode, **RESERVING)
    stack.pools.behave(Behaviour(status=503))
    assert stack.send(chat("hello", max_tokens=5)).status == 503
    stack.pools.behave(Behaviour(usage=False))
    assert stack.send(chat("hello", max_tokens=5)).status == 200
    heard(stack, mode, 2)
    ended(stack, mode, failed=1, completed=1)
    assert stack.count(OBSERVATIONS, verdict="no_usage") == 2
    assert stack.count("dualpool_misroutes_total") == 0
    assert stack.count("dualpool_upstream_retries_total") == 0


@every_mode
def test_a_retried_misroute(start_mode: Start, mode: Mode) -> None:
    """The short pool refuses, the long one answers: a misroute that is learned from, and in the log one retry."""
    stack = start_mode(mode, estimation={"estimator": "ratio", "prior_bytes_per_token": 12})
    misrouted = stack.send(chat("word " * 2500, max_tokens=5))
    assert (misrouted.status, stack.reached(misrouted)) == (200, ["short", "long"])
    heard(stack, mode, 1)
    ended(stack, mode, rejected=1, completed=0)
    assert stack.count(OBSERVATIONS, verdict="no_usage") == 0
    assert stack.count("dualpool_misroutes_total", pool="short", kind="rejected") == 1
    assert stack.count("dualpool_upstream_retries_total", pool="short") == (mode != BODY)
    served = "short" if mode == BODY else "long"  # the access log tells of the pool that answered
    assert stack.count("dualpool_prompt_tokens_total", pool=served) > 2500


@every_mode
def test_a_request_that_both_pools_refuse(shared_mode: Start, mode: Mode) -> None:
    """That is the client's mistake: its 400 comes from the largest pool, and is no misroute."""
    stack = shared_mode(mode, **RESERVING)
    stack.pools.behave(Behaviour(status=400))
    refused = stack.send(chat("hello", max_tokens=5))
    assert (refused.status, stack.reached(refused)) == (400, ["short", "long"])
    heard(stack, mode, 1)
    ended(stack, mode, failed=1, rejected=0)
    assert stack.count("dualpool_misroutes_total") == 0


@every_mode
def test_an_answer_that_fills_its_pool(shared_mode: Start, mode: Mode) -> None:
    """Without a cap, an answer that ends at the context of the pool it was sent to is a truncated one."""
    stack = shared_mode(mode, **RESERVING)
    stack.pools.behave(Behaviour(completion=5000))
    assert stack.lands(chat("word " * 200)) == "short"
    heard(stack, mode, 1)
    ended(stack, mode, truncated=1, completed=0)
    assert stack.count("dualpool_misroutes_total", pool="short", kind="truncated") == 1


@every_mode
def test_a_client_that_leaves(shared_mode: Start, mode: Mode) -> None:
    """Who hangs up in the middle of an answer teaches what the prompt was, and no length."""
    stack = shared_mode(mode, **RESERVING)
    lengths = learned_lengths(stack)
    stack.pools.behave(Behaviour(pace=0.05, completion=1000))
    seen = seen_before_leaving(
        stack, MESSAGES, {**chat("hello there " * 20), "stream": True}, b"content_block_delta"
    )
    assert seen.startswith(b"HTTP/1.1 200")
    heard(stack, mode, 1)
    ended(stack, mode, disconnected=1, completed=0)
    taught_the_prompt_alone(stack, lengths)


def test_a_client_that_leaves_on_the_last_event(start_mode: Start) -> None:
    """As the `openai` package does: nothing is missing, though the stream has not come to its end."""
    stack = start_mode(BODY, output={"default": 100})
    stack.pools.behave(Behaviour(pace=0.05, completion=7))
    asked = {"stream": True, "stream_options": {"include_usage": True}}
    seen_before_leaving(stack, CHAT, {**chat("hello there " * 20), **asked}, b"[DONE]")
    heard(stack, BODY, 1)
    assert stack.count("dualpool_completion_tokens_total") == 7
    assert stack.service.state()["learned"]["output"]


@every_mode
def test_a_pool_that_breaks_off(shared_mode: Start, mode: Mode) -> None:
    """An answer that its pool cuts has failed, whatever its status was, and teaches no length either."""
    stack = shared_mode(mode, **RESERVING)
    lengths = learned_lengths(stack)
    stack.pools.behave(Behaviour(pace=0.02, cut_after=4))
    with pytest.raises(http.client.IncompleteRead):
        stack.send({**chat("hello there " * 20), "stream": True}, path=MESSAGES)
    heard(stack, mode, 1)
    ended(stack, mode, failed=1, completed=0)
    taught_the_prompt_alone(stack, lengths)


def learned_lengths(stack: Stack) -> Any:
    return stack.service.state()["learned"]["output"]


def taught_the_prompt_alone(stack: Stack, lengths: Any) -> None:
    assert stack.count(OBSERVATIONS, verdict="used") == 1
    assert stack.count("dualpool_prompt_tokens_total") > 20
    assert stack.count("dualpool_completion_tokens_total") == 0
    assert learned_lengths(stack) == lengths
