"""Envoy, the service and two stand-in pools, as the tests start them."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from extproc.demo.envoy import ANY_PORT, Address, Envoy, Tree, connection_manager, shipped, with_addresses
from extproc.demo.pool import Received
from extproc.demo.pool_server import PoolServer
from extproc.demo.service import Service
from extproc.render.clusters import service
from extproc.render.layout import Options
from extproc.render.text import plain
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


def ext_proc(tree: Tree) -> Tree:
    """Return the settings of the filter that asks the service, to be changed in place."""
    filters = {f["name"]: f for f in connection_manager(tree)["http_filters"]}
    settings: Tree = filters["envoy.filters.http.ext_proc"]["typed_config"]
    return settings


PATIENCE = "10s"


def patient(tree: Tree) -> Tree:
    """Make Envoy wait for a slow service, in place: on a machine that does too much at once 200 ms are soon over.

    A service that is gone is still noticed at once, by the connection that fails.
    """
    for http_filter in connection_manager(tree)["http_filters"]:
        if "message_timeout" in http_filter.get("typed_config", ()):
            http_filter["typed_config"]["message_timeout"] = PATIENCE
    for cluster in tree["static_resources"]["clusters"]:
        for check in cluster.get("health_checks", ()):
            check["timeout"] = PATIENCE
        for options in cluster.get("typed_extension_protocol_options", {}).values():
            http2 = options.get("explicit_http_config", {}).get("http2_protocol_options", {})
            if "connection_keepalive" in http2:
                http2["connection_keepalive"]["timeout"] = PATIENCE
    return tree


def at(**ports: int) -> Callable[[Tree], Tree]:
    """Return a change to Envoy's configuration: the port of a cluster, by its name."""

    def change(tree: Tree) -> Tree:
        return with_addresses(tree, {name: (ANY_PORT[0], port) for name, port in ports.items()})

    return change


def served_by(*ports: int) -> Callable[[Tree], Tree]:
    """Return a change to Envoy's configuration: replicas of the service, at `ports`, in place of one."""

    def change(tree: Tree) -> Tree:
        cluster = next(c for c in tree["static_resources"]["clusters"] if c["name"] == "dualpool")
        cluster["load_assignment"]["endpoints"][0]["lb_endpoints"] = [
            {"endpoint": {"address": {"socket_address": {"address": ANY_PORT[0], "port_value": port}}}}
            for port in ports
        ]
        return tree

    return change


def served_at(listen: str, workers: int) -> Callable[[Tree], Tree]:
    """Return a change to Envoy's configuration: the service at `listen`, its cluster as it is rendered."""

    def change(tree: Tree) -> Tree:
        clusters = tree["static_resources"]["clusters"]
        place = [cluster["name"] for cluster in clusters].index("dualpool")
        clusters[place] = plain(service(Options(service=listen, workers=workers)))
        return tree

    return change


def default_is_short(tree: Tree) -> Tree:
    """What nobody routes lands short, in place: a test of the long pool must not pass by default."""
    routes = connection_manager(tree)["route_config"]["virtual_hosts"][0]["routes"]
    default = routes[-1]
    named = [{"name": "x-token-pool", "string_match": {"exact": "long"}}]
    routes.insert(0, {**default, "match": {**default["match"], "headers": named}})
    routes[-1] = {**default, "route": {**default["route"], "cluster": "short"}}
    return tree


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
