"""Signals: SIGHUP reloads; SIGTERM or SIGINT drains and stops, a second one ends the process at once."""

import asyncio
import os
import signal
from collections.abc import Callable


def listen(reload: Callable[[], None], abandon: Callable[[], None] = lambda: None) -> asyncio.Event:
    """Call `reload` at every SIGHUP. Return an event that the first SIGTERM or SIGINT sets.

    The second ends the process; `abandon` is called right before, and must be quick.
    """
    stopping = asyncio.Event()

    def on_signal(number: signal.Signals) -> None:
        if stopping.is_set():
            abandon()
            os._exit(128 + number)
        stopping.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    loop.add_signal_handler(signal.SIGHUP, reload)
    return stopping
