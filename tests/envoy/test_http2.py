"""HTTP/2 clients are routed like any other."""

import json
from collections.abc import Callable

import h2.config
import h2.connection
import h2.events
import pytest

from extproc.demo.pool import Behaviour
from tests.envoy.client import CHAT, chat, connect
from tests.envoy.conftest import Start
from tests.envoy.counts import ENTRIES
from tests.envoy.modes import LOGGED, UNSEEN, Mode, heard, name
from tests.envoy.stack import Stack, until
from tests.envoy.test_ends import RESERVING, learned_lengths


def post(
    url: str,
    body: bytes,
    trailers: bool = False,
    announced: bool = False,
    reset: int | None = None,
    when: Callable[[], bool] | None = None,
) -> tuple[int, bytes]:
    """Send one request over HTTP/2 with prior knowledge.

    `trailers`: the body does not end the stream. `announced`: its length is sent before it. `reset`: code to reset
    the stream with, `when` that is true: by default when the first piece of the answer has come.
    """
    connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding=None))
    connection.initiate_connection()
    head = [
        (":method", "POST"),
        (":path", CHAT),
        (":scheme", "http"),
        (":authority", "x"),
        ("content-type", "application/json"),
        ("x-token-pool", "long"),
        *([("content-length", str(len(body)))] if announced else []),
    ]
    connection.send_headers(1, head)
    connection.send_data(1, body, end_stream=not trailers)
    if trailers:
        connection.send_headers(1, [("x-checksum", "1")], end_stream=True)
    status, answer = 0, b""
    with connect(url) as sock:
        sock.sendall(connection.data_to_send())
        if when is not None and reset is not None:
            until(when)
            connection.reset_stream(1, reset)
            sock.sendall(connection.data_to_send())
            return status, answer
        while True:
            for event in connection.receive_data(sock.recv(65_536)):
                if isinstance(event, h2.events.ResponseReceived):
                    status = int(dict(event.headers)[b":status"])
                elif isinstance(event, h2.events.DataReceived):
                    answer += event.data
                    if reset is not None:
                        connection.reset_stream(1, reset)
                        sock.sendall(connection.data_to_send())
                        return status, answer
                elif isinstance(event, h2.events.StreamEnded):
                    return status, answer
            sock.sendall(connection.data_to_send())


@pytest.mark.parametrize(
    ("trailers", "announced", "pool"),
    [(False, False, "short"), (True, False, "long"), (True, True, "long")],
    ids=["body ends the stream", "trailers end it", "trailers after a length"],
)
def test_an_http2_request_is_routed(shared_stack: Stack, trailers: bool, announced: bool, pool: str) -> None:
    """By its body; one with trailers cannot be told from a cut one and goes long, which holds it."""
    body = json.dumps(chat("hello", max_tokens=5)).encode()
    status, answer = post(shared_stack.url, body, trailers, announced)
    assert (status, json.loads(answer)["usage"]["completion_tokens"]) == (200, 5)
    received = {name: len(server.pool.received) for name, server in shared_stack.pools.items()}
    assert received == {"short": 0, "long": 0} | {pool: 1}


@pytest.mark.parametrize("trailers", [False, True], ids=["body ends the stream", "trailers end it"])
@pytest.mark.parametrize("mode", UNSEEN, ids=name)
def test_an_http2_request_is_routed_unseen(shared_mode: Start, mode: Mode, trailers: bool) -> None:
    """Where Envoy holds the body, it knows when that is whole, trailers or not."""
    stack = shared_mode(mode, **RESERVING)
    for words, pool in ((20, "short"), (3000, "long")):
        body = json.dumps(chat("word " * words, max_tokens=5)).encode()
        status, _ = post(stack.url, body, trailers)
        posts = {n: sum(r.method == "POST" for r in s.pool.received) for n, s in stack.pools.items()}
        assert (status, posts) == (200, {"short": 1, "long": 0} if pool == "short" else {"short": 1, "long": 1})


@pytest.mark.parametrize("reset", [0, 8], ids=["NO_ERROR", "CANCEL"])
@pytest.mark.parametrize("mode", LOGGED, ids=name)
def test_a_client_that_resets_its_stream_has_left(shared_mode: Start, mode: Mode, reset: int) -> None:
    """With whatever code: the answer was cut, and how long it would have been nobody knows."""
    stack = shared_mode(mode, **RESERVING)
    lengths = learned_lengths(stack)
    stack.pools["short"].pool.behaviour = Behaviour(pace=0.05, completion=1000)
    body = json.dumps({**chat("hello there " * 20), "stream": True}).encode()
    assert post(stack.url, body, reset=reset)[0] == 200
    heard(stack, mode, 1)
    assert stack.count(ENTRIES, pool="short", end="disconnected") == 1
    assert learned_lengths(stack) == lengths


@pytest.mark.parametrize("reset", [0, 8], ids=["NO_ERROR", "CANCEL"])
@pytest.mark.parametrize("mode", LOGGED, ids=name)
def test_a_client_that_resets_its_stream_before_the_answer_has_left(
    start_mode: Start, mode: Mode, reset: int
) -> None:
    """As one does that hangs up."""
    stack = start_mode(mode)
    short = stack.pools["short"].pool
    short.behaviour = Behaviour(delay=30)
    body = json.dumps(chat("hello", max_tokens=5)).encode()
    post(stack.url, body, reset=reset, when=lambda: short.running == 1)
    heard(stack, mode, 1)
    assert stack.count(ENTRIES, pool="short", end="disconnected") == 1
