"""Sending the load and reading what came of it."""

import asyncio
import json
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from extproc.demo.pool import SERVED_BY
from extproc.demo.requests import CHAT, MODEL, Request

CONCURRENCY = 8
ATTEMPTS = "x-envoy-attempt-count"
TOLD = "x-dualpool-"
"""Prefix of the response headers by which the demo's Envoy tells what was decided."""


@dataclass(frozen=True)
class Outcome:
    """What became of a request.

    `pool`: the pool whose answer the client got. `expected`: prompt tokens as estimated when it was routed;
    `prompt_tokens`: as counted by the pool; None where one of them is not known. `category`: what Dualpool took it
    for. `attempts`: 2 when the first pool refused it. `truncated`: cut at the pool's context, with no cap set.
    """

    kind: str
    status: int
    pool: str
    reason: str
    category: str
    attempts: int
    expected: int | None
    prompt_tokens: int | None
    truncated: bool

    @property
    def error(self) -> float | None:
        """Estimated over true prompt tokens, minus one."""
        if self.expected is None or not self.prompt_tokens:
            return None
        return self.expected / self.prompt_tokens - 1


async def send_all(url: str, requests: Iterable[Request], done: Callable[[], object]) -> list[Outcome]:
    """Send `requests` to `url`, `CONCURRENCY` at a time; call `done` after each. In the order they were sent."""
    outcomes: dict[int, Outcome] = {}
    waiting = iter(enumerate(requests))

    async def worker(session: aiohttp.ClientSession) -> None:
        for number, request in waiting:  # shared: each worker takes the next
            outcomes[number] = await _send(session, url, request)
            done()

    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        for _ in range(CONCURRENCY):
            group.create_task(worker(session))
    return [outcomes[number] for number in sorted(outcomes)]


async def _send(session: aiohttp.ClientSession, url: str, request: Request) -> Outcome:
    async with session.post(url + request.path, json=request.body) as response:
        raw = await response.read()
        headers = response.headers
        events = _events(raw) if request.body.get("stream") else _json(raw)
        usage, finish_reason = _read(events if response.status == 200 else ())
        expected = headers.get(f"{TOLD}estimate", "")
        return Outcome(
            kind=request.kind,
            status=response.status,
            pool=headers.get(SERVED_BY, ""),
            reason=headers.get(f"{TOLD}reason", ""),
            category=headers.get(f"{TOLD}category", ""),
            attempts=int(headers.get(ATTEMPTS, "1")),
            expected=int(expected) if expected.isdigit() else None,
            prompt_tokens=usage.get("prompt_tokens"),
            truncated=finish_reason == "length" and "max_tokens" not in request.body and request.path == CHAT,
        )


def _read(events: Iterable[dict[str, Any]]) -> tuple[Mapping[str, int], str | None]:
    """Return usage and finish reason of an answer, each as far as it is told."""
    usage: dict[str, int] = {}
    finish_reason = None
    for event in events:
        usage |= event.get("usage") or {}
        for choice in event.get("choices") or ():
            finish_reason = choice.get("finish_reason") or finish_reason
    return usage, finish_reason


def _json(raw: bytes) -> Iterator[dict[str, Any]]:
    yield json.loads(raw)


def _events(raw: bytes) -> Iterator[dict[str, Any]]:
    for line in raw.splitlines():
        if line.startswith(b"data: {"):
            yield json.loads(line[6:])


async def latency(urls: Iterable[str], rounds: int) -> list[float]:
    """Return the median seconds of a small request to each of `urls`, asked in turn so that all see the same."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Is anybody there?"}], "max_tokens": 16}
    taken: dict[str, list[float]] = {url: [] for url in urls}
    async with aiohttp.ClientSession() as session:
        for _ in range(rounds):
            for url, seconds in taken.items():
                started = time.perf_counter()
                async with session.post(url + CHAT, json=body) as response:
                    await response.read()
                seconds.append(time.perf_counter() - started)
    return [statistics.median(seconds) for seconds in taken.values()]
