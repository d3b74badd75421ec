"""HTTP/2 clients are routed like any other."""

import json
import socket
from typing import Any
from urllib.parse import urlsplit

import h2.config
import h2.connection
import h2.events
import pytest

from tests.envoy.client import CHAT, chat
from tests.envoy.conftest import StartMode
from tests.envoy.modes import UNSEEN, Mode, name
from tests.envoy.stack import Stack


def post(url: str, body: bytes, trailers: bool) -> tuple[int, bytes]:
    """Send one request over HTTP/2 with prior knowledge; `trailers`: the body does not end the stream."""
    parts = urlsplit(url)
    connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding=None))
    connection.initiate_connection()
    head = [
        (":method", "POST"),
        (":path", CHAT),
        (":scheme", "http"),
        (":authority", "x"),
        ("content-type", "application/json"),
        ("x-token-pool", "long"),
    ]
    connection.send_headers(1, head)
    connection.send_data(1, body, end_stream=not trailers)
    if trailers:
        connection.send_headers(1, [("x-checksum", "1")], end_stream=True)
    status, answer = 0, b""
    with socket.create_connection((parts.hostname, parts.port), 10) as sock:
        sock.sendall(connection.data_to_send())
        while True:
            for event in connection.receive_data(sock.recv(65_536)):
                if isinstance(event, h2.events.ResponseReceived):
                    status = int(dict(event.headers)[b":status"])
                elif isinstance(event, h2.events.DataReceived):
                    answer += event.data
                elif isinstance(event, h2.events.StreamEnded):
                    return status, answer
            sock.sendall(connection.data_to_send())


@pytest.mark.parametrize(
    ("trailers", "pool"), [(False, "short"), (True, "long")], ids=["body ends the stream", "trailers end it"]
)
def test_an_http2_request_is_routed(shared_stack: Stack, pools: Any, trailers: bool, pool: str) -> None:
    """By its body; one with trailers cannot be told from a cut one and goes long, which holds it too."""
    status, answer = post(shared_stack.url, json.dumps(chat("hello", max_tokens=5)).encode(), trailers)
    assert (status, json.loads(answer)["usage"]["completion_tokens"]) == (200, 5)
    servers = {"short": pools.short, "long": pools.long}
    assert {name: len(server.pool.received) for name, server in servers.items()} == {"short": 0, "long": 0} | {
        pool: 1
    }


@pytest.mark.parametrize("trailers", [False, True], ids=["body ends the stream", "trailers end it"])
@pytest.mark.parametrize("mode", UNSEEN, ids=name)
def test_an_http2_request_is_routed_unseen(start_mode: StartMode, mode: Mode, trailers: bool) -> None:
    """Where Envoy holds the body, it knows when that is whole, trailers or not."""
    stack = start_mode(mode)
    for words, pool in ((20, "short"), (3000, "long")):
        body = json.dumps(chat("word " * words, max_tokens=5)).encode()
        status, _ = post(stack.envoy.url, body, trailers)
        posts = {n: sum(r.method == "POST" for r in s.pool.received) for n, s in stack.servers.items()}
        assert (status, posts) == (200, {"short": 1, "long": 0} if pool == "short" else {"short": 1, "long": 1})
