"""Rules of `extproc.service.fetch`, against a server that answers with the bytes it is told to."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from extproc.service.fetch import FetchError, fetch

OK = b"HTTP/1.1 200 OK\r\n"
Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[int]:
    """Serve one page; yields the port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        try:
            await answer(writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def whole(content: bytes) -> Answer:
    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(content)
        await writer.drain()

    return answer


async def got(answer: Answer, seconds: float = 30, limit: int = 1000) -> bytes:
    async with serving(answer) as port:
        return await fetch("127.0.0.1", port, "/page", seconds, limit)


@pytest.mark.parametrize(
    "content",
    [
        OK + b"\r\none\ntwo\n",
        OK + b"Content-Length: 8\r\nConnection: close\r\n\r\none\ntwo\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n5;x=y\r\n\ntwo\n\r\n0\r\n\r\n",
        OK + b"transfer-encoding: CHUNKED\r\n\r\n8\r\none\ntwo\n\r\n0\r\n\r\n",
    ],
)
async def test_plain_and_chunked(content: bytes) -> None:
    """vLLM answers with a length, Envoy's admin port in chunks."""
    assert await got(whole(content)) == b"one\ntwo\n"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "not an HTTP answer"),
        (b"\r\n\r\n", "not an HTTP answer"),
        (b"SSH-2.0\r\n\r\n", "not an HTTP answer"),
        (b"HTTP/1.1 404 Not Found\r\n\r\nno", "HTTP status 404"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere/\r\n\r\n", "HTTP status 302"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\nmany\r\n", "not an HTTP answer"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n10\r\ncut", "not an HTTP answer"),
        (OK + b"x: " + b"x" * 200_000, "not an HTTP answer"),
    ],
)
async def test_what_is_no_page(content: bytes, why: str) -> None:
    """Whatever answers, there is a reason in words."""
    with pytest.raises(FetchError, match=f"^{why}"):
        await got(whole(content))


@pytest.mark.parametrize("head", [OK + b"\r\n", OK + b"Transfer-Encoding: chunked\r\n\r\n7fffffff\r\n"])
async def test_an_endless_page_is_cut_at_a_line(head: bytes) -> None:
    """What is read is bounded, and the last line is a whole one."""

    async def endless(writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while not writer.is_closing():
            writer.write(b"123456\n" * 1000)
            await writer.drain()

    page = await got(endless)
    assert (len(page), page[-1:]) == (994, b"\n")


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 200 OK\r\nx: ", OK + b"\r\n", OK + b"Transfer-Encoding: chunked\r\n\r\n"]
)
async def test_a_page_that_comes_byte_by_byte_ends_in_time(head: bytes) -> None:
    """The bound is on the whole, not on each byte: a server that trickles cannot hold anybody up."""

    async def trickle(writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while not writer.is_closing():
            writer.write(b"1")
            await writer.drain()
            await asyncio.sleep(0.001)

    with pytest.raises(FetchError, match=r"within 0\.1 s"):
        await got(trickle, seconds=0.1, limit=1_000_000)


async def test_nobody_there() -> None:
    """A port that nobody listens on is no reason to raise anything else."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # and nobody else can listen on it meanwhile
        with pytest.raises(FetchError):
            await fetch("127.0.0.1", held.getsockname()[1], "/", 5, 100)
