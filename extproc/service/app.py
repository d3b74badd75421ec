"""Composition: builds every object of the service, wires them, and runs them from start to stop."""

import asyncio
import logging
import os
import signal

from prometheus_client import CollectorRegistry

from extproc.budget.budget import Budgeter
from extproc.budget.learner import Learner
from extproc.budget.output import OutputReserve
from extproc.budget.ratio import RatioEstimator
from extproc.config import Config
from extproc.metrics import Metrics
from extproc.routing.router import Router
from extproc.service.admin import Admin
from extproc.service.exchange import Context
from extproc.service.health import Health
from extproc.service.messages import RoutingAnswers
from extproc.service.route_settings import RouteSettingsReader
from extproc.service.server import BindError, build

log = logging.getLogger(__name__)


class App:
    """One service under one configuration."""

    def __init__(self, config: Config) -> None:
        self._config = config
        estimator = RatioEstimator(config.estimation, config.categories.limit)
        output = OutputReserve(config.output, config.categories.limit)
        self._learner = Learner(estimator, output)
        router = Router(config, Budgeter(estimator, output, config.categories, config.estimation))
        self._metrics = Metrics(CollectorRegistry())
        self._metrics.export_learned(self._learner.snapshot)
        self._health = Health(router, config.server.probe_limit_seconds)
        self._context = Context(
            router=router,
            learner=self._learner,
            metrics=self._metrics,
            answers=RoutingAnswers(config.routing.header),
            route_settings=RouteSettingsReader(config.pools),
            category_header=config.categories.header if "header" in config.categories.sources else None,
            conversation_header=config.routing.conversation_header,
        )

    def state(self) -> dict[str, object]:
        """Return pools, counts and everything learned, as plain values."""
        return {
            "pools": {
                name: [{"name": p.name, "capacity": p.capacity} for p in pools]
                for name, pools in self._config.pools.items()
            },
            "models": self._config.models,
            "shadow": self._config.routing.shadow,
            "rollout_percent": self._config.routing.rollout_percent,
            "requests": self._metrics.requests_by_pool(),
            "learned": self._learner.snapshot(),
        }

    async def run(self) -> None:
        """Start, serve until SIGTERM or SIGINT, drain, stop. Raises `BindError` when a port is taken."""
        loop = asyncio.get_running_loop()
        server_config = self._config.server
        server, port = build(server_config.listen, lambda: self._context, self._health)
        try:
            admin = Admin(server_config.admin_address, self._health, self._metrics.registry, self.state, loop)
        except OSError as error:
            raise BindError(
                f"server.admin: {server_config.admin!r}: cannot be listened on: {error.strerror}"
            ) from error
        stopping = self._stop_on_signals(loop)
        await server.start()
        admin.start()
        log.info("serving on %s (port %d), admin on %s:%d", server_config.listen, port, *admin.address)
        await stopping.wait()
        log.info("draining: health fails now, open exchanges may take %g s", server_config.drain_seconds)
        self._health.drain()
        await asyncio.sleep(server_config.lame_duck_seconds)
        await server.stop(server_config.drain_seconds)
        admin.stop()
        log.info("stopped")

    def _stop_on_signals(self, loop: asyncio.AbstractEventLoop) -> asyncio.Event:
        """The first signal sets the event returned, the second ends the process at once."""
        stopping = asyncio.Event()

        def on_signal(number: signal.Signals) -> None:
            if stopping.is_set():
                os._exit(128 + number)
            stopping.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, on_signal, number)
        return stopping
