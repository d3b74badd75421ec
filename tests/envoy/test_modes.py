"""Each way to exchange, through a real Envoy: where requests land, and what is learned of every one of them."""

import codecs
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest

from extproc.demo.envoy import with_addresses
from extproc.demo.pool import Behaviour
from tests.envoy.changes import hasty_log, short_by_default
from tests.envoy.client import CHAT, MARKER, chat
from tests.envoy.conftest import Start
from tests.envoy.counts import OBSERVATIONS
from tests.envoy.modes import BODY, IN_PROXY, LOGGED, MODES, UNSEEN, Mode, arrived, heard, name

SHORT = chat("word " * 200, max_tokens=50)
LONG = chat("word " * 3000, max_tokens=50)


@pytest.mark.parametrize("mode", MODES, ids=name)
def test_requests_land_and_each_teaches(shared_mode: Start, mode: Mode) -> None:
    """Short and long requests, plain and streamed, land where they belong, and every answer is learned from."""
    stack = shared_mode(mode, short_by_default)
    for body, pool in ((SHORT, "short"), (LONG, "long")) * 3:
        assert stack.lands(body) == pool
        assert stack.lands({**body, "stream": True, "stream_options": {"include_usage": True}}) == pool
    heard(stack, mode, 12)
    assert stack.count(OBSERVATIONS, verdict="used") + stack.count(OBSERVATIONS, verdict="outlier") == 12
    assert stack.count("dualpool_prompt_tokens_total", pool="long", model="m") > 6 * 2000
    assert stack.count("dualpool_requests_total", pool="short", chosen="short", reason="fits") == 6
    for metric in ("dualpool_request_seconds_count", "dualpool_time_to_first_byte_seconds_count"):
        assert stack.count(metric, pool="long") == (0 if mode == BODY else 6)
    learned = stack.service.state()["learned"]
    assert (bool(learned["linear"]), bool(learned["ratios"])) == (mode not in UNSEEN, mode in UNSEEN)


@pytest.mark.parametrize("mode", [BODY, IN_PROXY], ids=name)
def test_the_routing_header_may_have_another_name(start_mode: Start, mode: Mode) -> None:
    """It is set, read and taken from clients under that name, whether the service sets it or Envoy's filter."""
    stack = start_mode(mode, routing={"header": "x-pool"})
    assert stack.lands(SHORT, headers={"x-pool": "long"}) == "short"
    assert stack.lands(LONG, headers={"x-pool": "short"}) == "long"


@pytest.mark.parametrize("mode", UNSEEN, ids=name)
def test_what_the_filters_do_not_understand_goes_long(shared_mode: Start, mode: Mode) -> None:
    """No JSON, no length, other types and other requests: the long pool, whatever the default route is."""
    stack = shared_mode(mode, short_by_default)
    assert stack.lands(SHORT) == "short"
    for body, headers in ((b"{", {}), (json.dumps(SHORT).encode(), {"content-type": "text/plain"})):
        reply = stack.send(body, headers=headers)
        assert stack.reached(reply) == ["long"], body
    assert stack.reached(stack.send({**SHORT, "max_tokens": "many"})) == ["long"]
    assert stack.reached(stack.send(None, method="GET", path="/v1/models")) == ["long"]
    arrived(stack, 5)
    reasons = {"fits": 1, "not_json": 2, "wrong_type": 1, "unknown_path": 1}
    assert {r: stack.count("dualpool_requests_total", reason=r) for r in reasons} == reasons


def chunked(body: dict[str, Any]) -> Iterator[bytes]:
    """Yield `body` in pieces: its length is announced nowhere."""
    raw = json.dumps(body).encode()
    yield raw[:100]
    yield raw[100:]


@pytest.mark.parametrize("mode", MODES, ids=name)
def test_chunked_requests(shared_mode: Start, mode: Mode) -> None:
    """A body whose length nobody announced is measured by Envoy, and the size decides as ever."""
    stack = shared_mode(mode, short_by_default)
    for body, pool in ((SHORT, "short"), (LONG, "long")):
        reply = stack.send(chunked(body))
        assert (reply.status, stack.reached(reply)) == (200, [pool])
        (received,) = stack.pools.received(pool, reply)
        assert received.size == len(json.dumps(body))
    heard(stack, mode, 2)
    assert stack.count("dualpool_requests_total", pool="short", reason="fits") == 1


@pytest.mark.parametrize("mode", MODES, ids=name)
def test_a_byte_order_mark(shared_mode: Start, mode: Mode) -> None:
    """It is no reason to go long, whoever reads the body."""
    stack = shared_mode(mode, short_by_default)
    assert stack.lands(codecs.BOM_UTF8 + json.dumps(SHORT).encode()) == "short"
    heard(stack, mode, 1)
    assert stack.count("dualpool_requests_total", reason="fits") == 1


