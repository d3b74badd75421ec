"""How the processes of one service agree on which pools are saturated.

The supervisor judges and writes the levels to the directory that the workers share, where each worker writes its
own counts. So all workers decide alike, each server is asked once, and nothing is lost with a worker that dies.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator

import msgspec

from extproc.config import Config
from extproc.routing.in_flight import Tally
from extproc.routing.spillover import Level, Levels
from extproc.service.compose import PoolState
from extproc.service.logs import Failing
from extproc.service.workers import SharedDirectory, Worker
from extproc.state.atomic import replace

log = logging.getLogger(__name__)


class _Judged(msgspec.Struct, frozen=True):
    """Levels, and when they were judged: seconds of the monotonic clock, which all processes of a machine share."""

    at: float
    levels: dict[str, Level]


_judged = msgspec.json.Decoder(_Judged)
_tally = msgspec.json.Decoder(Tally)


def publish(shared: SharedDirectory, levels: Levels) -> None:
    """Write `levels` for the workers to read. Raises `OSError`."""
    replace(shared.levels, msgspec.json.encode(_Judged(time.monotonic(), dict(levels))))


def read_levels(shared: SharedDirectory, stale: float) -> Levels:
    """Return the published levels; none when they are older than `stale` seconds or cannot be read."""
    try:
        judged = _judged.decode(shared.levels.read_bytes())
    except (OSError, msgspec.DecodeError, ValueError):  # ValueError: invalid UTF-8
        return {}
    return judged.levels if time.monotonic() - judged.at <= stale else {}


def read_tally(shared: SharedDirectory, worker: int) -> Tally:
    """Return the counts of a worker and of those it replaced; none when they cannot be read."""
    try:
        return _tally.decode(shared.tally(worker).read_bytes())
    except (OSError, msgspec.DecodeError, ValueError):
        return {}


def tallies(shared: SharedDirectory, workers: int) -> Iterator[Tally]:
    """Return the counts of each of the `workers`."""
    return (read_tally(shared, worker) for worker in range(workers))


class Share:
    """A worker's part: reads the published levels into `pool_state`, and writes its counts."""

    def __init__(self, worker: Worker, current: Callable[[], Config], pool_state: PoolState) -> None:
        self._worker = worker
        self._current = current
        self._board = pool_state.board
        self._in_flight = pool_state.in_flight
        self._failing = Failing()

    async def run(self) -> None:
        """Exchange every `spillover.interval_seconds` until cancelled."""
        while True:
            settings = self._current().spillover
            try:
                if settings.enabled:
                    counted = msgspec.json.encode(self._in_flight.tally(settings.longest_request_seconds))
                    await asyncio.to_thread(replace, self._worker.shared.tally(self._worker.number), counted)
                    self._board.levels = read_levels(self._worker.shared, settings.stale_seconds)
                else:  # what was published before a reload turned it off is still there, and so are the counts
                    self._board.levels = {}
                    self._worker.shared.tally(self._worker.number).unlink(missing_ok=True)
                self._failing.ends()
            except OSError as error:  # no room, or the directory went with a supervisor that was killed
                if self._failing.begins():
                    log.warning("pool levels cannot be shared: %s; nothing spills until they can", error.strerror)
                self._board.levels = {}
            except Exception:  # whatever it was: nothing spills, and the next turn may work
                log.exception("pool levels cannot be shared")
                self._board.levels = {}
            await asyncio.sleep(settings.interval_seconds)
