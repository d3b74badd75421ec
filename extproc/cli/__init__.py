"""The `dualpool` command: one module a subcommand."""

import argparse
import errno
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from types import FrameType
from typing import NoReturn

from extproc import __version__

COMMANDS = {
    "serve": "answer Envoy: read each request, choose its pool, learn from its usage",
    "check": "validate a configuration file and list every problem",
    "explain": "say why a request goes where it goes, and what would change that",
    "calibrate": "learn from a log of requests with usage, before the first request",
    "plan": "say what two pools would save for your traffic, where to cut, and how many instances each needs",
    "render": "print a proxy's configuration that goes with Dualpool's",
    "reference": "print every configuration key with its default and meaning",
    "simulate": "run planned fleets against your traffic under several routing policies",
    "demo": "run Envoy, the service and two stand-in pools here, and show what happens",
}
"""Subcommands and what they do. `extproc.cli.NAME` has `add_arguments(parser)` and `run(args) -> exit code`."""

ENVIRONMENT = {"serve": {"GRPC_EXPERIMENTS": "-event_engine_listener", "GRPC_VERBOSITY": "NONE"}}
"""Variables that a command's libraries read when they are imported, where the environment does not have them.

Without gRPC's event engine the thread that wakes the event loop reads the sockets itself: one thread less on the
way of every message (`docs/performance.md`). What gRPC itself writes is no JSON; what matters of it we say."""

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""What writing to standard output fails with when it is a file; an error of another file has its name."""

EXTRAS = {"calibrate": "calibrate", "plan": "plan", "simulate": "plan", "render": "render", "demo": "demo"}
"""Commands that need more than the serving install, and the extra that brings it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: the process's own) and return the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(prog="dualpool", description="Token-budget routing for vLLM behind Envoy.")
    parser.add_argument("--version", action="version", version=f"dualpool {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    named = next((a for a in arguments if not a.startswith("-")), "")
    if named == "serve":
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until it is listened to: the file is yet to be read
        signal.signal(signal.SIGTERM, _end)  # until then too: without a handler process 1 of a container ignores it
    for variable, value in ENVIRONMENT.get(named, {}).items():
        os.environ.setdefault(variable, value)
    for name, summary in COMMANDS.items():
        sub = commands.add_parser(name, help=summary, description=summary)
        if name == named:  # only the command that runs is imported: each has dependencies of its own
            try:
                importlib.import_module(f"extproc.cli.{name}").add_arguments(sub)
            except ModuleNotFoundError as missing:
                if name not in EXTRAS:
                    raise
                extra = EXTRAS[name]
                parser.error(
                    f"{missing.name} is missing, of the extra {extra}: in a clone, pip install '.[{extra}]'"
                )
    args = parser.parse_args(arguments)
    code: int = importlib.import_module(f"extproc.cli.{args.command}").run(args)
    return code


def run() -> int:
    """Run the command line as a program: interrupted, or with an output that takes nothing, or not every letter, it
    ends without a traceback."""
    _open_closed()
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as standard error: not every locale has ± and ü
    try:
        try:
            return main()
        finally:
            sys.stdout.flush()  # here, where it can be seen that nobody reads
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        _discard()
        return 128 + signal.SIGPIPE
    except OSError as error:
        if error.errno not in NO_ROOM or error.filename is not None:
            raise
        _discard()
        print(f"standard output: cannot be written: {error.strerror}", file=sys.stderr)
        return 2


def _end(_number: int, _frame: FrameType | None) -> NoReturn:
    """End in order, as later on SIGTERM: systemd takes 143 for a failure."""
    os._exit(0)  # an exception might be caught by what is being imported


def _open_closed() -> None:
    """Put the null device in place of each standard stream that was closed.

    Python has None there, and prints errors to standard output instead. The next file that is opened would get the
    lowest free descriptor, that of the stream: here each gets its own.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode, errors="backslashreplace"))


def _discard() -> None:
    """What is still buffered has nowhere to go."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
