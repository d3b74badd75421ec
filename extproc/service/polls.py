"""Polls HTTP pages, each address in a task of its own, so that a slow one delays no other."""

import asyncio
import ipaddress
import logging
import socket
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Generic, TypeVar

import msgspec

from extproc.config_types import host_and_port
from extproc.service.fetch import FetchError, fetch

log = logging.getLogger(__name__)

PAGE_LIMIT = 4 * 1024 * 1024
"""Bytes read of a page: vLLM's metrics are some hundred kilobytes, and a megabyte takes about 2 ms to read."""

MOST_SERVERS = 256
"""IP addresses polled behind one host name."""

T = TypeVar("T")


class Terms(msgspec.Struct, frozen=True):
    """How often to poll and how long to wait for an answer, in seconds."""

    interval: float
    timeout: float


class Polls(Generic[T]):
    """Polls `path` at HOST:PORT addresses and keeps what `read` makes of the last answer of each.

    A host name is resolved at every turn and all its IP addresses are polled: the name of a headless Kubernetes
    Service stands for all its pods. `read`: raises `ValueError` for a page without figures. `clock`: monotonic,
    seconds.
    """

    def __init__(self, path: str, read: Callable[[bytes], T], clock: Callable[[], float]) -> None:
        self._path = path
        self._read = read
        self._clock = clock
        self._tasks: dict[tuple[str, Terms], asyncio.Task[None]] = {}
        self._seen: dict[str, tuple[float, list[T]]] = {}
        self._failing: set[str] = set()
        self._resolver = ThreadPoolExecutor(4, thread_name_prefix="resolve")  # a slow DNS holds up nothing else
        self.results: Counter[str] = Counter(ok=0, failed=0)

    def follow(self, addresses: Iterable[str], terms: Terms) -> None:
        """Poll these addresses from now on, and no others."""
        wanted = {(address, terms) for address in addresses}
        for key in self._tasks.keys() - wanted:
            self._tasks.pop(key).cancel()
        named = {address for address, _ in wanted}
        for address in self._seen.keys() - named:
            del self._seen[address]
        self._failing &= named
        new = wanted - self._tasks.keys()
        for number, key in enumerate(new):
            self._tasks[key] = asyncio.create_task(self._ask_again(*key, number / len(new)))

    def last(self, address: str, age: float) -> list[T]:
        """Return the last values of each server at `address`; none when they are older than `age` seconds."""
        at, values = self._seen.get(address, (0.0, []))
        return values if self._clock() - at <= age else []

    async def close(self) -> None:
        """Stop polling."""
        tasks = list(self._tasks.values())
        self.follow((), Terms(0, 0))
        await asyncio.gather(*tasks, return_exceptions=True)
        self._resolver.shutdown(wait=False, cancel_futures=True)

    async def _ask_again(self, address: str, terms: Terms, share: float) -> None:
        """Ask every interval. `share`: of an interval to wait first; a thousand answers at once hold up others."""
        await asyncio.sleep(share * terms.interval)
        while True:
            try:
                await self._ask(address, terms.timeout)
            except Exception:  # whatever it was, the next turn may work
                log.exception("%s%s cannot be asked", address, self._path)
            await asyncio.sleep(terms.interval)

    async def _ask(self, address: str, timeout: float) -> None:
        """Poll every server behind `address`. Answers are dated by when they were asked for."""
        asked = self._clock()
        values: list[T] = []
        trouble = "no answer"
        with suppress(TimeoutError):
            async with asyncio.timeout(2 * timeout):
                servers = await self._resolve(address)
                answers = await asyncio.gather(*(self._one(*server, timeout) for server in servers))
                values = [answer for answer in answers if not isinstance(answer, FetchError)]
                trouble = next((str(answer) for answer in answers if isinstance(answer, FetchError)), trouble)
        self.results["ok" if values else "failed"] += 1
        self._tell(address, "" if values else trouble)
        if values:
            self._seen[address] = asked, values

    async def _one(self, host: str, port: int, timeout: float) -> T | FetchError:
        try:
            return self._read(await fetch(host, port, self._path, timeout, PAGE_LIMIT))
        except FetchError as error:
            return error
        except ValueError as error:
            return FetchError(str(error))

    async def _resolve(self, address: str) -> list[tuple[str, int]]:
        host, port = host_and_port(address)
        with suppress(ValueError):
            return [(str(ipaddress.ip_address(host)), port)]
        try:
            found = await asyncio.get_running_loop().run_in_executor(
                self._resolver, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            )
        except OSError:
            return []
        return sorted({(str(entry[4][0]), int(port)) for entry in found})[:MOST_SERVERS]

    def _tell(self, address: str, trouble: str) -> None:
        """Log when an address begins to fail and when it answers again."""
        if trouble and address not in self._failing:
            self._failing.add(address)
            log.warning("http://%s%s cannot be read: %s", address, self._path, trouble)
        elif not trouble and address in self._failing:
            self._failing.discard(address)
            log.info("http://%s%s is read again", address, self._path)
