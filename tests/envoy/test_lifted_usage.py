"""Usage that Envoy's filters lift from answers of every API, plain and streamed: to the token."""

import json
from typing import Any

import pytest

from extproc.demo import answers
from extproc.demo.answers import Answer
from extproc.demo.pool import Behaviour
from extproc.render.answers import EVENT_BYTES
from tests.envoy.client import CHAT, chat
from tests.envoy.conftest import Start
from tests.envoy.counts import ENTRIES, OBSERVATIONS
from tests.envoy.stack import Stack, until
from tests.envoy.version import version

TEXT = "hello there " * 20
USAGE_IN_STREAM = {"stream_options": {"include_usage": True}}
BODIES: dict[str, dict[str, Any]] = {
    CHAT: {**chat(TEXT), **USAGE_IN_STREAM},
    "/v1/completions": {"model": "m", "prompt": TEXT, "max_tokens": 5000, **USAGE_IN_STREAM},
    "/v1/responses": {"model": "m", "input": TEXT},
    "/v1/messages": chat(TEXT),
}
SETS = {"default": {"short": 2048, "long": 1_000_000}}
COUNTS = ("prompt_tokens", "completion_tokens")


@pytest.fixture
def stack(shared_mode: Start) -> Stack:
    """One for all, that reads usage from the access log."""
    return shared_mode(("body", "access-log"), sets=SETS)


def added(stack: Stack, path: str, **fields: Any) -> tuple[int, ...]:
    """Send a request; return by how many tokens the counts of prompts and completions have grown."""
    before = {metric: stack.count(metric) for metric in (ENTRIES, *(f"dualpool_{name}_total" for name in COUNTS))}
    assert stack.send({**BODIES[path], **fields}, path=path).status == 200
    until(lambda: stack.count(ENTRIES) == before[ENTRIES] + 1 == stack.count(OBSERVATIONS))
    return tuple(int(stack.count(name) - was) for name, was in before.items() if name != ENTRIES)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", BODIES)
def test_every_api(stack: Stack, path: str, stream: bool) -> None:
    """Prompt and completion are learned as the answer reports them."""
    stack.pools.behave(Behaviour(completion=33))
    usage = stack.send(BODIES[path], path=path).json()["usage"]
    until(lambda: stack.count(ENTRIES) == 1)
    assert added(stack, path, stream=stream) == (usage.get("prompt_tokens", usage.get("input_tokens")), 33)
    assert stack.count(OBSERVATIONS, verdict="no_usage") == 0


@pytest.mark.parametrize("stream", [False, True])
def test_cached_tokens_of_responses(stack: Stack, monkeypatch: pytest.MonkeyPatch, stream: bool) -> None:
    """They lie in the details of the input, in an event within the response."""
    whole = answers.whole

    def cached(path: str, answer: Answer) -> dict[str, Any]:
        body = whole(path, answer)
        return {**body, "usage": {**body["usage"], "input_tokens_details": {"cached_tokens": 32}}}

    monkeypatch.setattr(answers, "whole", cached)
    stack.pools.behave(Behaviour(completion=7))
    assert added(stack, "/v1/responses", stream=stream)[1] == 7
    assert stack.count("dualpool_cached_tokens_total") == 32


_CACHED = {"input_tokens": 9, "cache_read_input_tokens": 32, "output_tokens": 1}


@pytest.mark.parametrize(
    ("first", "last"),
    [
        (_CACHED, {**dict.fromkeys(_CACHED, 0), "output_tokens": 7}),
        ({"input_tokens": 41}, {**_CACHED, "cache_creation_input_tokens": 0, "output_tokens": 7}),
    ],
    ids=["zeros at the end", "the cache at the end alone"],
)
def test_a_prompt_counted_twice(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, first: dict[str, int], last: dict[str, int]
) -> None:
    """Anthropic's two events may each count the prompt: one without its cached part, or not at all."""
    events = (
        {"type": "message_start", "message": {"usage": first}},
        {"type": "message_delta", "usage": last},
    )
    streamed = [f"data: {json.dumps(event)}\n\n".encode() for event in events]
    monkeypatch.setattr(answers, "events", lambda _path, _answer: iter(streamed))
    assert added(stack, "/v1/messages", stream=True) == (41, 7)


@pytest.fixture
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stream answers in one piece: it is the last event, which holds all of it, that is to be long."""
    monkeypatch.setattr(Answer, "pieces", lambda answer: iter((answer.text,)))


@pytest.mark.usefixtures("_at_once")
def test_long_events(stack: Stack) -> None:
    """An event that comes in pieces, longer than 8 KiB, Envoy's default bound, does not hide its usage."""
    stack.pools.behave(Behaviour(completion=5_000, piece=4_000, pace=0.001))
    assert added(stack, "/v1/responses", stream=True)[1] == 5_000  # 30 kB of text, all of it in the last event


@pytest.mark.usefixtures("_at_once")
@pytest.mark.skipif(version() < (1, 39), reason="Envoy 1.38 sees such an event if it comes fast")
def test_events_beyond_the_bound(stack: Stack) -> None:
    """An event of over 1 MiB arrives as it was sent; its usage is not seen, which is counted."""
    # Slowly, so that Envoy finds a part of it: what it reads at once it takes apart at once, however much it is.
    stack.pools.behave(Behaviour(completion=240_000, piece=100_000, pace=0.05))
    reply = stack.send({**BODIES["/v1/responses"], "stream": True}, path="/v1/responses")
    last = reply.body.rpartition(b"data: ")[2]
    assert json.loads(last)["response"]["usage"]["output_tokens"] == 240_000
    assert len(last) > EVENT_BYTES
    until(lambda: stack.count(OBSERVATIONS, verdict="no_usage") == 1)
