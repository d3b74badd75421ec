"""A new configuration while requests go on: all of it or nothing, on SIGHUP or when its file has changed."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from extproc.config import Config
from extproc.config_file import ConfigError
from extproc.state.atomic import Signature, signature

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0


class Reloader:
    """Reads the configuration again and hands it on, unless it is wrong.

    `report(worked)` is told of every attempt. A file mounted from a ConfigMap changes by a swapped symlink: what
    counts is the file that the path leads to. A changed file is read when it has stayed as it is from one look to
    the next, since who writes it may not be done. One that is empty is refused, though the service would start with
    it: it is what a command leaves whose output was to become the configuration.
    """

    def __init__(
        self,
        path: Path | None,
        load: Callable[[Path | None], Config],
        apply: Callable[[Config], None],
        report: Callable[[bool], None],
        seen: Signature | None = None,
    ) -> None:
        """`load` raises `ConfigError`; `apply` puts a good configuration in place.

        `seen`: the file that was looked at last, by default the one there is now.
        """
        self._path = path
        self._load = load
        self._apply = apply
        self._report = report
        self.seen = self._changing = seen or self._signature()
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
                before, self._changing = self._changing, self._signature()
                if self._changing in (self.seen, None):  # None: gone; it may be on its way back
                    continue
                if self._changing != before:
                    continue
            self._asked.clear()
            await self.reload()

    async def reload(self) -> None:
        """Read the configuration and put it in place; when it is wrong, keep the one in place and say why."""
        self.seen = self._signature()
        try:
            config = await asyncio.to_thread(self._read)  # a big file takes its time to parse
        except ConfigError as error:
            for problem in error.problems:
                log.error("configuration not reloaded: %s", problem)
            self._report(False)
            return
        self._apply(config)
        self._report(True)
        log.info("configuration reloaded from %s", self._path or "the environment")

    def _read(self) -> Config:
        if self._path is not None and self._is_empty(self._path):
            raise ConfigError([f"{self._path}: is empty: write {{}} for the defaults"])
        return self._load(self._path)

    @staticmethod
    def _is_empty(path: Path) -> bool:
        try:
            return not path.read_bytes().strip()
        except OSError:  # which is said when it is loaded
            return False

    def _signature(self) -> Signature | None:
        return None if self._path is None else signature(self._path)
