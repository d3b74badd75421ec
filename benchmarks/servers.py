"""grpc.aio, grpc.aio on uvloop, the threaded server, and the event engine, with the same exchange behind each.

`python -m benchmarks.servers` compares them through Envoy (bodyless: one message a request, so that the server is
what is measured); `python -m benchmarks.servers KIND` serves one of them on a free port.
"""

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import grpc
import uvloop
import yaml
from prometheus_client import CollectorRegistry

from benchmarks.load import Workload, run
from benchmarks.rows import Row, cpu_seconds, helper, settings_of
from extproc.cli import ENVIRONMENT
from extproc.config import Config
from extproc.demo.envoy import Envoy, Tree, with_addresses
from extproc.demo.process import Process
from extproc.metrics import Metrics
from extproc.render.layout import Options
from extproc.render.target import render
from extproc.service.compose import Core, compose
from extproc.service.exchange import Exchange
from extproc.service.health import Health
from extproc.service.server import SERVICE, build

WITH_ENGINE = "uvloop, event engine"
KINDS = ("aio", "uvloop", "threads", WITH_ENGINE)
"""Servers; all but one run without gRPC's event engine, as `dualpool serve` does."""

WORKLOADS = (Workload("1 connection", 1_000, 0, 1, 200), Workload("64 connections", 1_000, 0, 64, 1500))
ROUNDS = 9


def serve(kind: str) -> None:
    """Serve until killed."""
    core = compose(Config(), Metrics(CollectorRegistry()))
    if kind == "threads":
        _serve_threads(core)
    elif kind.startswith("uvloop"):
        uvloop.run(_serve_aio(core))
    else:
        asyncio.run(_serve_aio(core))


async def _serve_aio(core: Core) -> None:
    server, port, _ = build("127.0.0.1:0", core.config.server, lambda: core.context, Health(core.router, 1.0))
    await server.start()
    print(f"serving (port {port})", flush=True)
    await server.wait_for_termination()


def _serve_threads(core: Core) -> None:
    def process(messages: Iterable[bytes], _: grpc.ServicerContext) -> Iterator[bytes]:
        exchange = Exchange(core.context)
        for message in messages:
            answer = exchange.handle(message)
            if answer is None:
                break
            yield answer
        exchange.close()

    server = grpc.server(ThreadPoolExecutor(128))
    handlers = {"Process": grpc.stream_stream_rpc_method_handler(process)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"serving (port {port})", flush=True)
    server.wait_for_termination()


def _row(stack: ExitStack, kind: str, directory: Path, upstream: int) -> Row:
    ours = {} if kind == WITH_ENGINE else ENVIRONMENT["serve"]
    command = [sys.executable, "-m", "benchmarks.servers", kind]
    process = Process(command, directory / f"{kind}.log", {**os.environ, **ours})
    stack.enter_context(process)
    port = int(process.wait_for_output(r"\(port (\d+)\)")[1])
    options = Options(exchange="bodyless", usage="access-log")
    config = Config.model_validate(settings_of(directory, upstream))
    tree: Tree = yaml.safe_load(render("envoy", config, options)["envoy.yaml"])
    for cluster in tree["static_resources"]["clusters"]:
        cluster.pop("health_checks", None)
    tree["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"].pop("access_log")
    envoy = Envoy(with_addresses(tree, {"dualpool": ("127.0.0.1", port)}), directory / kind)
    return Row(kind, stack.enter_context(envoy), process)


def _measured(row: Row, workload: Workload) -> tuple[float, float, float]:
    """Return the median latency in ms, requests a second, and CPU ms a request."""
    cpu = cpu_seconds(row)
    timing = run(row.envoy, workload)
    time.sleep(0.1)
    cost = 1e3 * (cpu_seconds(row) - cpu) / workload.requests
    return 1e3 * statistics.median(timing.latencies), workload.requests / timing.seconds, cost


def main() -> None:
    """Compare the servers, in turn, all newly started for each round, and print medians."""
    found: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
            _, port = helper(stack, "benchmarks.upstream", Path(directory))
            rows = [_row(stack, kind, Path(directory), port) for kind in KINDS]
            for row in rows:
                run(row.envoy, WORKLOADS[0])  # unmeasured: code is warm then
            for workload in WORKLOADS:
                for row in rows:
                    found.setdefault((workload.name, row.name), []).append(_measured(row, workload))
    print("| | server | p50 ms | requests/s | CPU ms/request |\n|---|---|---|---|---|")
    for (name, kind), values in found.items():
        p50, rate, cost = (statistics.median(column) for column in zip(*values, strict=True))
        print(f"| {name} | {kind} | {p50:.2f} | {rate:.0f} | {cost:.3f} |")


if __name__ == "__main__":
    serve(sys.argv[1]) if len(sys.argv) > 1 else main()
