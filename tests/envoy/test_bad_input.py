"""Whatever a client or a pool does, the client gets the upstream's answer and nothing is learned from it."""

import contextlib
import http.client
import json
from typing import Any

import pytest

from benchmarks.memory import held
from extproc.demo.pool import Behaviour
from tests.envoy.client import CHAT, chat, connect
from tests.envoy.counts import AT_REST, OBSERVATIONS
from tests.envoy.stack import Stack, until

GOOD = json.dumps(chat("hello", max_tokens=5)).encode()

BODIES: dict[str, tuple[bytes, str]] = {
    "not json": (b"hello", "not_json"),
    "cut json": (GOOD[:-7], "not_json"),
    "NaN": (GOOD.replace(b"5}", b"NaN}"), "not_json"),
    "a word for a number": (GOOD.replace(b"5}", b'"many"}'), "wrong_type"),
    "a cap twice": (GOOD.replace(b"5}", b'5, "max_tokens": "many"}'), "wrong_type"),
    "a prompt twice": (GOOD[:-1] + b', "messages": 7}', "wrong_type"),
    "null cap": (GOOD.replace(b"5}", b"null}"), "no_output_cap"),
    "1e400": (GOOD.replace(b"5}", b"1e400}"), "wrong_type"),
    "negative": (GOOD.replace(b"5}", b"-5}"), "wrong_type"),
    "1e30": (GOOD.replace(b"5}", b"1e30}"), "wrong_type"),
    "a list": (b"[]", "wrong_type"),
    "deep": (b'{"tools":' + b"[" * 12_000, "too_deep"),
    "deep and unknown": (b'{"x":' + b"[" * 12_000 + b"]" * 12_000 + b"," + GOOD[1:], "too_deep"),
    "deep and huge": (b'{"tools":' + b"[" * 500_000, "oversized"),
    "invalid utf-8": (GOOD.replace(b"hello", b"h\xff\xfello"), "not_json"),
    "lone surrogate": (GOOD.replace(b"hello", b"\\ud800"), "not_json"),
    "no prompt": (b"{}", "no_prompt"),
    "empty": (b"", "no_body"),
    "no cap": (json.dumps(chat("hello")).encode(), "no_output_cap"),
}


def learned(stack: Stack) -> Any:
    """What has been learned."""
    return stack.service.state()["learned"]


@pytest.fixture(autouse=True)
def _nothing_goes_wrong(shared_stack: Stack) -> Any:
    """No test here may leave a traceback in the log, an open exchange or a learned figure."""
    before = learned(shared_stack)
    yield
    until(lambda: AT_REST in shared_stack.service.get("/metrics"))
    assert learned(shared_stack) == before
    assert "Traceback" not in shared_stack.service.process.output()
    assert "secret" not in shared_stack.service.process.output()


@pytest.mark.parametrize("name", BODIES)
def test_bad_bodies_get_the_answer_of_the_long_pool(shared_stack: Stack, name: str) -> None:
    """The reason is counted and the client sees what the pool says."""
    body, reason = BODIES[name]
    shared_stack.pools["long"].pool.behaviour = Behaviour(usage=reason != "no_output_cap")  # which would teach
    reply = shared_stack.send(body)
    assert shared_stack.reached(reply) == ["long"]
    assert reply.headers["x-served-by"] == "long"
    assert shared_stack.count("dualpool_requests_total", reason=reason) == 1


@pytest.mark.parametrize(
    ("method", "path", "reason", "status"),
    [
        ("GET", "/v1/models", "unknown_path", 200),
        ("POST", "/v1/nothing", "unknown_path", 404),
        ("PUT", CHAT, "not_post", 405),
    ],
)
def test_other_paths_and_methods_pass(
    shared_stack: Stack, method: str, path: str, reason: str, status: int
) -> None:
    """They go to the long pool, which answers as it likes."""
    reply = shared_stack.send(GOOD if method != "GET" else None, method=method, path=path)
    assert reply.status == status
    assert shared_stack.reached(reply) == (["long"] if status == 200 else [])  # it logs what it knows
    assert shared_stack.count("dualpool_requests_total", pool="long", reason=reason) == 1


def test_a_body_of_another_path_is_not_held_back(shared_stack: Stack) -> None:
    """An upload reaches its pool while it is sent, and here is answered before it has ended."""
    head = b"POST /v1/audio/transcriptions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n"
    with connect(shared_stack.url) as connection:
        connection.sendall(head + b"connection: close\r\n\r\n5\r\nhello\r\n")
        assert connection.recv(12) == b"HTTP/1.1 404"  # before the last chunk was sent


