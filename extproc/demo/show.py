"""The demo as a story: start, send, measure, tell, and perhaps stay."""

import asyncio
import signal
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from extproc.demo import load, report
from extproc.demo.requests import mixed
from extproc.demo.stack import CAPACITIES, Stack

SEED = 1
LATENCY_ROUNDS = 200


def show(requests: int, *, keep: bool) -> bool:
    """Run the demo with so many requests; return whether every one was answered with 200.

    `keep`: stay until a signal raises. Raises `StartError` when something does not start.
    """
    console = Console()
    with tempfile.TemporaryDirectory(prefix="dualpool-demo-") as directory:
        console.print("Starting Envoy, Dualpool and two stand-in vLLM pools ...")
        with Stack(Path(directory)) as stack:
            short, long = CAPACITIES.values()
            console.print(
                f"Envoy on {stack.envoy.url}; a short pool of {short:,} tokens, a long pool of {long:,}.\n"
            )
            good = _send_and_tell(console, stack, requests)
            if keep:
                _stay(console, stack)
    return good


def _send_and_tell(console: Console, stack: Stack, requests: int) -> bool:
    bar = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*bar, console=console) as progress:
        task = progress.add_task("Sending", total=requests)
        started = time.perf_counter()
        outcomes = asyncio.run(
            load.send_all(stack.envoy.url, mixed(requests, SEED), lambda: progress.advance(task))
        )
        seconds = time.perf_counter() - started
    with_filter, without = asyncio.run(load.latency((stack.envoy.url, stack.bare_url), LATENCY_ROUNDS))
    console.print(report.by_kind(outcomes))
    console.print(report.summary(outcomes, seconds, with_filter, without))
    return all(outcome.status == 200 for outcome in outcomes)


def _stay(console: Console, stack: Stack) -> None:
    console.print("\nRunning until Ctrl-C. What was learned: ", end="")
    console.print(f"http://{stack.service.admin}/state", soft_wrap=True)
    console.print("Try:", stack.curl(), soft_wrap=True, markup=False, highlight=False)
    with suppress(SystemExit):  # raised by the signals that end it
        while True:
            signal.pause()
