"""Composition: builds every object of the service, wires them, and runs them from start to stop."""

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry

from extproc.config import Config, load
from extproc.metrics import Metrics
from extproc.service.admin import Admin
from extproc.service.compose import compose, describe, table_limit
from extproc.service.health import Health
from extproc.service.reload import Reloader
from extproc.service.server import BindError, build
from extproc.state.file import FileStore
from extproc.state.store import Store
from extproc.state.sync import Sync

log = logging.getLogger(__name__)


class App:
    """One service: under `config`, then under what `path` (None: the environment alone) is changed to."""

    def __init__(self, config: Config, path: Path | None = None) -> None:
        self._metrics = Metrics(CollectorRegistry())
        self._core = compose(config, self._metrics)
        self._metrics.export_learned(self._core.learner.snapshot)
        self._health = Health(self._core.router, config.server.probe_limit_seconds)
        self._sync = Sync(
            self._core.learner, _stores(config), config.state.interval_seconds, self._metrics.state_exchanged
        )
        self._reloader = Reloader(path, load, self._apply, self._metrics.reloaded)

    def state(self) -> dict[str, object]:
        """Return pools, counts and everything learned, as plain values."""
        return describe(self._core, self._metrics)

    async def run(self) -> None:
        """Start, serve until SIGTERM or SIGINT, drain, stop. Raises `BindError` when a port is taken."""
        loop = asyncio.get_running_loop()
        settings = self._core.config.server
        server, port = build(settings.listen, lambda: self._core.context, self._health)
        try:
            admin = Admin(settings.admin_address, self._health, self._metrics.registry, self.state, loop)
        except OSError as error:
            raise BindError(f"server.admin: {settings.admin!r}: cannot be listened on: {error.strerror}") from error
        stopping = self._listen_to_signals(loop)
        await self._sync.start()
        await server.start()
        admin.start()
        log.info("serving on %s (port %d), admin on %s:%d", settings.listen, port, *admin.address)
        async with self._background():
            await stopping.wait()
            log.info("draining: health fails now, open exchanges may take %g s", settings.drain_seconds)
            self._health.drain()
            await asyncio.sleep(settings.lame_duck_seconds)
            await server.stop(settings.drain_seconds)
        await self._sync.close()
        admin.stop()
        log.info("stopped")

    @asynccontextmanager
    async def _background(self) -> AsyncIterator[None]:
        """Share what is learned and watch the configuration, meanwhile."""
        tasks = [asyncio.create_task(self._sync.run()), asyncio.create_task(self._reloader.run())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _apply(self, config: Config) -> None:
        """Put a new configuration in place; exchanges that are open end under the one they began with."""
        for section in ("server", "state"):
            if getattr(config, section) != getattr(self._core.config, section):
                log.warning("configuration: %s has changed, which takes a restart; the rest is in place", section)
        async with self._sync.quiet:
            self._core = compose(config, self._metrics, self._core.learner)
            self._health.router = self._core.router

    def _listen_to_signals(self, loop: asyncio.AbstractEventLoop) -> asyncio.Event:
        """SIGHUP reloads; the first other signal sets the event returned, the second ends the process at once."""
        stopping = asyncio.Event()

        def on_signal(number: signal.Signals) -> None:
            if stopping.is_set():
                os._exit(128 + number)
            stopping.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, on_signal, number)
        loop.add_signal_handler(signal.SIGHUP, self._reloader.ask)
        return stopping


def _stores(config: Config) -> list[Store]:
    """The places that keep and share what is learned, the one that all replicas share first."""
    state = config.state
    if state.file is None:
        return []
    return [FileStore(state.file, table_limit(config), state.half_life_hours * 3600)]