def test_a_body_of_50_mb_passes_whole(shared_stack: Stack) -> None:
    """Every byte arrives at the long pool, and the service keeps none of them."""
    shared_stack.pools["long"].pool.behaviour = Behaviour(status=503)
    before = held(shared_stack.service.process.pid)
    body = json.dumps(chat("secret " * 7_500_000, max_tokens=5)).encode()
    reply = shared_stack.send(body, timeout=120)
    (received,) = shared_stack.pools.received("long", reply)
    assert (reply.status, received.size) == (503, len(body))
    assert shared_stack.count("dualpool_requests_total", pool="long", reason="oversized") == 1
    assert held(shared_stack.service.process.pid) < before + len(body) / 2e6


def test_chunked_transfer_and_no_content_type(shared_stack: Stack) -> None:
    """A body whose length is not announced is read like any other."""
    shared_stack.pools["short"].pool.behaviour = Behaviour(usage=False)
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(GOOD[i : i + 7]), GOOD[i : i + 7]) for i in range(0, len(GOOD), 7))
    head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\nconnection: close\r\n"
    with connect(shared_stack.url) as connection:
        connection.sendall(head.encode() + b"\r\n" + chunks + b"0\r\n\r\n")
        answer = connection.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 200")
    assert [received.size for received in shared_stack.pools["short"].pool.received] == [len(GOOD)]


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (b"GET /v1/models HTTP/1.0\r\n\r\n", b"426"),
        (b"get /v1/models HTTP/1.1\r\nhost: x\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nhost: x\r\nx: %b\r\n\r\n" % (b"x" * 70_000), b"431"),
    ],
    ids=["HTTP/1.0", "a method in lower case", "two lengths", "headers too large"],
)
def test_envoys_own_answers_reach_the_client(shared_stack: Stack, request_head: bytes, status: bytes) -> None:
    """Envoy closes the connection after them: they must not wait for the service."""
    with connect(shared_stack.url) as connection:
        connection.sendall(request_head)
        assert connection.makefile("rb").readline().split()[1:2] == [status]


def test_an_upgrade_reaches_a_pool(shared_stack: Stack) -> None:
    """Realtime APIs are a pool's business: this one knows none, and says so. Envoy's own refusal would be a 403."""
    head = b"GET /v1/realtime HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
    with connect(shared_stack.url) as connection:
        connection.sendall(head)
        assert connection.makefile("rb").readline().split()[1:2] == [b"404"]


def test_a_client_that_hangs_up_is_a_normal_end(shared_stack: Stack) -> None:
    """The exchange is closed at once, and nothing is learned of an answer that never came."""
    shared_stack.pools["short"].pool.behaviour = Behaviour(delay=1)
    with connect(shared_stack.url) as connection:
        head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(GOOD)}\r\n\r\n"
        connection.sendall(head.encode() + GOOD)
        until(lambda: shared_stack.pools["short"].pool.running == 1)


@pytest.mark.parametrize(
    ("behaviour", "stream", "verdict"),
    [
        (Behaviour(usage=False), False, "no_usage"),
        (Behaviour(usage=False), True, "no_usage"),
        (Behaviour(compress=True), False, "no_usage"),
        (Behaviour(status=500), False, "no_usage"),
        (Behaviour(prompt_tokens=0), False, "no_usage"),
        (Behaviour(prompt_tokens=10**9), False, "implausible"),
        (Behaviour(prompt_tokens=10**9), True, "no_usage"),
        (Behaviour(cut_after=2, pace=0.05), True, "no_usage"),
    ],
    ids=[
        "no usage",
        "no usage in a stream",
        "compressed",
        "500",
        "zero",
        "absurd",
        "absurd, unasked for",
        "stream cut",
    ],
)
def test_answers_that_teach_nothing_pass(
    shared_stack: Stack, behaviour: Behaviour, stream: bool, verdict: str
) -> None:
    """The answer arrives as the pool gave it; its lack of usage is counted."""
    shared_stack.pools["short"].pool.behaviour = behaviour
    expected = pytest.raises(http.client.IncompleteRead) if behaviour.cut_after else contextlib.nullcontext()
    with expected:
        reply = shared_stack.send(chat("hello", max_tokens=5, stream=stream))
        assert reply.status == (behaviour.status or 200)
    until(lambda: shared_stack.count(OBSERVATIONS) == 1)
    assert shared_stack.count(OBSERVATIONS, verdict=verdict) == 1
