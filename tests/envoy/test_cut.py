"""Bodies cut at Envoy's buffer that end while the service is asked, through a real Envoy: none may hang."""

import http.client
import json
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from urllib.parse import urlsplit

import pytest

from extproc.demo.envoy import Envoy, Tree
from extproc.demo.pool import Pool
from tests.envoy.changes import at, default_is_short, ext_proc
from tests.envoy.client import CHAT, chat, connect
from tests.envoy.conftest import Start
from tests.envoy.counts import OBSERVATIONS
from tests.envoy.stack import Stack, until

BUFFER = 32_768
"""Envoy Gateway's default."""

BATCH = json.dumps({"model": "m", "prompt": "hello " * 6000, "max_tokens": 5}).encode()
"""A little more, so that it comes with its end; its size alone says nothing."""


def small_buffer(tree: Tree) -> Tree:
    default_is_short(tree)["static_resources"]["listeners"][0]["per_connection_buffer_limit_bytes"] = BUFFER
    return tree


def answered(envoy: Envoy, messages: int) -> None:
    """Wait until Envoy has so many answers of the service."""
    until(lambda: sum(envoy.stats("ext_proc.stream_msgs_received").values()) == messages)


def impatient(tree: Tree) -> Tree:
    """The same, and Envoy soon goes on without an answer."""
    ext_proc(small_buffer(tree))["message_timeout"] = "2s"
    return tree


@contextmanager
def asking(envoy: Envoy, long: Pool, chunked: bool = False) -> Iterator[Callable[[], None]]:
    """Send the head of a request, and wait for the service's answer to it; yield what sends the body.

    Left, the request has been answered by the pool `long`, which got all of it.
    """
    length = "transfer-encoding: chunked" if chunked else f"content-length: {len(BATCH)}"
    head = f"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n{length}\r\n\r\n"
    body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BATCH), BATCH) if chunked else BATCH
    with connect(envoy.url) as client:
        client.sendall(head.encode())
        answered(envoy, 1)
        yield lambda: client.sendall(body)
        response = http.client.HTTPResponse(client)
        response.begin()
        assert (response.status, response.headers["x-served-by"]) == (200, "long")
    assert [r.size for r in long.received if r.method == "POST"] == [len(BATCH)]


@pytest.mark.parametrize("chunked", [False, True])
def test_a_cut_body_that_ends_at_once_is_answered(start_stack: Start, chunked: bool) -> None:
    """By the long pool, which gets all of it, however long the client took between head and body."""
    stack = start_stack(change=small_buffer)
    with asking(stack.envoy, stack.pools["long"].pool, chunked) as send_body:
        send_body()
    assert stack.reasons() == {"cut": 1}


def test_a_cut_body_is_answered_though_the_service_has_stopped(start_stack: Start) -> None:
    """Envoy goes on with all of it when it has waited long enough."""
    stack = start_stack(change=impatient)
    with asking(stack.envoy, stack.pools["long"].pool) as send_body:
        stack.service.process.send_signal(signal.SIGSTOP)
        send_body()
    stack.service.process.send_signal(signal.SIGCONT)
    assert stack.envoy.stats("ext_proc.message_timeouts") == {"http.llm.ext_proc.message_timeouts": 1}


@contextmanager
def answering(begun: threading.Event, body: bytes, content_type: str = "application/json") -> Iterator[int]:
    """Serve one answer, chunked: its head at once, `body` with its end when `begun` is set. Yields the port."""

    def serve() -> None:
        client, _ = server.accept()
        with client:
            while b"\r\n0\r\n\r\n" not in client.recv(65_536):
                pass
            head = f"HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ntransfer-encoding: chunked\r\n\r\n"
            client.sendall(head.encode())
            begun.wait(30)
            client.sendall(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)  # nobody comes where Envoy does not start
        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        thread.join()


def arrives(
    start_stack: Start,
    change: Callable[[Tree], Tree],
    body: bytes,
    messages: int,
    content_type: str = "application/json",
) -> Stack:
    """Let an answer end while Envoy waits for the service, which gave it so many `messages` before: it arrives."""
    begun = threading.Event()
    with answering(begun, body, content_type) as port:
        stack = start_stack(change=lambda tree: at(short=port)(change(tree)))
        request = json.dumps(chat("hello", max_tokens=5))
        with closing(http.client.HTTPConnection(urlsplit(stack.url).netloc, timeout=30)) as client:
            client.request("POST", CHAT, request, {"content-type": "application/json"})
            answered(stack.envoy, messages)
            begun.set()
            response = client.getresponse()
            assert (response.status, response.read()) == (200, body)
    return stack


def test_a_cut_answer_that_ends_at_once_arrives(start_stack: Start) -> None:
    """And teaches, since it has come whole with what was over the limit."""
    usage = {"prompt_tokens": 9, "completion_tokens": 3}
    body = json.dumps({"choices": [], "text": "x" * BUFFER, "usage": usage}).encode()
    stack = arrives(start_stack, small_buffer, body, messages=3)
    until(lambda: stack.count(OBSERVATIONS))
    assert stack.count(OBSERVATIONS, verdict="used") == 1


def holding_answers_back(tree: Tree, head: str = "SEND") -> Tree:
    """The same, and Envoy collects every answer, whatever the service says. `head`: its `response_header_mode`."""
    asking = ext_proc(small_buffer(tree))
    asking["processing_mode"] |= {"response_header_mode": head, "response_body_mode": "BUFFERED_PARTIAL"}
    asking["allow_mode_override"] = False
    return tree


def test_a_cut_stream_arrives(start_stack: Start) -> None:
    """Envoy collects it, though it is told to stream. As much of it as came first was read."""
    arrives(start_stack, holding_answers_back, b"data: {}\n\n" * BUFFER, 3, "text/event-stream")


def test_a_cut_answer_whose_head_is_not_sent_arrives(start_stack: Start) -> None:
    """It teaches nothing, as the service does not know what it is."""
    arrives(start_stack, partial(holding_answers_back, head="SKIP"), b"x" * 2 * BUFFER, 2)
