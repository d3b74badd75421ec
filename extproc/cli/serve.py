"""`dualpool serve`: answer Envoy."""

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NoReturn

import uvloop

from extproc.config import Config
from extproc.config_file import ENVIRONMENT_PREFIX, ConfigError, load, require_extras
from extproc.service.app import App
from extproc.service.errors import StartError
from extproc.service.handover import take_over
from extproc.service.logs import configure
from extproc.service.supervisor import Supervisor, command
from extproc.service.workers import METRICS_VARIABLE, SharedDirectory, Worker, become_worker

log = logging.getLogger(__name__)

WORKERS = f"{ENVIRONMENT_PREFIX}SERVER__WORKERS"

EPILOG = """\
Without a file the defaults apply: a short pool of 8,192 and a long pool of 131,072 tokens, gRPC on
127.0.0.1:50051, health, metrics and state on 127.0.0.1:9902. Every key can be set by the environment:
DUALPOOL_ROUTING__SHADOW=true sets routing.shadow. Point Envoy's ext_proc filter at the gRPC address
(envoy/standalone/envoy.yaml is a complete example), then look at http://127.0.0.1:9902/state.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `serve`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="YAML configuration (default: built-in defaults)"
    )
    parser.add_argument("--workers", metavar="N", help="processes that answer (default: server.workers)")
    # How the supervisor starts a worker: its number, and the directory that the workers share. Not --worker, which
    # is taken for --workers.
    parser.add_argument("--number", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--shared", type=Path, help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    """Serve until a signal; 0 after a drain, 1 for a port or certificate of no use, 2 for a bad configuration."""
    reader = partial(load, environment=_environment(args))
    if args.number is not None or args.shared is not None:
        return _work(args, reader)
    try:
        config = reader(args.config)
        require_extras(config)
    except ConfigError as error:
        text = str(error)
        print(text if args.workers is None else text.replace(f"{WORKERS}:", "--workers:"), file=sys.stderr)
        return 2
    configure(config.server.log_level)
    log.info("%s", _in_short(config, args.config))
    if config.server.workers == 1:
        return _serve(App(config, args.config, reader))
    return _serve(Supervisor(config, args.config, reader, command(args.config, args.workers)))


def _serve(service: App | Supervisor) -> int:
    # Exchanges cost less on uvloop (`docs/performance.md`); who looks after processes has no use for it.
    run = asyncio.run if isinstance(service, Supervisor) else uvloop.run
    try:
        run(_run(service))
    except StartError as error:
        print(error, file=sys.stderr)
        return 1


async def _run(service: App | Supervisor) -> NoReturn:
    """Run the service and end the process with 0. Raises `StartError`."""
    await service.run()
    # All is done. Threads that wait for a name server or a disk that hangs would keep the process from ending.
    os._exit(0)


def _in_short(config: Config, path: Path | None) -> str:
    """Say what is served, for whoever wonders whether it is what was meant."""
    sets = [
        f"{name}: {', '.join(f'{pool.name} {pool.capacity}' for pool in members)}"
        for name, members in config.pools.items()
    ]
    shadow = "on" if config.routing.shadow else "off"
    return (
        f"configuration: {path or 'defaults and environment'}; pools: {'; '.join(sets)}; shadow mode: {shadow}; "
        f"roll-out: {config.routing.rollout_percent:g} %"
    )


def _environment(args: argparse.Namespace) -> dict[str, str]:
    """The environment with `--workers` as the variable it stands for."""
    return {**os.environ, **({WORKERS: args.workers} if args.workers is not None else {})}


def _work(args: argparse.Namespace, reader: Callable[[Path | None], Config]) -> int:
    """Serve as one of the workers of a supervisor, which is the only one to ask for it."""
    try:
        if args.number is None or args.shared is None or METRICS_VARIABLE not in os.environ:
            raise FileNotFoundError
        shared = SharedDirectory(args.shared)
        config, seen = take_over(shared)
    except OSError:
        print("--number, --shared: how a service starts its own workers: give it --workers N", file=sys.stderr)
        return 2
    become_worker(args.number)
    configure(config.server.log_level)
    return _serve(App(config, args.config, reader, Worker(args.number, shared), seen))
