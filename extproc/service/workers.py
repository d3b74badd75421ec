"""What the workers of one service share: neighbouring addresses, a directory in memory, and signs of life.

The directory holds:

- the configuration that workers start from (`extproc.service.handover`);
- a state file, through which each gets within two seconds what the others have learned;
- how full the pools are, and each worker's own counts of requests (`extproc.service.sharing`);
- the files of prometheus-client's multiprocess mode, by worker number: a worker that replaces another goes on with
  its counts;
- two files for each worker whose times it sets, one as long as it runs and one as long as it is healthy.
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

from extproc.service.errors import StartError
from extproc.state.file import FileStore

log = logging.getLogger(__name__)

SHARE_SECONDS = 0.5
"""Time between two exchanges of each process. What one has learned reaches all the others after two of them."""

BEAT_SECONDS = 0.5
DEAD_SECONDS = 2.0
"""A worker that has given no sign of health for this long counts as unhealthy."""

LOOK_SECONDS = 1.0
HUNG_LOOKS = 10
START_LOOKS = 60
"""Looks in a row without a new sign of life after which a worker counts as hung; `START_LOOKS` before its first."""

MEMORY = Path("/dev/shm")
PREFIX = "dualpool-"
LOCK = "lock"
METRICS_BYTES = 1_000_000
MODEL_BYTES = 28_000
"""The most that the metrics of a worker, and the state of a model, take in the directory."""

METRICS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


def address(listen: str, worker: int) -> str:
    """Return the address of a worker: the ports from that of `listen` on, or `name-0.sock`, `name-1.sock` ..."""
    if listen.startswith("unix:"):
        suffix = ".sock" if listen.endswith(".sock") else ""
        return f"{listen.removesuffix(suffix)}-{worker}{suffix}"
    host, _, port = listen.rpartition(":")
    return f"{host}:{int(port) + worker}"


class SharedDirectory(msgspec.Struct, frozen=True):
    """The paths in the directory that workers share."""

    path: Path

    @property
    def state(self) -> Path:
        """The state file that workers share."""
        return self.path / "state.json"

    def store(self) -> FileStore:
        """Return the shared state file as a store. Nothing in it ages: it was begun by the service that runs."""
        return FileStore(self.state, math.inf, name="shared")

    @property
    def name(self) -> str:
        """A name that no other service has, and no earlier start of this one."""
        return self.path.name

    @property
    def levels(self) -> Path:
        """How full the pools are, as judged by the supervisor."""
        return self.path / "levels.json"

    @property
    def start(self) -> Path:
        """The configuration that a worker starts from."""
        return self.path / "start.json"

    def tally(self, worker: int) -> Path:
        """A worker's count of requests in flight."""
        return self.path / f"in-flight-{worker}.json"

    def beat(self, worker: int, healthy: bool) -> None:
        """Give a sign of life, and a sign of health if `healthy`."""
        _stamp(self._sign("turns", worker))
        if healthy:
            _stamp(self._sign("healthy", worker))

    def last_beat(self, worker: int) -> int:
        """Return the stamp of a worker's last sign of life, 0 when it has given none."""
        return _stamped(self._sign("turns", worker))

    def forget(self, worker: int) -> None:
        """Remove the signs of a worker that has ended."""
        for kind in ("turns", "healthy"):
            self._sign(kind, worker).unlink(missing_ok=True)

    def alive(self, workers: int) -> int:
        """Return how many of the `workers` gave a sign of health in the last `DEAD_SECONDS`."""
        oldest = time.monotonic_ns() - int(DEAD_SECONDS * 1e9)
        return sum(_stamped(self._sign("healthy", worker)) > oldest for worker in range(workers))

    def _sign(self, kind: str, worker: int) -> Path:
        return self.path / f"{kind}-{worker}"


