"""Composition: builds every object of the service, connects them, and runs them from start to stop."""

import asyncio
import gc
import logging
import secrets
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from extproc.config import DEFAULT_POOL_SET, Config
from extproc.config_service import InProxy, Redis
from extproc.metrics import Metrics, export_learned, export_pressure
from extproc.routing.in_flight import InFlight
from extproc.routing.spillover import Board
from extproc.service import signals
from extproc.service.admin import Admin
from extproc.service.background import background
from extproc.service.capacity_check import CapacityCheck
from extproc.service.compose import STARTED, Core, PoolState, compose, describe
from extproc.service.health import Health
from extproc.service.in_proxy import collect
from extproc.service.in_proxy_file import InProxyFile
from extproc.service.pressure import EnvoySource, InFlightSource, VllmSource
from extproc.service.reload import Reloader
from extproc.service.server import build
from extproc.service.sharing import Share, read_tally
from extproc.service.watch import Watch
from extproc.service.workers import SHARE_SECONDS, Worker, address
from extproc.state.atomic import Signature
from extproc.state.file import FileStore
from extproc.state.store import Store
from extproc.state.sync import Sync

log = logging.getLogger(__name__)


class App:
    """One process of the service: all of it, or one of its workers.

    It starts under `config`. When the file at `path` changes (None: the environment alone), `load` reads it again.
    """

    def __init__(
        self,
        config: Config,
        path: Path | None,
        load: Callable[[Path | None], Config],
        worker: Worker | None = None,
        seen: Signature | None = None,
    ) -> None:
        """`seen`: the version of the file that `config` was read from, by default the one there is now."""
        self._worker = worker
        self._started = config
        self._metrics = Metrics(CollectorRegistry())
        stores = _stores(config, worker)
        pool_state = PoolState(Board(), _in_flight(worker))
        names = tuple(store.name for store in stores)
        self._core = compose(config, self._metrics, stores=names, pool_state=pool_state)
        self._watch = _watch(lambda: self._core.config, pool_state)
        self._health = Health(self._core.router, config.server.probe_limit_seconds)
        interval = config.state.interval_seconds if worker is None else SHARE_SECONDS
        self._sync = Sync(self._core.learner, stores, interval, self._metrics.state_exchanged)
        self._in_proxy = self._in_proxy_file(config.in_proxy) if self._is_first else None
        self._reloader = Reloader(path, load, self._apply, self._metrics.reloaded, seen)
        self._capacities = CapacityCheck(lambda: self._core.config.pools, self._metrics)

    @property
    def _is_first(self) -> bool:
        """Whether this process does what one worker does for all."""
        return self._worker is None or self._worker.number == 0

    async def run(self) -> None:
        """Start, serve until SIGTERM or SIGINT, drain, stop. Raises `StartError`."""
        settings = self._core.config.server
        listen = settings.listen if self._worker is None else address(settings.listen, self._worker.number)
        server, port, logs = build(listen, settings, lambda: self._core.context, self._health)
        stopping = signals.listen(self._reloader.ask)
        await self._sync.start()
        with self._admin() as admin:
            await server.start()
            gc.freeze()  # what is built so far stays: going through it took each collection 25 ms
            where = listen if listen.startswith("unix:") else f"{listen} (port {port})"
            log.info("serving on %s, admin on %s", where, admin)
            async with background(*self._work()):
                await stopping.wait()
                log.info(
                    "draining: health fails from now on, open exchanges have %g s to finish", settings.drain_seconds
                )
                self._health.drain()
                await asyncio.sleep(settings.lame_duck_seconds)
                await asyncio.gather(server.stop(settings.drain_seconds), logs.end())
            await self._sync.close()
        log.info("stopped")

    @contextmanager
    def _admin(self) -> Iterator[str]:
        """Serve the admin port and yield its address. For workers the supervisor serves it."""
        if self._worker is not None:
            yield "the supervisor's"
            return
        settings, registry = self._core.config.server, self._metrics.registry
        export_learned(registry, self._core.learner.snapshot)
        export_pressure(registry, lambda: self._core.pool_state.board.levels, self._watch.results)
        loop = asyncio.get_running_loop()
        admin = Admin(settings, self._health, registry, lambda: describe(self._core, registry), loop)
        admin.start()
        try:
            yield admin.address
        finally:
            admin.stop()

    def _work(self) -> list[Coroutine[Any, Any, None]]:
        """Return the tasks that run until the stop."""
        work = [self._sync.run(), self._reloader.run()]
        if self._worker is None:
            work.append(self._watch.run())
        else:
            work.append(self._worker.live(self._health.healthy))
            work.append(Share(self._worker, lambda: self._core.config, self._core.pool_state).run())
        if self._in_proxy is not None:
            work.append(self._in_proxy.run())
        if self._is_first:
            work.append(self._capacities.run())
        return work

    def _in_proxy_file(self, settings: InProxy) -> InProxyFile | None:
        if settings.file is None:
            return None
        return InProxyFile(
            settings.file,
            settings.step,
            settings.interval_seconds,
            lambda values: collect(values, self._core.config, self._core.learner),
            lambda: self._core.learner.changes,
            self._metrics.in_proxy_written,
        )

    def _apply(self, config: Config) -> None:
        """Put a new configuration in place. Open exchanges keep the one they began with."""
        for section in STARTED:
            if getattr(config, section) != getattr(self._started, section):
                log.warning("configuration: a change of %s needs a restart; the rest is in place", section)
        before = self._core
        self._core = compose(config, self._metrics, self._core.learner, pool_state=self._core.pool_state)
        self._health.router = self._core.router
        _tell_of_pools(before, self._core)
        if config.routing.header != before.config.routing.header:
            log.warning(
                "configuration: the routing header is now %s; the proxy's routes must match", config.routing.header
            )


