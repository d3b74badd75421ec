"""What is compared: one Envoy for each row, and the service behind it, if there is one."""

import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from extproc.config import Config
from extproc.demo.envoy import Envoy, Tree, connection_manager, with_addresses
from extproc.demo.process import Process
from extproc.demo.service import Service
from extproc.render.layout import Exchange, Options, Usage
from extproc.render.target import render

LUA = """
function envoy_on_request(handle)
  local length = tonumber(handle:headers():get("content-length")) or 1e9
  handle:headers():replace("x-token-pool", length / 4 <= 8192 and "short" or "long")
  handle:clearRouteCache()
end
"""

PATIENCE = "10s"
"""How long Envoy waits for a message: a busy machine is not to make it give up on a row."""

FLUSH_SECONDS = 1.3
"""Until the access log has sent its last batch, whose work belongs to the run before."""

MODES: dict[str, tuple[Exchange, Usage]] = {
    "body + response body": ("body", "response-body"),
    "body + access log": ("body", "access-log"),
    "bodyless + access log": ("bodyless", "access-log"),
    "in-proxy": ("in-proxy", "access-log"),
}
ROWS = ("no filter", "Lua bytes/4", "reference", *MODES)


@dataclass(frozen=True)
class Row:
    """A running row.

    `process`: of the service or the reference, None where there is neither. `service`: Dualpool's, if it has one.
    """

    name: str
    envoy: Envoy
    process: Process | None
    service: Service | None = None


def cpu_seconds(row: Row) -> float:
    """CPU time of the row's service so far, all its threads, to the nanosecond."""
    if row.process is None:
        return 0.0
    threads = Path(f"/proc/{row.process.pid}/task").glob("*/schedstat")
    return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9


def helper(stack: ExitStack, module: str, directory: Path) -> tuple[Process, int]:
    """Run a module of the benchmark as a process until `stack` ends; return it and its port."""
    process = stack.enter_context(Process([sys.executable, "-m", module], directory / f"{module}.log"))
    return process, int(process.wait_for_output(r"\(port (\d+)\)")[1])


@contextmanager
def running(names: list[str], directory: Path) -> Iterator[list[Row]]:
    """Start the rows named, all before one upstream; stop them afterwards."""
    with ExitStack() as stack:
        _, port = helper(stack, "benchmarks.upstream", directory)
        rows = [_start(stack, name, directory / re.sub(r"\W+", "-", name), port) for name in names]
        yield rows


def _start(stack: ExitStack, name: str, directory: Path, upstream: int) -> Row:
    directory.mkdir(parents=True)
    settings = settings_of(directory, upstream)
    exchange, usage = MODES.get(name, ("body", "response-body"))
    process, port, service = None, 1, None
    if name in MODES:
        if exchange == "in-proxy":
            seed = render("in-proxy-filter", Config.model_validate(settings), Options())
            (directory / "in-proxy.yaml").write_text(seed["in-proxy.yaml"], "utf-8")
        service = stack.enter_context(Service(settings, directory))
        process, port = service.process, service.port
    elif name == "reference":
        process, port = helper(stack, "benchmarks.reference.processor", directory)
    options = Options(exchange=exchange, usage=usage)
    tree: Tree = yaml.safe_load(render("envoy", Config.model_validate(settings), options)["envoy.yaml"])
    _change(name, tree)
    envoy = stack.enter_context(Envoy(with_addresses(tree, {"dualpool": ("127.0.0.1", port)}), directory))
    return Row(name, envoy, process, service)


def settings_of(directory: Path, upstream: int) -> dict[str, Any]:
    """Return the settings of a service before the upstream at port `upstream`; its files are in `directory`."""
    endpoints = [f"127.0.0.1:{upstream}"]
    pools = [("short", 8192), ("long", 131_072)]
    return {
        "pools": {"default": [{"name": n, "capacity": c, "endpoints": endpoints} for n, c in pools]},
        "in_proxy": {"file": str(directory / "in-proxy.yaml")},
    }


def _change(name: str, tree: Tree) -> None:
    """Put the row's own filter in place of Dualpool's, and take away health checks that nobody would answer."""
    filters = connection_manager(tree)["http_filters"]
    if name == "in-proxy":
        return
    ours = next(each for each in filters if each["name"] == "envoy.filters.http.ext_proc")
    ours["typed_config"]["message_timeout"] = PATIENCE
    if name in MODES:
        return
    if name == "reference":
        # Nothing of ours: headers of both sides are sent unless a filter says otherwise.
        ours["typed_config"]["processing_mode"] = {
            "request_body_mode": "BUFFERED",
            "response_body_mode": "BUFFERED",
        }
    else:
        filters.remove(ours)
    if name == "Lua bytes/4":
        kind = "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua"
        lua = {"@type": kind, "default_source_code": {"inline_string": LUA}}
        filters.insert(0, {"name": "lua", "typed_config": lua})
    for cluster in tree["static_resources"]["clusters"]:
        cluster.pop("health_checks", None)