@pytest.mark.parametrize("mode", UNSEEN, ids=name)
def test_chunks_that_are_not_json(shared_mode: Start, mode: Mode) -> None:
    """Where nothing was lifted either, nothing is known: the long pool."""
    stack = shared_mode(mode, short_by_default)
    reply = stack.send(chunked(SHORT), headers={"content-type": "text/plain"})
    assert stack.reached(reply) == ["long"]


@pytest.mark.parametrize("mode", MODES, ids=name)
def test_bodies_too_long_for_any_ratio(shared_mode: Start, mode: Mode) -> None:
    """Beyond 16 bytes a token of the short pool a body goes long unread, whatever it holds, and teaches nothing."""
    stack = shared_mode(mode, short_by_default)
    assert stack.lands(chat(" " * (16 * 2048), max_tokens=5)) == "long"
    if mode != BODY:
        arrived(stack, 1)
    assert stack.count("dualpool_requests_total", pool="long", reason="oversized") == 1
    assert stack.count(OBSERVATIONS) == 0


@pytest.mark.parametrize("mode", LOGGED, ids=name)
def test_bodies_beyond_the_buffer(shared_mode: Start, mode: Mode) -> None:
    """Where a filter in front has to hold the body, 16 MiB are the most; where none need, all of it arrives."""
    stack = shared_mode(mode, short_by_default)
    stack.pools.behave(Behaviour(status=200))
    reply = stack.send(json.dumps(chat("x" * 17_000_000, max_tokens=5)).encode())
    assert (reply.status, stack.reached(reply)) == ((200, ["long"]) if mode[0] != "bodyless" else (413, []))
    arrived(stack, 1)


class _Events(BaseHTTPRequestHandler):
    """A server of events that are no objects, which no model server sends."""

    def do_POST(self) -> None:
        length = self.headers["content-length"]
        if length is not None:
            self.rfile.read(int(length))
        while length is None and self.rfile.readline() != b"0\r\n":  # the last of its chunks
            pass
        events = b"data: 1\n\ndata: null\n\n"
        self.send_response(200)
        for header in (("content-type", "text/event-stream"), ("content-length", str(len(events)))):
            self.send_header(*header)
        self.end_headers()
        self.wfile.write(events)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.mark.parametrize("mode", LOGGED, ids=name)
def test_answers_that_teach_nothing_are_not_read(start_mode: Start, mode: Mode) -> None:
    """Beside the model servers' APIs an event may be anything: Envoy's filter would end with it."""
    with HTTPServer(("127.0.0.1", 0), _Events) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        here = dict.fromkeys(("short", "long"), ("127.0.0.1", server.server_port))
        stack = start_mode(mode, lambda tree: with_addresses(hasty_log(tree), here))
        for path in ("/heartbeat", "/v1/embeddings"):
            reply = stack.send({"model": "m", "input": "hello"}, path=path)
            assert (reply.status, reply.body) == (200, b"data: 1\n\ndata: null\n\n")
        server.shutdown()


@pytest.mark.parametrize("mode", UNSEEN, ids=name)
def test_a_batch_that_nobody_has_read_says_nothing_of_one_answer(start_mode: Start, mode: Mode) -> None:
    """The sum of many answers is no length of one, nor does it fill a context."""
    stack = start_mode(mode, estimation={"min_samples": 5})
    for number in range(5):
        stack.send(chat("hello"), headers={MARKER: f"c{number}"})
    arrived(stack, 5)
    reserve = stack.service.state()["learned"]["output"]
    for number in range(3):
        reply = stack.send(
            {"model": "m", "prompt": ["hello there"] * 470, "max_tokens": None}, path="/v1/completions"
        )
        assert reply.json()["usage"]["completion_tokens"] > 5000
        arrived(stack, 6 + number)
    assert stack.service.state()["learned"]["output"] == reserve
    assert stack.count("dualpool_misroutes_total") == 0


@pytest.mark.parametrize("path", ["/v1/embeddings", CHAT])
@pytest.mark.parametrize("mode", LOGGED, ids=name)
def test_a_big_answer_arrives(shared_mode: Start, mode: Mode, path: str) -> None:
    """Ten megabytes of JSON pass the filters, embeddings unread and chat answers within the limit."""
    stack = shared_mode(mode, short_by_default)
    stack.pools.behave(Behaviour(padding=10_000_000))
    body = {"model": "m", "input": "hello"} if path != CHAT else chat("hello", max_tokens=5)
    reply = stack.send(body, path=path)
    assert reply.status == 200
    assert len(reply.body) > 10_000_000
    assert reply.json()["usage"]
    arrived(stack, 1)
    assert stack.count(OBSERVATIONS, verdict="no_usage") == (path != CHAT)
