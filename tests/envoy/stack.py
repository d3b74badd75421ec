"""Envoy, the service and stand-in pools, as the tests start them."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from extproc.config import Config
from extproc.demo.envoy import Address, Envoy, Tree, shipped, with_addresses
from extproc.demo.page import total
from extproc.demo.pool import Behaviour
from extproc.demo.pool_server import HOST
from extproc.demo.service import Service
from extproc.render.layout import Options
from extproc.render.target import render
from tests.envoy.changes import patient
from tests.envoy.client import Reply, send
from tests.envoy.counts import ACTIVE, AT_REST, ENTRIES, WRITTEN
from tests.envoy.pools import POOLS, SETS, Pools, PoolSets, running_pools, section

WRONG_PRIOR = {"estimation": {"estimator": "ratio", "prior_bytes_per_token": 16, "deviations": 0}}
"""Settings of a service that takes text of many tokens for short: the pool it is sent to refuses it."""

UNUSED: Address = (HOST, 1)
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
    """Everything, running.

    `service`: not started where the test starts its own, or none. `settings`: Dualpool's, with the pools.
    `before`: metrics of the service that are not to be counted.
    """

    envoy: Envoy
    pools: Pools
    service: Service
    settings: dict[str, Any]
    before: str = ""

    @property
    def url(self) -> str:
        """Where a client sends its requests."""
        return self.envoy.url

    def send(self, body: Any = None, **options: Any) -> Reply:
        """Send a request through Envoy (see `client.send`)."""
        return send(self.url, body, **options)

    def reached(self, reply: Reply) -> list[str]:
        """See `Pools.reached`."""
        return self.pools.reached(reply)

    def lands(self, body: Any, **options: Any) -> str:
        """Send a request; return the pool that answered, and fail when none did, or more than one was asked."""
        reply = self.send(body, **options)
        reached = self.reached(reply)
        assert (reply.status, len(reached)) == (200, 1), (reply, reached)
        return reached[0]

    def count(self, metric: str, **labels: str) -> float:
        """Sum a metric of the service over the series that have `labels`: what a test has added to it."""
        return self.service.count(metric, **labels) - total(self.before, metric, **labels)

    def reasons(self) -> dict[str, int]:
        """Requests that the service has decided, by reason."""
        counts: dict[str, int] = {}
        for entry in self.service.state()["requests"]:
            counts[entry["reason"]] = counts.get(entry["reason"], 0) + entry["requests"]
        return counts

    def at_rest(self) -> bool:
        """No request is under way, no exchange is open, and every entry of the access log has come."""
        figures, page = self.envoy.stats(f"{ACTIVE}|{WRITTEN}"), self.service.get("/metrics")
        quiet = not figures[ACTIVE] and AT_REST in page
        return quiet and figures.get(WRITTEN, 0) == total(page, ENTRIES)

    def anew(self) -> "Stack":
        """Return it as another test may use it: at rest, its pools work, nothing received, counts at 0."""
        until(self.at_rest)
        self.pools.reset()
        return replace(self, before=self.service.get("/metrics"))


@contextmanager
def running(
    directory: Path,
    pools: Pools,
    settings: dict[str, Any],
    tree: Tree,
    *,
    change: Callable[[Tree], Tree] = lambda tree: tree,
    service: bool = True,
    hasty: bool = False,
) -> Iterator[Stack]:
    """Start the service under `settings` and an Envoy under `tree`, which leads to `pools`; stop both afterwards.

    `change`: what to change in `tree`, addresses already replaced. `service`: whether it is started. `hasty`: keep
    Envoy's short timeouts, for tests about them.
    """
    dualpool = Service(settings, directory)
    with ExitStack() as stack:
        if service:
            stack.enter_context(dualpool)
        tree = with_addresses(tree, {"dualpool": (HOST, dualpool.port) if service else UNUSED})
        envoy = stack.enter_context(Envoy(change(tree if hasty else patient(tree)), directory))
        if service:
            until(lambda: healthy(envoy))
        yield Stack(envoy, pools, dualpool, settings)


def shipped_stack(
    directory: Path, pools: Pools, settings: dict[str, Any] | None = None, **how: Any
) -> AbstractContextManager[Stack]:
    """Start a stack with the shipped file before `pools`. `settings`: beyond the pools; `how`: see `running`."""
    tree = with_addresses(shipped(), {name: (HOST, server.port) for name, server in pools.items()})
    return running(directory, pools, {"pools": POOLS, **(settings or {})}, tree, **how)


@contextmanager
def rendered_stack(
    directory: Path,
    sets: PoolSets = SETS,
    settings: dict[str, Any] | None = None,
    options: Options | None = None,
    behaviour: Behaviour | None = None,
    **how: Any,
) -> Iterator[Stack]:
    """Start pools of its own, and a stack with a file rendered for them.

    `settings`: beyond the pools. `options`: of the rendering. `behaviour`: of the pools (default: they work).
    `how`: see `running`.
    """
    with running_pools(sets, behaviour) as pools:
        settings = {"pools": section(sets, pools), **(settings or {})}
        tree = rendered(Config.model_validate(settings), options)
        with running(directory, pools, settings, tree, **how) as stack:
            yield stack


def rendered(config: Config, options: Options | None = None) -> Tree:
    """Return what `dualpool render envoy` prints."""
    tree: Tree = yaml.safe_load(render("envoy", config, options or Options())["envoy.yaml"])
    return tree
