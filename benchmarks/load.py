"""The client of the benchmark: so many connections, each sending the next request when its answer is complete."""

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from extproc.demo.envoy import Envoy


@dataclass(frozen=True)
class Workload:
    """`prompt`: bytes of text. `events`: of a streamed answer, 0 for JSON. `requests`: of all connections."""

    name: str
    prompt: int
    events: int
    connections: int
    requests: int

    def request(self) -> bytes:
        """The request, as it is sent."""
        message = {"role": "user", "content": ("word " * (self.prompt // 5 + 1))[: self.prompt]}
        body = json.dumps({"model": "m", "messages": [message], "max_tokens": 64}).encode()
        head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        head += f"content-length: {len(body)}\r\n" + (f"x-events: {self.events}\r\n" if self.events else "")
        return head.encode() + b"\r\n" + body


@dataclass
class Timing:
    """Seconds of each request, seconds between arrivals within streamed answers, seconds of the whole run."""

    latencies: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    seconds: float = 0.0
    failed: int = 0


def run(envoy: Envoy, workload: Workload) -> Timing:
    """Send the workload through `envoy`."""
    return asyncio.run(_run(envoy.ports["llm"], workload))


async def _run(port: int, workload: Workload) -> Timing:
    timing = Timing()
    left = iter(range(workload.requests))
    started = time.perf_counter()
    await asyncio.gather(*(_connection(port, workload, left, timing) for _ in range(workload.connections)))
    timing.seconds = time.perf_counter() - started
    return timing


async def _connection(port: int, workload: Workload, left: Iterator[int], timing: Timing) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
    request = workload.request()
    for _ in left:
        started = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        timing.failed += not head.startswith(b"HTTP/1.1 200")
        if b"chunked" in head:
            await _events(reader, timing)
        else:
            length = head.lower().split(b"content-length: ")[1].split(b"\r")[0]
            await reader.readexactly(int(length))
        timing.latencies.append(time.perf_counter() - started)
    writer.close()


async def _events(reader: asyncio.StreamReader, timing: Timing) -> None:
    """Read a chunked answer to its end, noting when each piece arrived."""
    last, tail = 0.0, b""
    while not tail.endswith(b"0\r\n\r\n"):
        data = await reader.read(65536)
        if not data:
            raise ConnectionError("the answer was cut")
        now = time.perf_counter()
        if last:
            timing.gaps.append(now - last)
        last, tail = now, (tail + data)[-16:]
