"""Reloads the configuration, all of it or nothing, on SIGHUP or when its file has changed."""

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
    """Reads the configuration again and applies it, unless it is wrong.

    `report(worked)` is called after every attempt. A file mounted from a ConfigMap changes by a swapped symlink, so
    the file that the path leads to is what is compared. A changed file is read once it stays the same from one look
    to the next, since its writer may not be done. An empty file is refused, though the service would start with it:
    it is what is left when the command fails whose output was redirected there.
    """

    def __init__(
        self,
        path: Path | None,
        load: Callable[[Path | None], Config],
        apply: Callable[[Config], None],
        report: Callable[[bool], None],
        seen: Signature | None = None,
    ) -> None:
        """`load`: raises `ConfigError`. `apply`: puts a good configuration in place.

        `seen`: the version of the file that was read last, by default the one there is now.
        """
        self._path = path
        self._load = load
        self._apply = apply
        self._report = report
        self.seen = self._changing = seen or self._signature()
        self._asked = asyncio.Event()

    def ask(self) -> None:
        """Reload soon, whether the file has changed or not."""
        self._asked.set()

    async def run(self) -> None:
        """Reload when asked to, and when the file has changed, until cancelled."""
        while True:
            try:
                await asyncio.wait_for(self._asked.wait(), POLL_SECONDS)
            except TimeoutError:
                before, self._changing = self._changing, self._signature()
                if self._changing in (self.seen, None):  # None: it is gone, and may be about to be replaced
                    continue
                if self._changing != before:
                    continue
            self._asked.clear()
            await self.reload()

    async def reload(self) -> None:
        """Read the configuration and apply it. When it is wrong, keep the current one and log every problem."""
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
        except OSError:  # `load` reports it
            return False

    def _signature(self) -> Signature | None:
        return None if self._path is None else signature(self._path)
