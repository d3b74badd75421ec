"""The stand-in pool answers as a vLLM pool does, and says what reached it."""

import http.client
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from extproc.demo import tokens
from extproc.demo.pool import APIS, Behaviour, Pool
from extproc.demo.pool_server import PoolServer
from extproc.demo.process import Process
from tests.envoy.client import CHAT, Reply, chat, send

CAPACITY = 256

BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"model": "m", "messages": [{"role": "user", "content": "How are you?"}]},
    "/v1/completions": {"model": "m", "prompt": "How are you?"},
    "/v1/responses": {"model": "m", "input": "How are you?"},
    "/v1/messages": {"model": "m", "max_tokens": 20, "messages": [{"role": "user", "content": "How are you?"}]},
    "/v1/embeddings": {"model": "m", "input": "How are you?"},
}


@pytest.fixture(scope="module")
def _running() -> Iterator[PoolServer]:
    with PoolServer(Pool("short", CAPACITY)) as running:
        yield running


@pytest.fixture
def server(_running: PoolServer) -> PoolServer:
    """A pool with an empty log that behaves."""
    _running.pool.received.clear()
    _running.pool.behaviour = Behaviour()
    return _running


def events(reply: Reply) -> list[Any]:
    """The decoded data of a stream, without its end mark."""
    lines = [line.removeprefix("data: ") for line in reply.body.decode().splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def usage_of(reply: Reply) -> dict[str, int]:
    usage: dict[str, int] = reply.json()["usage"]
    return usage


@pytest.mark.parametrize("path", APIS)
def test_every_api_reports_the_true_number_of_prompt_tokens(server: PoolServer, path: str) -> None:
    """Usage is the vocabulary's count of the text, plus the template's where there are messages."""
    usage = usage_of(send(server.url, BODIES[path], path=path))
    plain = tokens.count("How are you?")
    template = 0 if path in ("/v1/completions", "/v1/embeddings") else 7
    assert usage.get("prompt_tokens", usage.get("input_tokens")) == plain + template


def test_a_batch_reports_the_sum(server: PoolServer) -> None:
    """Usage of several prompts is one figure; token ids count as they are."""
    two = send(server.url, {"input": ["How are you?", "How?"]}, path="/v1/embeddings")
    ids = send(server.url, {"input": [[1, 2, 3], [4]]}, path="/v1/embeddings")
    assert usage_of(two)["prompt_tokens"] == tokens.count("How are you?") + tokens.count("How?")
    assert usage_of(ids)["prompt_tokens"] == 4


def test_prompt_and_cap_beyond_the_context_are_refused_as_vllm_does(server: PoolServer) -> None:
    """One token too many is a 400 that names the model's context."""
    prompt = usage_of(send(server.url, chat("How are you?")))["prompt_tokens"]
    fits = send(server.url, chat("How are you?", max_tokens=CAPACITY - prompt))
    refused = send(server.url, chat("How are you?", max_tokens=CAPACITY - prompt + 1))
    assert (fits.status, refused.status) == (200, 400)
    error = refused.json()["error"]
    assert error["message"].startswith(f"This model's maximum context length is {CAPACITY} tokens.")
    assert (error["type"], error["param"], error["code"]) == ("BadRequestError", "input_tokens", 400)


def test_a_prompt_beyond_the_context_is_refused_in_the_messages_shape(server: PoolServer) -> None:
    """The Anthropic API wraps errors its own way."""
    body = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "a b " * CAPACITY}]}
    refused = send(server.url, body, path="/v1/messages")
    assert refused.status == 400
    assert refused.json()["type"] == "error"


