"""Several workers as one service: started, replaced when they die, and seen as one on the admin port.

The supervisor serves no exchange itself: if it fails, none is lost.
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
from extproc.service.workers import METRICS_VARIABLE, SHARE_SECONDS, Pulse, room, shared_directory, wait_or_kill
from extproc.state.file import FileStore
from extproc.state.store import Store
from extproc.state.sync import Sync

log = logging.getLogger(__name__)

LEAST_PAUSE_SECONDS = 0.1
MOST_PAUSE_SECONDS = 5.0
SETTLED_SECONDS = 10.0
"""A worker that dies is started again after a pause. It doubles while workers live no longer than
`SETTLED_SECONDS`."""

START_ERROR = 1
"""Exit code of a worker that cannot start."""

PATIENCE_SECONDS = 5.0
"""Until this long after `server.lame_duck_seconds`, workers that cannot start are tried again: those of a
supervisor that was killed may still hold the addresses."""

KILL_SECONDS = 5.0
"""How long a worker may take to end after its time to drain."""


class Supervisor:
    """Runs `config.server.workers` workers: `command`, followed by a number and the shared directory."""

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
        self._failed_worker: int | None = None  # the one that could not start

    async def run(self) -> None:
        """Start the workers, serve until SIGTERM or SIGINT, stop them. Raises `StartError`."""
        config = self._core.config
        with shared_directory(room(config.server.workers, config.categories.limit)) as shared:
            self._shared = shared
            self._registry.register(_AllProcesses(str(shared.path), self._own))
            hand_over(shared, config, self._reloader.seen)
            watch = self._watch()
            export_pressure(self._registry, lambda: self._core.pool_state.board.levels, watch.results)
            await self._serve(watch)

    @property
    def draining(self) -> bool:
        """Whether the service is about to stop."""
        return self._stopping.is_set()

    async def healthy(self) -> bool:
        """Whether at least one worker is healthy."""
        return not self.draining and self._up() > 0

    def _up(self) -> int:
        """Return the number of healthy workers."""
        return self._shared.alive(self._core.config.server.workers)

    def _watch(self) -> Watch:
        """Return what judges the pools for all workers."""
        counted = InFlightSource(lambda _: tallies(self._shared, self._core.config.server.workers))
        sources = (VllmSource(), EnvoySource(), counted)
        board = self._core.pool_state.board
        return Watch(lambda: self._core.config, board, sources, lambda levels: publish(self._shared, levels))

    async def _serve(self, watch: Watch) -> None:
        settings = self._core.config.server
        if settings.tls is not None:
            credentials(settings.tls)  # so that a bad certificate is reported once, not by each worker
        admin = Admin(settings, self, self._registry, self._describe, asyncio.get_running_loop())
        self._patient_until = asyncio.get_running_loop().time() + settings.lame_duck_seconds + PATIENCE_SECONDS
        self._stopping = signals.listen(self._reload, lambda: shutil.rmtree(self._shared.path, ignore_errors=True))
        interval = self._core.config.state.interval_seconds
        sync = Sync(self._core.learner, self._stores(), SHARE_SECONDS, self._exchanged, copies=interval)
        await sync.start()
        await sync.exchange()  # so that workers start with what was kept
        keepers = [asyncio.create_task(self._keep_running(worker)) for worker in range(settings.workers)]
        async with background(sync.run(), self._reloader.run(), watch.run()):
            admin.start()
            log.info("%d workers on %s, admin on %s", settings.workers, settings.listen, admin.address)
            await self._stopping.wait()
            await self._stop(keepers, settings.lame_duck_seconds + settings.drain_seconds + KILL_SECONDS)
        await sync.close()
        admin.stop()
        log.info("stopped")
        if self._failed_worker is not None:
            raise StartError(
                f"server.workers: {settings.workers}: worker {self._failed_worker} cannot start, as it says above"
            )

    def _stores(self) -> list[Store]:
        """Return the store that the workers share, and the state file, which outlives them."""
        state = self._core.config.state
        kept = [] if state.file is None else [FileStore(state.file, state.half_life_seconds)]
        return [self._shared.store(), *kept]

    def _exchanged(self, store: str, worked: bool) -> None:
        """Count exchanges with the state file; those with the shared store are counted by the workers."""
        if store == "file":
            self._metrics.state_exchanged(store, worked)

    async def _keep_running(self, worker: int) -> None:
        """Run worker number `worker`, and start it again whenever it ends, until the service stops."""
        pause = LEAST_PAUSE_SECONDS
        loop = asyncio.get_running_loop()
        while not self._stopping.is_set():
            started = loop.time()
            end = await self._run_once(worker)
            if self._stopping.is_set():
                return
            pause = LEAST_PAUSE_SECONDS if loop.time() - started > SETTLED_SECONDS else pause
            log.error("worker %d %s; it is started again in %g s", worker, end, pause)
            self._count_replaced()
            await asyncio.sleep(pause)
            pause = min(2 * pause, MOST_PAUSE_SECONDS)

    async def _run_once(self, worker: int) -> str:
        """Start a worker, wait for its end, and return how it ended, for the log."""
        shared = self._shared
        arguments = [*self._command, "--number", str(worker), "--shared", str(shared.path)]
        try:
            process = await asyncio.create_subprocess_exec(
                *arguments,
                stdin=asyncio.subprocess.PIPE,
                env={**os.environ, METRICS_VARIABLE: str(shared.path)},
                start_new_session=True,  # a Ctrl-C at the terminal reaches only the supervisor, which passes it on
            )
        except OSError as error:
            return f"cannot be started: {error.strerror}"
        self._processes[worker] = process
        if self._stopping.is_set():  # `_stop` signalled the workers before this one existed
            process.terminate()
        code = await wait_or_kill(process, Pulse(lambda: shared.last_beat(worker)))
        self._has_served |= any(shared.last_beat(each) for each in self._processes)
        if code == START_ERROR and not self._has_served and self._patient_until < asyncio.get_running_loop().time():
            self._failed_worker = worker
            self._stopping.set()
        shared.forget(worker)
        mark_process_dead(worker, str(shared.path))
        return f"ended with {code}" if code >= 0 else f"was ended by a signal: {signal.strsignal(-code)}"

    async def _stop(self, keepers: list[asyncio.Task[None]], seconds: float) -> None:
        """Let the workers drain for `seconds`, and kill those that have not ended by then."""
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
        """Hand the configuration to workers started from now on. Each worker counts its own reloads."""
        try:
            hand_over(self._shared, self._core.config, self._reloader.seen)
        except OSError as error:
            log.warning("workers started from now on still get the previous configuration: %s", error.strerror)

    def _apply(self, config: Config) -> None:
        """Put a new configuration in place for `/state` and for watching pools; workers read it themselves."""
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


class _AllProcesses:
    """Collects the metrics of all workers, and the supervisor's own metrics of the state file."""

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
    """Return the command that starts a worker under the configuration at `path`."""
    options = {"--config": str(path) if path else None, "--workers": workers}
    given = [part for option, value in options.items() if value is not None for part in (option, value)]
    return [sys.executable, "-m", "extproc", "serve", *given]
