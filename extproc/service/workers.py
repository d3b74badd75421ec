"""What the workers of one service share: addresses beside each other, a place to meet, and signs of life.

Workers meet in a directory in memory. There lie a state file, through which each learns within two seconds what the
others have learned, how full the pools are (see `extproc.service.sharing`), the files of prometheus-client's
multiprocess mode, one for each worker's number, so that the counts of a worker that died go on in its successor,
and a file that each touches as long as it is healthy.
"""

import asyncio
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from prometheus_client import values
from prometheus_client.values import MultiProcessValue

SHARE_SECONDS = 0.5
"""Time between two exchanges of a worker: what one learns all have after two of them."""

BEAT_SECONDS = 0.5
DEAD_SECONDS = 2.0
"""A worker that has given no sign of life for so long is not counted on."""

MEMORY = Path("/dev/shm")
METRICS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


def address(listen: str, worker: int) -> str:
    """Return the address of a worker: the next ports, or `name-0.sock`, `name-1.sock` ... for a socket."""
    if listen.startswith("unix:"):
        suffix = ".sock" if listen.endswith(".sock") else ""
        return f"{listen.removesuffix(suffix)}-{worker}{suffix}"
    host, _, port = listen.rpartition(":")
    return f"{host}:{int(port) + worker}"


class Meeting(msgspec.Struct, frozen=True):
    """The directory in which workers meet."""

    directory: Path

    @property
    def state(self) -> Path:
        """The state file they share."""
        return self.directory / "state.json"

    @property
    def name(self) -> str:
        """What tells this service from another, and from an earlier start."""
        return self.directory.name

    @property
    def levels(self) -> Path:
        """How full the pools are, as the supervisor judged."""
        return self.directory / "levels.json"

    def tally(self, worker: int) -> Path:
        """What a worker has counted of requests in flight."""
        return self.directory / f"in-flight-{worker}.json"

    def beat(self, worker: int) -> None:
        """Give a sign of life."""
        self._sign(worker).touch()

    def forget(self, worker: int) -> None:
        """Take a worker's sign of life away: it has ended."""
        self._sign(worker).unlink(missing_ok=True)

    def alive(self, workers: int) -> int:
        """Return how many of the `workers` gave a sign of life lately."""
        oldest = time.time() - DEAD_SECONDS
        return sum(_touched(self._sign(worker)) > oldest for worker in range(workers))

    def _sign(self, worker: int) -> Path:
        return self.directory / f"alive-{worker}"


class Worker(msgspec.Struct, frozen=True):
    """One of the workers: its number, from 0, and where it meets the others."""

    number: int
    meeting: Meeting

    async def live(self, healthy: Callable[[], Awaitable[bool]]) -> None:
        """Give signs of life as long as it is healthy, until cancelled."""
        while True:
            if await healthy():
                self.meeting.beat(self.number)
            await asyncio.sleep(BEAT_SECONDS)


def _touched(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


@contextmanager
def meeting() -> Iterator[Meeting]:
    """A new place to meet, gone at the end; in memory where the system has such a place."""
    base = MEMORY if os.access(MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="dualpool-", dir=base, ignore_cleanup_errors=True) as name:
        yield Meeting(Path(name))


def become(worker: int) -> None:
    """Make this process worker number `worker`: before any metric is made.

    Its metrics go on where those of its predecessor ended, and it stops in order when its parent is gone, which
    closes its standard input.
    """
    values.ValueClass = MultiProcessValue(lambda: worker)

    def wait() -> None:
        os.read(sys.stdin.fileno(), 1)  # not through the buffer, whose lock a process cannot end with
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="parent", daemon=True).start()
