"""Envoy, the service and two stand-in pools, as the tests start them."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from extproc.demo.envoy import Address, Envoy, Tree, shipped, with_addresses
from extproc.demo.pool_server import HOST
from extproc.demo.service import Service
from tests.envoy.changes import patient
from tests.envoy.client import Reply, send
from tests.envoy.pools import POOLS, Pools

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
            **{name: (HOST, server.port) for name, server in pools.items()},
            "dualpool": (HOST, run.port) if run else UNUSED,
        }
        config = with_addresses(shipped(), endpoints)
        config = change(config if hasty else patient(config))
        proxy = stack.enter_context(Envoy(config, directory))
        if run:
            until(lambda: healthy(proxy))
        yield Stack(proxy, pools, run)
