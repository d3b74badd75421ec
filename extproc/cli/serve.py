"""`dualpool serve`: answer Envoy."""

import argparse
import asyncio
import sys
from pathlib import Path

from extproc.config import ConfigError, load
from extproc.service.app import App
from extproc.service.logs import configure
from extproc.service.server import BindError

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
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML configuration (default: none needed)")


def run(args: argparse.Namespace) -> int:
    """Serve until a signal; 0 after a drain, 1 when a port is taken, 2 for a bad configuration."""
    try:
        config = load(args.config)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    configure(config.server.log_level)
    try:
        asyncio.run(App(config, args.config).run())
    except BindError as error:
        print(error, file=sys.stderr)
        return 1
    return 0
