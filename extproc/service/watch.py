"""The loop that judges how full the pools are, and reports it to workers, the log and `/state`."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

from extproc.config import Config
from extproc.routing.spillover import UNKNOWN, Board, Level, Levels, judge
from extproc.service.logs import Failing
from extproc.service.pressure import PressureSource

log = logging.getLogger(__name__)

_NOTHING = Config()
"""A configuration with nothing to watch."""


class Watch:
    """Keeps `board` up to date with what `sources` read.

    `current`: returns the configuration in force. `publish`: called with the levels after every look, for the
    processes that decide; may raise `OSError`.
    """

    def __init__(
        self,
        current: Callable[[], Config],
        board: Board,
        sources: Sequence[PressureSource],
        publish: Callable[[Levels], None] = lambda _: None,
    ) -> None:
        self._current = current
        self._board = board
        self._sources = tuple(sources)
        self._publish = publish
        self._followed: Config | None = None
        self._failing = Failing()

    async def run(self) -> None:
        """Look every `spillover.interval_seconds` until cancelled."""
        try:
            while True:
                config = self._current()
                try:
                    self.look(config)
                    self._failing.ends()
                except OSError as error:
                    if self._failing.begins():
                        log.warning(
                            "pool levels cannot be written: %s; nothing spills until they can", error.strerror
                        )
                    self._board.levels = {}
                except Exception:  # whatever it was: nothing spills until a look works again
                    log.exception("pools cannot be judged")
                    self._board.levels = {}
                await asyncio.sleep(config.spillover.interval_seconds)
        finally:
            for source in self._sources:
                await source.close()

    def look(self, config: Config) -> None:
        """Judge every pool by the latest readings, but those alone in their set, which neither spill nor take."""
        settings = config.spillover
        if config is not self._followed:
            for source in self._sources:
                source.follow(config if settings.enabled else _NOTHING)
            self._followed = config
        if not settings.enabled:
            self._board.levels = {}
            return
        found = [(source.name, source.readings()) for source in self._sources]
        before = self._board.levels
        levels = {
            pool: judge(
                before.get(pool, UNKNOWN),
                {name: readings[pool] for name, readings in found if pool in readings},
                settings.leave,
            )
            for pool in {pool.name for members in config.pools.values() if len(members) > 1 for pool in members}
        }
        _tell(before, levels)
        self._board.levels = levels
        self._publish(levels)

    def results(self) -> dict[str, Mapping[str, int]]:
        """Return how many questions of each source were answered (`ok`) and how many were not (`failed`)."""
        return {source.name: source.results() for source in self._sources}


def _tell(before: Levels, now: Levels) -> None:
    """Log each pool that has become saturated or has room again."""
    for pool, level in sorted(now.items()):
        if level.saturated != before.get(pool, UNKNOWN).saturated:
            state = "is saturated" if level.saturated else "is no longer saturated"
            log.info("pool %s %s: pressure %s by %s", pool, state, _rounded(level), level.source)


def _rounded(level: Level) -> str:
    return "unknown" if level.pressure is None else f"{level.pressure:.2f}"


def described(levels: Levels) -> dict[str, object]:
    """Return levels as plain values for `/state`."""
    return {
        pool: {
            "saturated": level.saturated,
            "pressure": level.pressure,
            "source": level.source,
            "why": level.why,
            **level.figures,
        }
        for pool, level in sorted(levels.items())
    }
