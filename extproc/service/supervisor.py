"""Several workers as one service: started, replaced when they die, and seen as one on the admin port.

The supervisor answers no exchange: it could fail without one being lost.
"""

import asyncio
import logging
import os
import shutil
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from extproc.config import Config
from extproc.metrics import Metrics, export_learned, export_pressure, export_workers
from extproc.service import signals
from extproc.service.admin import Admin
from extproc.service.background import background
from extproc.service.compose import STARTED, compose, describe
from extproc.service.errors import StartError
from extproc.service.handover import hand_over
from extproc.service.pressure import EnvoySource, InFlightSource, VllmSource
from extproc.service.reload import Reloader
from extproc.service.sharing import publish, tallies
from extproc.service.tls import credentials
from extproc.service.watch import Watch
from extproc.service.workers import METRICS_VARIABLE, SHARE_SECONDS, Pulse, SharedDirectory, ended, shared_directory
from extproc.state.file import FileStore
from extproc.state.store import Store
from extproc.state.sync import Sync

log = logging.getLogger(__name__)

LEAST_PAUSE_SECONDS = 0.1
MOST_PAUSE_SECONDS = 5.0
SETTLED_SECONDS = 10.0
"""A worker that lived so long is replaced after the least pause when it dies."""

START_ERROR = 1
"""What a worker ends with that cannot start, as `dualpool serve` does."""

PATIENCE_SECONDS = 5.0
"""How long, beyond a lame duck's time, workers that cannot start are started again at the beginning: those of a
supervisor that was killed may still hold their addresses."""

KILL_SECONDS = 5.0
"""After its time to drain, how long a worker may take to end."""


