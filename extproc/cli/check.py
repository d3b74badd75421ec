"""`dualpool check`: validate a configuration without serving it."""

import argparse
import asyncio
import sys
from pathlib import Path

from extproc.config_file import ConfigError, load, require_extras
from extproc.service.capacity_check import compare


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `check`."""
    parser.add_argument("file", type=Path, metavar="FILE", help="YAML configuration")
    parser.add_argument(
        "--live",
        action="store_true",
        help="also ask each pool's servers whether their max_model_len is the pool's capacity",
    )


def run(args: argparse.Namespace) -> int:
    """Load the file as `serve` does; 0 when it can be used, 2 with every problem listed when it cannot."""
    try:
        config = load(args.file)
        require_extras(config)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    comparisons = asyncio.run(compare(config.pools)) if args.live else []
    troubles = [found.text for found in comparisons if found.verdict != "equal"]
    if args.live and not comparisons:
        troubles.append("pools: no endpoints: there is nobody to ask; name the servers of each pool")
    for text in troubles:
        print(f"{args.file}: {text}", file=sys.stderr)
    if troubles:
        return 2
    print(f"{args.file}: good" + (f", and so say {len(comparisons)} servers" if comparisons else ""))
    return 0
