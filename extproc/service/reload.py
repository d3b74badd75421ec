"""A new configuration while requests go on: all of it or nothing, on SIGHUP or when its file has changed."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from extproc.config import Config
from extproc.config_file import ConfigError
from extproc.state.atomic import Signature, signature

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0


class Reloader:
    """Reads the configuration again and hands it on, unless it is wrong.

    `report(worked)` is told of every attempt. A file mounted from a ConfigMap changes by a swapped symlink: what
    counts is the file that the path leads to.
    """

    def __init__(
        self,
        path: Path | None,
        load: Callable[[Path | None], Config],
        apply: Callable[[Config], Awaitable[None]],
        report: Callable[[bool], None],
    ) -> None:
        """`load` raises `ConfigError`; `apply` puts a good configuration in place."""
        self._path = path
        self._load = load
        self._apply = apply
        self._report = report
        self._seen = self._signature()
        self._asked = asyncio.Event()

    def ask(self) -> None:
        """Reload soon, changed or not."""
        self._asked.set()

    async def run(self) -> None:
        """Reload when asked to, and when the file has changed, until cancelled."""
        while True:
            try:
                await asyncio.wait_for(self._asked.wait(), POLL_SECONDS)
            except TimeoutError:
                if self._signature() in (self._seen, None):  # None: gone; it may be on its way back
                    continue
            self._asked.clear()
            await self.reload()

    async def reload(self) -> None:
        """Read the configuration and put it in place; when it is wrong, keep the one in place and say why."""
        self._seen = self._signature()
        try:
            config = await asyncio.to_thread(self._load, self._path)  # a big file takes its time to parse
        except ConfigError as error:
            for problem in error.problems:
                log.error("configuration not reloaded: %s", problem)
            self._report(False)
            return
        await self._apply(config)
        self._report(True)
        log.info("configuration reloaded from %s", self._path or "the environment")

    def _signature(self) -> Signature | None:
        return None if self._path is None else signature(self._path)
