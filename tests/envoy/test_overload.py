"""What hostile or too many clients cost the others: nothing but the choice of a pool."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

from extproc.demo.pool import Behaviour
from tests.envoy.client import CHAT, chat, connect
from tests.envoy.conftest import Start
from tests.envoy.stack import Stack, healthy, until

LITTLE = chat("How are you?", max_tokens=10)
BODY = b'{"messages":[{"role":"user","content":"hello"}],"max_tokens":5}'


@contextmanager
def unfinished(stack: Stack) -> Iterator[socket.socket]:
    """A request whose body does not come, on a connection of its own."""
    head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(BODY)}\r\n\r\n"
    with connect(stack.url) as connection:
        connection.sendall(head.encode() + BODY[:10])
        yield connection


def test_a_body_that_comes_slowly_is_answered_by_the_long_pool(start_stack: Start) -> None:
    """Its call is given up, and the request goes on without."""
    stack = start_stack(settings={"server": {"body_seconds": 0.2}})
    with unfinished(stack) as connection:
        until(lambda: stack.reasons().get("slow"))
        connection.sendall(BODY[10:])
        assert connection.recv(16).startswith(b"HTTP/1.1 200")
    assert len(stack.pools["long"].pool.received) == 1
    assert stack.reached(stack.send(LITTLE)) == ["short"]


def test_clients_that_never_finish_do_not_use_up_the_calls(start_stack: Start) -> None:
    """While they do, others go long; when their calls have been given up, all is as before."""
    stack = start_stack(settings={"server": {"max_exchanges": 4, "body_seconds": 2}})
    with ExitStack() as clients:
        for _ in range(8):
            clients.enter_context(unfinished(stack))
        until(lambda: not healthy(stack.envoy))
        assert stack.lands(LITTLE) == "long"
        until(lambda: stack.reasons().get("slow", 0) >= 3)
        until(lambda: healthy(stack.envoy))
        until(lambda: stack.reached(stack.send(LITTLE)) == ["short"])


def test_more_requests_than_calls_lose_none(start_stack: Start) -> None:
    """Those that find no call go long at once; when answers have ended, requests are asked about again."""
    many = 12
    stack = start_stack(settings={"server": {"max_exchanges": 4}})
    stack.pools["short"].pool.behaviour = Behaviour(held=True)
    with ThreadPoolExecutor(many) as threads:
        sent = [threads.submit(stack.send, LITTLE) for _ in range(many)]
        until(lambda: sum(f.done() for f in sent) >= many - 4)
        stack.pools["short"].pool.behaviour = Behaviour()
        replies = [future.result() for future in sent]
    assert {reply.status for reply in replies} == {200}
    assert sum(stack.reached(reply) == ["long"] for reply in replies) >= many - 4
    until(lambda: healthy(stack.envoy))
    until(lambda: stack.reached(stack.send(LITTLE)) == ["short"])
