"""`dualpool check`: validate a configuration without serving it."""

import argparse
import sys
from pathlib import Path

from extproc.config import ConfigError, load


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `check`."""
    parser.add_argument("file", type=Path, metavar="FILE", help="YAML configuration")


def run(args: argparse.Namespace) -> int:
    """Load the file as `serve` does; 0 when it can be used, 2 with every problem listed when it cannot."""
    try:
        load(args.file)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{args.file}: good")
    return 0
