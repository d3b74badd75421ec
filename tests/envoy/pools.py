"""Stand-in pools, running, and what a configuration says of them."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from extproc.demo.pool import Behaviour, Pool, Received
from extproc.demo.pool_server import HOST, PoolServer
from tests.envoy.client import MARKER, Reply

SHORT_CAPACITY = 2048
LONG_CAPACITY = 131_072

PoolSets = Mapping[str, Mapping[str, int]]
"""Capacity of each pool by name, smallest first, by pool set."""

SETS: PoolSets = {"default": {"short": SHORT_CAPACITY, "long": LONG_CAPACITY}}

POOLS = {"default": [{"name": name, "capacity": capacity} for name, capacity in SETS["default"].items()]}
"""The section `pools` of a service that need not know their servers."""


class Pools(dict[str, PoolServer]):
    """Running pools by name, the smallest of a set first."""

    def reached(self, reply: Reply) -> list[str]:
        """Names of the pools that the request behind `reply` reached, by their own logs, in their order here."""
        return [name for name in self if self.received(name, reply)]

    def received(self, name: str, reply: Reply) -> list[Received]:
        """What the pool `name` received of the request behind `reply`."""
        return [r for r in self[name].pool.received if r.headers.get(MARKER) == reply.marker]

    def behave(self, behaviour: Behaviour) -> None:
        """Have all pools answer so from now on."""
        for server in self.values():
            server.pool.behaviour = behaviour

    def reset(self) -> None:
        """Have all pools work, with empty logs."""
        self.behave(Behaviour())
        for server in self.values():
            server.pool.received.clear()


@contextmanager
def running_pools(sets: PoolSets = SETS, behaviour: Behaviour | None = None) -> Iterator[Pools]:
    """Start the pools of all `sets`; stop them afterwards. `behaviour`: how they answer (default: they work)."""
    capacities = {name: capacity for members in sets.values() for name, capacity in members.items()}
    pools = [Pool(name, capacity, behaviour=behaviour or Behaviour()) for name, capacity in capacities.items()]
    with ExitStack() as stack:
        yield Pools({pool.name: stack.enter_context(PoolServer(pool)) for pool in pools})


def section(sets: PoolSets = SETS, pools: Pools | None = None) -> dict[str, Any]:
    """Return the section `pools` of a configuration. `pools`: those that run (default: nobody serves them)."""
    ports = {name: server.port for name, server in (pools or {}).items()}
    return {
        set_name: [
            {"name": name, "capacity": capacity, "endpoints": [f"{HOST}:{ports.get(name, 1)}"]}
            for name, capacity in members.items()
        ]
        for set_name, members in sets.items()
    }
