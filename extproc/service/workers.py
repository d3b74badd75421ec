"""What the workers of one service share: addresses beside each other, a directory, and signs of life.

They share a directory in memory. There lie the configuration that they start from (`extproc.service.handover`), a
state file, through which each learns within two seconds what the others have learned, how full the pools are and
what each has counted of them (`extproc.service.sharing`), the files of prometheus-client's multiprocess mode, one
for each worker's number, so that the counts of a worker that died go on in its successor, and two files that each
stamps: one at every turn, one as long as it is healthy.
"""

import asyncio
import fcntl
import logging
import math
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
from prometheus_client import values
from prometheus_client.values import MultiProcessValue

from extproc.state.file import FileStore

log = logging.getLogger(__name__)

SHARE_SECONDS = 0.5
"""Time between two exchanges of a worker or of the supervisor: what one learns all have after two of them."""

BEAT_SECONDS = 0.5
DEAD_SECONDS = 2.0
"""A worker that has given no sign of health for so long is not counted on."""

LOOK_SECONDS = 1.0
HUNG_LOOKS = 10
START_LOOKS = 60
"""Looks in a row without a new sign of life until a worker is held to hang; without the first one of all."""

MEMORY = Path("/dev/shm")
PREFIX = "dualpool-"
LOCK = "lock"
METRICS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


def address(listen: str, worker: int) -> str:
    """Return the address of a worker: the next ports, or `name-0.sock`, `name-1.sock` ... for a socket."""
    if listen.startswith("unix:"):
        suffix = ".sock" if listen.endswith(".sock") else ""
        return f"{listen.removesuffix(suffix)}-{worker}{suffix}"
    host, _, port = listen.rpartition(":")
    return f"{host}:{int(port) + worker}"


class SharedDirectory(msgspec.Struct, frozen=True):
    """The directory that workers share."""

    path: Path

    @property
    def state(self) -> Path:
        """The state file they share."""
        return self.path / "state.json"

    def store(self) -> FileStore:
        """The same as a store. It is as old as the service, so nothing in there ages, whatever a clock says."""
        return FileStore(self.state, math.inf, name="shared")

    @property
    def name(self) -> str:
        """What tells this service from another, and from an earlier start."""
        return self.path.name

    @property
    def levels(self) -> Path:
        """How full the pools are, as the supervisor judged."""
        return self.path / "levels.json"

    @property
    def start(self) -> Path:
        """What a worker starts from."""
        return self.path / "start.json"

    def tally(self, worker: int) -> Path:
        """What a worker has counted of requests in flight."""
        return self.path / f"in-flight-{worker}.json"

    def beat(self, worker: int, healthy: bool) -> None:
        """Give a sign of life, and one of health where there is any."""
        _stamp(self._sign("turns", worker))
        if healthy:
            _stamp(self._sign("healthy", worker))

    def last_beat(self, worker: int) -> int:
        """Return the stamp of a worker's last sign of life, 0 when it has given none."""
        return _stamped(self._sign("turns", worker))

    def forget(self, worker: int) -> None:
        """Take a worker's signs away: it has ended."""
        for kind in ("turns", "healthy"):
            self._sign(kind, worker).unlink(missing_ok=True)

    def alive(self, workers: int) -> int:
        """Return how many of the `workers` gave a sign of health lately."""
        oldest = time.monotonic_ns() - int(DEAD_SECONDS * 1e9)
        return sum(_stamped(self._sign("healthy", worker)) > oldest for worker in range(workers))

    def _sign(self, kind: str, worker: int) -> Path:
        return self.path / f"{kind}-{worker}"


class Worker(msgspec.Struct, frozen=True):
    """One of the workers: its number, from 0, and what it shares with the others."""

    number: int
    shared: SharedDirectory

    async def live(self, healthy: Callable[[], Awaitable[bool]]) -> None:
        """Give signs of life, and of health as long as it is healthy, until cancelled."""
        while True:
            with suppress(OSError):  # no room or no descriptor for a new file: the next turn may have one
                self.shared.beat(self.number, await healthy())
            await asyncio.sleep(BEAT_SECONDS)


class Pulse:
    """Whether a worker hangs. `last_beat`: the stamp of its last sign of life.

    Looks are counted and not seconds: when all processes stood still for an hour, none of them hangs.
    """

    def __init__(self, last_beat: Callable[[], int]) -> None:
        self._last_beat = last_beat
        self._seen = last_beat()
        self._silent = 0

    def is_lost(self) -> bool:
        """Look; True when the worker has been silent for too many looks in a row."""
        before, self._seen = self._seen, self._last_beat()
        self._silent = self._silent + 1 if self._seen == before else 0
        return self._silent >= (HUNG_LOOKS if self._seen else START_LOOKS)


async def ended(process: Process, pulse: Pulse) -> int:
    """Wait for the end of a worker, and bring it about when it hangs; return its exit code."""
    end = asyncio.create_task(process.wait())
    while not (await asyncio.wait({end}, timeout=LOOK_SECONDS))[0]:
        if pulse.is_lost():
            log.error("process %d gives no sign of life: it is killed", process.pid)
            process.kill()  # SIGTERM would not reach a loop that does not turn
            break
    return await end


def _stamp(path: Path) -> None:
    """Set the time of a file by the monotonic clock, which never steps. Only the first time takes a descriptor."""
    now = time.monotonic_ns()
    try:
        os.utime(path, ns=(now, now))
    except FileNotFoundError:
        path.touch()
        os.utime(path, ns=(now, now))


def _stamped(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


@contextmanager
def shared_directory() -> Iterator[SharedDirectory]:
    """A new directory, gone at the end; in memory where the system has a place for that.

    What a service has left that was killed is removed: it may hold a password.
    """
    base = MEMORY if os.access(MEMORY, os.W_OK) else Path(tempfile.gettempdir())
    for left in base.glob(f"{PREFIX}*/{LOCK}"):
        _remove_unless_held(left)
    new = tempfile.TemporaryDirectory(prefix=PREFIX, dir=base, ignore_cleanup_errors=True)
    with new as name, _held(Path(name) / LOCK):
        yield SharedDirectory(Path(name))


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """Hold a lock as long as this process lives, on a file that nobody finds at `path` without it."""
    new = path.with_suffix(".new")
    with new.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        new.replace(path)
        yield


def _remove_unless_held(lock: Path) -> None:
    """Remove the directory of `lock` if that is ours and its process has ended."""
    with suppress(OSError):  # another user's, or gone meanwhile
        if lock.parent.lstat().st_uid != os.geteuid() or lock.parent.is_symlink():
            return
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.parent, ignore_errors=True)


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