class Supervisor:
    """`config.server.workers` workers, each started by `command` with its number and what they share."""

    def __init__(
        self, config: Config, path: Path | None, load: Callable[[Path | None], Config], command: Sequence[str]
    ) -> None:
        self._command = tuple(command)
        self._own = CollectorRegistry()
        self._metrics = Metrics(self._own)
        self._core = compose(config, self._metrics, stores=("shared", "file"))
        self._reloader = Reloader(path, load, self._apply, self._reloaded)
        self._registry = CollectorRegistry()
        self._count_replaced = export_workers(self._registry, self._up)
        export_learned(self._registry, self._core.learner.snapshot)
        self._processes: dict[int, Process] = {}
        self._stopping = asyncio.Event()
        self._has_served = False
        self._patient_until = 0.0
        self._unable: int | None = None  # the worker that could not start

    async def run(self) -> None:
        """Start the workers, serve until SIGTERM or SIGINT, stop them. Raises `StartError`."""
        with shared_directory() as shared:
            self._registry.register(_OfAll(str(shared.path), self._own))
            self._shared = shared
            hand_over(shared, self._core.config, self._reloader.seen)
            watch = self._watch(shared)
            export_pressure(self._registry, lambda: self._core.pool_state.board.levels, watch.results)
            await self._serve(shared, watch)

    @property
    def draining(self) -> bool:
        """Whether the service is about to stop."""
        return self._stopping.is_set()

    async def healthy(self) -> bool:
        """Whether at least one worker is."""
        return not self.draining and self._up() > 0

    def _up(self) -> int:
        """Workers that are healthy."""
        return self._shared.alive(self._core.config.server.workers)

    def _watch(self, shared: SharedDirectory) -> Watch:
        """What judges the pools, for all workers."""
        counted = InFlightSource(lambda _: tallies(shared, self._core.config.server.workers))
        sources = (VllmSource(), EnvoySource(), counted)
        board = self._core.pool_state.board
        return Watch(lambda: self._core.config, board, sources, lambda levels: publish(shared, levels))

    async def _serve(self, shared: SharedDirectory, watch: Watch) -> None:
        settings = self._core.config.server
        if settings.tls is not None:
            credentials(settings.tls)  # what is wrong with them is said once, not by each worker
        admin = Admin(settings, self, self._registry, self._describe, asyncio.get_running_loop())
        self._patient_until = asyncio.get_running_loop().time() + settings.lame_duck_seconds + PATIENCE_SECONDS
        self._stopping = signals.listen(self._reload, lambda: shutil.rmtree(shared.path, ignore_errors=True))
        interval = self._core.config.state.interval_seconds
        sync = Sync(self._core.learner, self._stores(shared), SHARE_SECONDS, self._exchanged, copies=interval)
        await sync.start()
        await sync.exchange()  # so that workers start with what was kept
        keepers = [asyncio.create_task(self._keep(worker, shared)) for worker in range(settings.workers)]
        async with background(sync.run(), self._reloader.run(), watch.run()):
            admin.start()
            log.info("%d workers on %s, admin on %s:%d", settings.workers, settings.listen, *admin.address)
            await self._stopping.wait()
            await self._stop(keepers, settings.lame_duck_seconds + settings.drain_seconds + KILL_SECONDS)
        await sync.close()
        admin.stop()
        log.info("stopped")
        if self._unable is not None:
            raise StartError(
                f"server.workers: {settings.workers}: worker {self._unable} cannot start, as it says above"
            )

    def _stores(self, shared: SharedDirectory) -> list[Store]:
        """The file that the workers share, and the one that outlives them."""
        state = self._core.config.state
        kept = [] if state.file is None else [FileStore(state.file, state.half_life_hours * 3600)]
        return [shared.store(), *kept]

    def _exchanged(self, store: str, worked: bool) -> None:
        """Count exchanges with the file that outlives the workers; those with what they share they count."""
        if store == "file":
            self._metrics.state_exchanged(store, worked)

    async def _keep(self, worker: int, shared: SharedDirectory) -> None:
        """Run worker number `worker`, again whenever it ends, until the service stops."""
        pause = LEAST_PAUSE_SECONDS
        loop = asyncio.get_running_loop()
        while not self._stopping.is_set():
            started = loop.time()
            end = await self._live(worker, shared)
            if self._stopping.is_set():
                return
            pause = LEAST_PAUSE_SECONDS if loop.time() - started > SETTLED_SECONDS else pause
            log.error("worker %d %s; it is started again in %g s", worker, end, pause)
            self._count_replaced()
            await asyncio.sleep(pause)
            pause = min(2 * pause, MOST_PAUSE_SECONDS)

    async def _live(self, worker: int, shared: SharedDirectory) -> str:
        """Start a worker, wait for its end, and say what it came to."""
        arguments = [*self._command, "--number", str(worker), "--shared", str(shared.path)]
        try:
            process = await asyncio.create_subprocess_exec(
                *arguments,
                stdin=asyncio.subprocess.PIPE,
                env={**os.environ, METRICS_VARIABLE: str(shared.path)},
                start_new_session=True,  # a Ctrl-C at the terminal is for the supervisor, who passes it on
            )
        except OSError as error:
            return f"cannot be started: {error.strerror}"
        self._processes[worker] = process
        if self._stopping.is_set():  # it was not there to be told
            process.terminate()
        code = await ended(process, Pulse(lambda: shared.last_beat(worker)))
        self._has_served |= any(shared.last_beat(each) for each in self._processes)
        if code == START_ERROR and not self._has_served and self._patient_until < asyncio.get_running_loop().time():
            self._unable = worker
            self._stopping.set()
        shared.forget(worker)
        mark_process_dead(worker, str(shared.path))
        return f"ended with {code}"

    async def _stop(self, keepers: list[asyncio.Task[None]], seconds: float) -> None:
        """Let the workers drain, and kill those that do not end."""
        self._signal(signal.SIGTERM)
        _, late = await asyncio.wait(keepers, timeout=seconds)
        if late:
            self._signal(signal.SIGKILL)
            await asyncio.wait(late, timeout=KILL_SECONDS)

    def _signal(self, number: signal.Signals) -> None:
        for process in self._processes.values():
            with suppress(ProcessLookupError):
                process.send_signal(number)

    def _reload(self) -> None:
        self._reloader.ask()
        self._signal(signal.SIGHUP)

    def _reloaded(self, _worked: bool) -> None:
        """Let workers that are started from now on go on from there; each counts for itself."""
        try:
            hand_over(self._shared, self._core.config, self._reloader.seen)
        except OSError as error:
            log.warning("a worker started now would have the configuration before: %s", error.strerror)

    def _apply(self, config: Config) -> None:
        """Put a new configuration in place, for `/state`; the workers have read it themselves."""
        started = {name: getattr(self._core.config, name) for name in STARTED}
        self._core = compose(
            config.model_copy(update=started),
            self._metrics,
            self._core.learner,
            pool_state=self._core.pool_state,
        )

    def _describe(self) -> dict[str, object]:
        return {
            **describe(self._core, self._registry),
            "workers": {"configured": self._core.config.server.workers, "up": self._up()},
        }


class _OfAll:
    """What the workers count, and of the supervisor how it gets on with the state file."""

    def __init__(self, path: str, own: CollectorRegistry) -> None:
        self._workers = MultiProcessCollector(CollectorRegistry(), path=path)
        self._own = own

    def collect(self) -> Iterator[Metric]:
        """Yield each metric once."""
        own = {metric.name: metric for metric in self._own.collect() if metric.name.startswith("dualpool_state")}
        for metric in self._workers.collect():
            if metric.name in own:
                metric.samples += own.pop(metric.name).samples
            yield metric
        yield from own.values()


def command(path: Path | None, workers: str | None) -> list[str]:
    """Return the command that starts a worker of this program under the configuration at `path`."""
    options = {"--config": str(path) if path else None, "--workers": workers}
    given = [part for option, value in options.items() if value is not None for part in (option, value)]
    return [sys.executable, "-m", "extproc", "serve", *given]
