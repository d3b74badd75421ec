"""The model server of the benchmark: answers at once, in JSON or in paced events, by a header of the request.

`python -m benchmarks.upstream` prints its port and serves. `x-events: N` asks for N events, 2 ms apart; unpaced
ones would be merged by the proxy. Usage follows from the size of the request, so that every answer can be learned
from.
"""

import asyncio
import contextlib
import functools
import json
import re

PACE = 0.002
BYTES_PER_TOKEN = 5
"""Each is a "word " of the prompt; the little JSON around it counts too."""

CHOICE = {"index": 0, "message": {"role": "assistant", "content": "word " * 20}, "finish_reason": "stop"}
EVENT = b'data: {"object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"word "}}]}\n\n'
JSON_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
SSE_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
LENGTH = re.compile(rb"(?i)content-length: *(\d+)")
EVENTS = re.compile(rb"(?i)x-events: *(\d+)")


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def usage(tokens: int) -> dict[str, int]:
    """Usage of an answer to a prompt of so many tokens."""
    return {"prompt_tokens": tokens, "completion_tokens": 20, "total_tokens": tokens + 20}


@functools.cache
def _whole(tokens: int) -> bytes:
    answer = {"object": "chat.completion", "choices": [CHOICE], "usage": usage(tokens)}
    body = json.dumps(answer).encode()
    return JSON_HEAD % len(body) + body


@functools.cache
def _end(tokens: int) -> bytes:
    last = json.dumps({"choices": [], "usage": usage(tokens)}).encode()
    return _chunk(b"data: %b\n\ndata: [DONE]\n\n" % last) + _chunk(b"")


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = LENGTH.search(head)
            if length:
                body = await reader.readexactly(int(length[1]))
            else:
                body = await reader.readuntil(b"0\r\n\r\n")  # of its chunks, the last one
            tokens = len(body) // BYTES_PER_TOKEN
            events = EVENTS.search(head)
            if events is None:
                writer.write(_whole(tokens))
                continue
            writer.write(SSE_HEAD)
            for _ in range(int(events[1]) - 1):
                writer.write(_chunk(EVENT))
                await asyncio.sleep(PACE)
            writer.write(_end(tokens))
    writer.close()


async def main() -> None:
    """Serve on a free port until killed."""
    server = await asyncio.start_server(_answer, "127.0.0.1", 0, limit=1 << 24)
    print(f"serving (port {server.sockets[0].getsockname()[1]})", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
