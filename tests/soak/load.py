"""The load of a soak: the demo's mixed requests at a steady rate, and clients that hang up."""

import asyncio
import itertools
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import aiohttp

from extproc.demo.load import ATTEMPTS
from extproc.demo.pool import SERVED_BY
from extproc.demo.requests import Request, mixed

SEED = 1
HANGING_UP = 0.02
"""Share of the requests whose client leaves at the first byte of the answer."""

SECONDS = 60.0
"""A request that takes longer has failed."""


@dataclass
class Interval:
    """What became of the requests that ended since the last sample."""

    seconds: list[float] = field(default_factory=list)
    failed: int = 0
    left: int = 0
    retried: int = 0
    pools: dict[str, int] = field(default_factory=dict)


class Load:
    """Sends `rate` requests a second to `url`, whatever becomes of those before, until cancelled."""

    def __init__(self, url: str, rate: float) -> None:
        self._url = url
        self._rate = rate
        self._random = random.Random(SEED)
        self._interval = Interval()
        self.errors: list[str] = []

    def take(self) -> Interval:
        """Return what became of the requests since the last call."""
        taken, self._interval = self._interval, Interval()
        return taken

    async def run(self) -> None:
        """Send until cancelled."""
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=SECONDS)) as session,
            asyncio.TaskGroup() as group,
        ):
            for request in requests():
                group.create_task(self._one(session, request))
                await asyncio.sleep(self._random.expovariate(self._rate))

    async def _one(self, session: aiohttp.ClientSession, request: Request) -> None:
        started = time.monotonic()
        leaves = self._random.random() < HANGING_UP
        try:
            async with session.post(self._url + request.path, json=request.body) as answer:
                if leaves:
                    answer.close()
                    self._interval.left += 1
                    return
                await answer.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            self._fail(repr(error))
            return
        self._count(answer, time.monotonic() - started)

    def _count(self, answer: aiohttp.ClientResponse, seconds: float) -> None:
        if answer.status != 200:
            self._fail(f"status {answer.status}")
            return
        interval = self._interval
        interval.seconds.append(seconds)
        interval.retried += answer.headers.get(ATTEMPTS, "1") != "1"
        pool = answer.headers.get(SERVED_BY, "")
        interval.pools[pool] = interval.pools.get(pool, 0) + 1

    def _fail(self, why: str) -> None:
        self._interval.failed += 1
        self.errors.append(why)


def requests() -> Iterator[Request]:
    """Yield requests without end."""
    for seed in itertools.count(SEED):
        yield from mixed(1000, seed)
