"""`dualpool demo`: Envoy, the service and two stand-in pools on this machine, real traffic, and what came of it."""

import argparse
import asyncio
import signal
import sys
from typing import Any, NoReturn

from extproc.demo.process import SIGNALS, StartError
from extproc.demo.show import show

EPILOG = """\
The pools are stand-ins: they count tokens with a real vocabulary and refuse what exceeds their context, but
generate nothing. Everything listens on 127.0.0.1, on ports the kernel chooses, and ends with the command.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `demo`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("--requests", type=_count, default=900, metavar="N", help="requests to send (default: 900)")
    parser.add_argument("--keep", action="store_true", help="leave everything running until Ctrl-C")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a whole number, at least 1")
    return int(text)


def run(args: argparse.Namespace) -> int:
    """Run the demo; 0 when every request was answered, 1 when not or when something cannot start.

    A signal ends everything that was started, then this process with 128 + its number.
    """
    for number in SIGNALS:
        signal.signal(number, _on_signal)
    try:
        return 0 if show(args.requests, keep=args.keep) else 1
    except StartError as error:
        print(error, file=sys.stderr)
        return 1


def _on_signal(number: int, _frame: Any) -> None:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        _end(number)
    else:
        loop.call_soon_threadsafe(_end, number)  # raised here, it would be an error of the task that runs


def _end(number: int) -> NoReturn:
    for each in SIGNALS:  # what is left is to end the processes, which must not be interrupted in turn
        signal.signal(each, signal.SIG_IGN)
    raise SystemExit(128 + number)