class Worker(msgspec.Struct, frozen=True):
    """One of the workers: its number, counted from 0, and the directory it shares with the others."""

    number: int
    shared: SharedDirectory

    async def live(self, healthy: Callable[[], Awaitable[bool]]) -> None:
        """Give signs of life, and of health as long as it is healthy, until cancelled."""
        while True:
            with suppress(OSError):  # no space or no descriptor for a new file; there may be at the next turn
                self.shared.beat(self.number, await healthy())
            await asyncio.sleep(BEAT_SECONDS)


class Pulse:
    """Finds out whether a worker hangs. `last_beat`: returns the stamp of its last sign of life.

    Counts looks, not seconds: a machine that was suspended for an hour must not have all its workers killed.
    """

    def __init__(self, last_beat: Callable[[], int]) -> None:
        self._last_beat = last_beat
        self._seen = last_beat()
        self._silent = 0

    def is_lost(self) -> bool:
        """Look once more. True when the worker has been silent for too many looks in a row."""
        before, self._seen = self._seen, self._last_beat()
        self._silent = self._silent + 1 if self._seen == before else 0
        return self._silent >= (HUNG_LOOKS if self._seen else START_LOOKS)


async def wait_or_kill(process: Process, pulse: Pulse) -> int:
    """Wait until a worker ends, and kill it when it hangs. Return its exit code."""
    end = asyncio.create_task(process.wait())
    while not (await asyncio.wait({end}, timeout=LOOK_SECONDS))[0]:
        if pulse.is_lost():
            log.error("process %d gives no sign of life: it is killed", process.pid)
            process.kill()  # a loop that hangs would not handle SIGTERM
            break
    return await end


def _stamp(path: Path) -> None:
    """Set the time of a file by the monotonic clock, which never steps. Only the first time needs a descriptor."""
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


def room(workers: int, models: int) -> int:
    """Return the bytes that the directory of so many workers may come to hold."""
    return workers * METRICS_BYTES + 2 * models * MODEL_BYTES  # the state is written beside the one it replaces


@contextmanager
def shared_directory(needed: int) -> Iterator[SharedDirectory]:
    """Make a directory, in memory where `needed` bytes are free there, and remove it at the end.

    Directories left by services that were killed are removed too: they may hold a password. Raises `StartError`
    when there is no place for it.
    """
    new = tempfile.TemporaryDirectory(prefix=PREFIX, dir=_place(needed), ignore_cleanup_errors=True)
    with new as name, _held(Path(name) / LOCK):
        yield SharedDirectory(Path(name))


def _place(needed: int) -> Path:
    """Return where to make the directory. Without room a worker would die of SIGBUS at a write to its metrics."""
    places = [MEMORY]
    with suppress(FileNotFoundError):  # none can be written
        places.append(Path(tempfile.gettempdir()))
    for left in [lock for place in places for lock in place.glob(f"{PREFIX}*/{LOCK}")]:
        _remove_unless_held(left)
    for place in places:
        if os.access(place, os.W_OK) and shutil.disk_usage(place).free >= needed:
            return place
    raise StartError(
        f"server.workers: they share a directory in {MEMORY} or, if that is too small, in that for temporary files "
        f"(TMPDIR, /tmp): neither can be written and has {needed / 1e6:.0f} MB free"
    )


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """Hold a lock on `path` as long as this process lives. The file is locked before it appears there."""
    new = path.with_suffix(".new")
    with new.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        new.replace(path)
        yield


def _remove_unless_held(lock: Path) -> None:
    """Remove the directory of `lock` if it is ours and its process has ended."""
    with suppress(OSError):  # another user's, or gone meanwhile
        if lock.parent.lstat().st_uid != os.geteuid():
            return
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.parent, ignore_errors=True)  # which leaves a link alone


def become_worker(worker: int) -> None:
    """Make this process worker number `worker`. To be called before any metric is created.

    Its metrics continue those of the worker it replaces. It drains and stops when its parent dies, which closes its
    standard input.
    """
    values.ValueClass = MultiProcessValue(lambda: worker)

    def wait() -> None:
        # Unbuffered: a thread that holds the lock of the buffer would keep the process from exiting.
        os.read(sys.stdin.fileno(), 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="parent", daemon=True).start()
