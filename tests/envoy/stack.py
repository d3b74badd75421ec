"""Envoy, the service and two stand-in pools, as the tests start them."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from extproc.demo.envoy import ANY_PORT, Address, Envoy, Tree, shipped, with_addresses
from extproc.demo.pool import Received
from extproc.demo.pool_server import PoolServer
from extproc.demo.service import Service
from tests.envoy.changes import patient
from tests.envoy.client import MARKER, Reply, send

SHORT_CAPACITY = 2048
LONG_CAPACITY = 131_072

POOLS = {
    "default": [{"name": "short", "capacity": SHORT_CAPACITY}, {"name": "long", "capacity": LONG_CAPACITY}],
}

WRONG_PRIOR = {"estimation": {"estimator": "ratio", "prior_bytes_per_token": 16, "deviations": 0}}
"""Settings of a service that takes text of many tokens for short: the pool it is sent to refuses it."""

UNUSED: Address = ("127.0.0.1", 1)
"""Nobody listens there."""


def until(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Poll until `condition` returns something true, and return it; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not in {seconds} s"
        time.sleep(0.01)
    return found


def healthy(envoy: Envoy) -> int:
    """Endpoints of the service that pass Envoy's health check."""
    name = "cluster.dualpool.membership_healthy"
    return envoy.stats(name).get(name, 0)


@dataclass(frozen=True)
class Pools:
    """The two pools, running."""

    short: PoolServer
    long: PoolServer

    def reached(self, reply: Reply) -> list[str]:
        """Names of the pools that the request behind `reply` reached, by their own logs; short before long."""
        return [server.pool.name for server in (self.short, self.long) if self.received(server, reply)]

    @staticmethod
    def received(server: PoolServer, reply: Reply) -> list[Received]:
        """What `server` received of the request behind `reply`."""
        return [r for r in server.pool.received if r.headers.get(MARKER) == reply.marker]


@dataclass(frozen=True)
class Stack:
    """Everything, running. `service`: None when it was started without one."""

    envoy: Envoy
    pools: Pools
    service: Service | None

    @property
    def url(self) -> str:
        """Where a client sends its requests."""
        return self.envoy.url

    @property
    def dualpool(self) -> Service:
        """The service."""
        assert self.service is not None
        return self.service

    def send(self, body: Any = None, **options: Any) -> Reply:
        """Send a request through Envoy (see `client.send`)."""
        return send(self.url, body, **options)

    def reached(self, reply: Reply) -> list[str]:
        """See `Pools.reached`."""
        return self.pools.reached(reply)


@contextmanager
def running(
    directory: Path,
    pools: Pools,
    *,
    settings: dict[str, Any] | None = None,
    service: bool = True,
    change: Callable[[Tree], Tree] = lambda tree: tree,
    hasty: bool = False,
) -> Iterator[Stack]:
    """Start the service and an Envoy before `pools`; stop both afterwards.

    `settings`: of the service, beyond the pools. `change`: what to change in Envoy's standalone configuration,
    addresses already replaced. `hasty`: keep its short timeouts, for tests about them.
    """
    with ExitStack() as stack:
        run = None
        if service:
            run = stack.enter_context(Service({"pools": POOLS, **(settings or {})}, directory))
        endpoints = {
            "short": (ANY_PORT[0], pools.short.port),
            "long": (ANY_PORT[0], pools.long.port),
            "dualpool": (ANY_PORT[0], run.port) if run else UNUSED,
        }
        config = with_addresses(shipped(), endpoints)
        config = change(config if hasty else patient(config))
        proxy = stack.enter_context(Envoy(config, directory))
        if run:
            until(lambda: healthy(proxy))
        yield Stack(proxy, pools, run)
