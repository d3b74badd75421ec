"""Steady load through Envoy, and what became of every request."""

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp

from tests.envoy.client import CHAT, chat


@dataclass(frozen=True)
class Sent:
    """One request: when it began (monotonic seconds), how long it took, its status, the longest silence within its
    answer (seconds). `status` 0: no whole answer; `error`: what the client saw instead. `begun`: whether its answer
    had begun."""

    started: float
    seconds: float
    status: int
    silence: float
    error: str = ""
    begun: bool = False


class Load:
    """`users` clients that send one request after the other, with `pause` seconds between, while entered."""

    def __init__(
        self,
        url: str,
        users: int = 3,
        pause: float = 0.02,
        body: Callable[[], dict[str, Any]] = lambda: chat("How are you?", max_tokens=5),
    ) -> None:
        self._url = url + CHAT
        self._users = users
        self._pause = pause
        self._body = body
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self.sent: list[Sent] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._stopping.set()
        self._thread.join()

    def failed(self) -> list[Sent]:
        """Requests that were not answered with a whole 200."""
        return [sent for sent in self.sent if sent.status != 200]

    def more(self, count: int) -> Callable[[], bool]:
        """Return a condition: `count` more requests have ended."""
        wanted = len(self.sent) + count
        return lambda: len(self.sent) >= wanted

    async def _run(self) -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
            await asyncio.gather(*(self._user(session) for _ in range(self._users)))

    async def _user(self, session: aiohttp.ClientSession) -> None:
        while not self._stopping.is_set():
            self.sent.append(await self._one(session))
            await asyncio.sleep(self._pause)

    async def _one(self, session: aiohttp.ClientSession) -> Sent:
        started = time.monotonic()
        silence = 0.0
        begun = False
        try:
            async with session.post(self._url, json=self._body()) as answer:
                begun = True
                last = time.monotonic()
                async for _ in answer.content.iter_any():
                    now = time.monotonic()
                    silence, last = max(silence, now - last), now
                return Sent(started, time.monotonic() - started, answer.status, silence, begun=begun)
        except (aiohttp.ClientError, TimeoutError) as error:
            return Sent(started, time.monotonic() - started, 0, silence, repr(error), begun)