def test_without_a_cap_the_room_left_ends_the_answer(server: PoolServer) -> None:
    """The answer is as long as the context allows and says that it was cut."""
    server.pool.behaviour = Behaviour(completion=10_000)
    reply = send(server.url, chat("How are you?"))
    usage = usage_of(reply)
    assert usage["total_tokens"] == CAPACITY
    assert reply.json()["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("asked", [True, False])
def test_a_stream_reports_usage_only_when_asked(server: PoolServer, asked: bool) -> None:
    """`stream_options.include_usage` adds one event with no choices before the end mark."""
    options = {"stream_options": {"include_usage": True}} if asked else {}
    reply = send(server.url, chat("How are you?", stream=True, **options))
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert reply.body.endswith(b"data: [DONE]\n\n")
    last = events(reply)[-1]
    assert ("usage" in last, last["choices"] == []) == (asked, asked)


def test_a_stream_of_messages_reports_usage_in_two_events(server: PoolServer) -> None:
    """Input tokens come first, output tokens last."""
    reply = send(server.url, {**BODIES["/v1/messages"], "stream": True}, path="/v1/messages")
    found = {event["type"]: event for event in events(reply)}
    assert found["message_start"]["message"]["usage"]["input_tokens"] > 0
    assert found["message_delta"]["usage"]["output_tokens"] == 20


def test_a_stream_of_responses_ends_with_the_whole(server: PoolServer) -> None:
    """The last event carries the response with its usage."""
    last = events(send(server.url, {**BODIES["/v1/responses"], "stream": True}, path="/v1/responses"))[-1]
    assert last["type"] == "response.completed"
    assert last["response"]["usage"]["input_tokens"] > 0


def test_answers_are_the_same_every_time(server: PoolServer) -> None:
    """The length of an answer depends on the prompt alone."""
    assert send(server.url, chat("How are you?")).body == send(server.url, chat("How are you?")).body


@pytest.mark.parametrize(
    "body", [b"not json", b"[]", b"{}", b'{"messages": 3}', b'{"messages": [], "max_tokens": 5}']
)
def test_a_body_that_is_no_request_is_refused(server: PoolServer, body: bytes) -> None:
    """Nonsense is a 400, never a 500."""
    assert send(server.url, body).status == 400


@pytest.mark.parametrize("cap", ["many", -1, 0, 1.5, True])
def test_a_cap_that_is_no_number_of_tokens_is_refused(server: PoolServer, cap: Any) -> None:
    """As vLLM refuses it."""
    assert send(server.url, chat("How are you?", max_tokens=cap)).status == 400


def test_the_log_holds_what_arrived(server: PoolServer) -> None:
    """Path, headers, status and true tokens, in memory and at /_received."""
    reply = send(server.url, chat("How are you?"), headers={"x-request-id": "7"})
    entry = server.pool.received[-1]
    assert (entry.path, entry.status, entry.headers["x-request-id"]) == (CHAT, 200, "7")
    assert entry.prompt_tokens == usage_of(reply)["prompt_tokens"]
    seen = send(server.url, method="GET", path="/_received").json()
    assert [e["headers"]["x-marker"] for e in seen] == [reply.marker]


def test_the_context_is_told(server: PoolServer) -> None:
    """/v1/models has max_model_len."""
    assert send(server.url, method="GET", path="/v1/models").json()["data"][0]["max_model_len"] == CAPACITY


def test_metrics_have_the_names_of_vllm(server: PoolServer) -> None:
    """Load is told under the names a scraper of vLLM knows."""
    text = send(server.url, method="GET", path="/metrics").body.decode()
    for name in ("vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc"):
        assert f'{name}{{model_name="stand-in"}} 0.0' in text
    assert send(server.url, method="GET", path="/health").status == 200


def test_it_misbehaves_when_told(server: PoolServer) -> None:
    """No usage, padding, a status, compression: each as set."""
    server.pool.behaviour = Behaviour(usage=False, padding=100_000)
    reply = send(server.url, chat("How are you?"))
    assert len(reply.body) > 100_000
    assert "usage" not in reply.json()
    server.pool.behaviour = Behaviour(status=503)
    assert send(server.url, chat("How are you?")).status == 503
    server.pool.behaviour = Behaviour(compress=True)
    assert send(server.url, chat("How are you?")).headers["content-encoding"] == "gzip"


def test_it_cuts_a_stream_when_told(server: PoolServer) -> None:
    """The connection ends after so many events, without the end mark."""
    server.pool.behaviour = Behaviour(cut_after=1)
    with pytest.raises(http.client.IncompleteRead):
        send(server.url, chat("How are you?", stream=True))


def test_it_runs_as_a_process(tmp_path: Path) -> None:
    """Pools print their ports, answer, and end with 0 on SIGTERM."""
    command = [sys.executable, "-m", "extproc.demo.pool_server", "short=256", "long=512"]
    with Process(command, tmp_path / "pool.log") as process:
        port = process.wait_for_output(r"pool long on port (\d+)")[1]
        told = send(f"http://127.0.0.1:{port}", method="GET", path="/v1/models").json()
        assert told["data"][0]["max_model_len"] == 512
        assert process.stop() == 0