def _tell_of_pools(before: Core, after: Core) -> None:
    was, are = before.context.pool_names, after.context.pool_names
    largest = _largest(after.config)
    if was != are:
        new, gone = (", ".join(sorted(names)) or "none" for names in (are - was, was - are))
        log.warning("configuration: new pools: %s, removed: %s; the proxy's routes must match", new, gone)
    elif largest != _largest(before.config):
        names = ", ".join(sorted(set(largest.values())))
        log.warning("configuration: the largest pools are now: %s; the proxy's routes must match", names)


def _largest(config: Config) -> dict[str, str]:
    """Return the largest pools: by pool that which takes what it refuses, for "" that of the default route."""
    largest = {pool.name: members[-1].name for members in config.pools.values() for pool in members}
    return {**largest, "": config.pools[DEFAULT_POOL_SET][-1].name}


def _in_flight(worker: Worker | None) -> InFlight:
    """Return a new count, or for a worker the one that its predecessor has left."""
    if worker is None:
        return InFlight(secrets.token_hex(4))
    return InFlight(worker.shared.name, tally=read_tally(worker.shared, worker.number))


def _watch(current: Callable[[], Config], pool_state: PoolState) -> Watch:
    """Return what judges the pools in a service of one process; for workers the supervisor does."""
    own = InFlightSource(lambda longest: [pool_state.in_flight.tally(longest)])
    return Watch(current, pool_state.board, (VllmSource(), EnvoySource(), own))


def _stores(config: Config, worker: Worker | None) -> list[Store]:
    """Return the stores of what is learned, the most widely shared first.

    To Redis each worker is a replica of its own, which delivers what it has learned itself, once.
    """
    state = config.state
    stores: list[Store] = [] if state.redis is None else [_redis(state.redis, state.half_life_seconds)]
    if worker is not None:
        return [*stores, worker.shared.store()]
    return stores if state.file is None else [*stores, FileStore(state.file, state.half_life_seconds)]


def _redis(settings: Redis, half_life: float) -> Store:
    from extproc.state.redis import RedisStore  # an optional dependency

    return RedisStore(settings, half_life)
