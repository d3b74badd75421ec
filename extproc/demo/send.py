"""The demo's load, sent to an Envoy that runs already: `python -m extproc.demo.send URL`."""

import argparse
import asyncio
from collections import Counter

from extproc.demo import load
from extproc.demo.requests import mixed

SEED = 1


def main() -> None:
    """Send the requests and print how many each pool answered; exit with 1 when one was not answered with 200."""
    parser = argparse.ArgumentParser(description="Send the demo's mixed load.")
    parser.add_argument("url", help="base address of Envoy")
    parser.add_argument("--requests", type=int, default=300, metavar="N", help="default: %(default)s")
    args = parser.parse_args()
    outcomes = asyncio.run(load.send_all(args.url, mixed(args.requests, SEED), lambda: None))
    for (pool, status), count in sorted(Counter((o.pool, o.status) for o in outcomes).items()):
        print(f"{count:6} answered with {status} by the {pool or 'unknown'} pool")
    raise SystemExit(any(outcome.status != 200 for outcome in outcomes))


if __name__ == "__main__":
    main()
