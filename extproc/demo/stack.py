"""Everything the demo runs: the two stand-in pools, the service and an Envoy, each a process of its own."""

import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from extproc.demo.envoy import (
    BARE,
    Envoy,
    Tree,
    binary,
    connection_manager,
    shipped,
    with_addresses,
    with_bare_listener,
)
from extproc.demo.load import TOLD
from extproc.demo.pool_server import HOST
from extproc.demo.process import Process
from extproc.demo.requests import CHAT
from extproc.demo.service import Service

CAPACITIES = {"short": 4096, "long": 131_072}

Part = TypeVar("Part", Envoy, Process, Service)

_SETTINGS: dict[str, Any] = {
    "pools": {"default": [{"name": name, "capacity": capacity} for name, capacity in CAPACITIES.items()]},
    # A demo is over in seconds: the output reserve is learned after fewer answers than the default of 100.
    "output": {"min_samples": 30},
}


class Stack:
    """A context manager: entered, all of it is ready; left, all of it has ended. Files are in `directory`.

    `settings`: sections of the service's configuration beyond those of the demo.
    """

    def __init__(self, directory: Path, settings: Mapping[str, Any] | None = None) -> None:
        self._directory = directory
        self._settings = {**_SETTINGS, **(settings or {})}
        self._running = ExitStack()
        self.envoy: Envoy
        self.service: Service

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._running.close()
            raise
        return self

    def _start(self) -> None:
        envoy = binary()  # what is most likely missing is looked for before anything runs
        pools = self._enter(self._pools())
        self.service = self._enter(Service(self._settings, self._directory))
        found = {name: pools.wait_for_output(rf"pool {name} on port (\d+)")[1] for name in CAPACITIES}
        endpoints = {name: (HOST, int(port)) for name, port in found.items()}
        endpoints["dualpool"] = (HOST, self.service.port)
        tree = with_bare_listener(_telling(with_addresses(shipped(), endpoints)))
        self.envoy = self._enter(Envoy(tree, self._directory, envoy))

    def _enter(self, part: Part) -> Part:
        """Start `part`, its end registered first: a signal may come between the two."""
        self._running.push(part)
        part.__enter__()
        return part

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._running.close()

    def _pools(self) -> Process:
        pools = [f"{name}={capacity}" for name, capacity in CAPACITIES.items()]
        return Process([sys.executable, "-m", "extproc.demo.pool_server", *pools], self._directory / "pools.log")

    @property
    def bare_url(self) -> str:
        """The same Envoy without the filter."""
        return f"http://{HOST}:{self.envoy.ports[BARE]}"

    def curl(self) -> str:
        """A command to try."""
        body = '{"messages": [{"role": "user", "content": "How are you?"}], "max_tokens": 20}'
        return f"curl -si {self.envoy.url}{CHAT} -H 'content-type: application/json' -d '{body}'"


def _telling(tree: Tree) -> Tree:
    """Have Envoy tell the client what was decided, from the dynamic metadata, and how many pools were asked."""
    config = connection_manager(tree)["route_config"]
    config["virtual_hosts"][0]["include_attempt_count_in_response"] = True
    config["response_headers_to_add"] = [
        {"header": {"key": f"{TOLD}{key}", "value": f"%DYNAMIC_METADATA(dualpool:{key})%"}}
        for key in ("pool", "reason", "category", "estimate")
    ]
    return tree
