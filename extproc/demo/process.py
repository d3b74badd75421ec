"""Child processes that are waited for until they are ready, and that are gone afterwards."""

import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Those that ask a program to end."""

READY_SECONDS = 60.0
STOP_SECONDS = 30.0
"""How long a process may take to print that it is ready, and to end after SIGTERM before it is killed."""

_POLL_SECONDS = 0.02

T = TypeVar("T")


@contextmanager
def _signals_deferred() -> Iterator[None]:
    """Deliver signals afterwards: raised while a child is being started, one would leave a child nobody knows."""
    if threading.current_thread() is not threading.main_thread():  # signals are handled in the main thread alone
        yield
        return
    arrived: list[int] = []
    handlers = {number: signal.signal(number, lambda n, _: arrived.append(n)) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for late in arrived:
            signal.raise_signal(late)


class StartError(Exception):
    """A process that ended or was not ready in time; the message ends with what it wrote."""


class Process:
    """A command with its output in a file. A context manager: left, the process has ended.

    It gets a session of its own: a Ctrl-C at the terminal reaches only its parent, which ends it in order.
    """

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> None:
        self.command = list(command)
        self.log = log
        self._environment = environment
        self._popen: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            with self.log.open("wb") as output, _signals_deferred():
                self._popen = subprocess.Popen(
                    self.command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=self._environment,
                    start_new_session=True,
                )
        except OSError as error:
            raise StartError(f"{self.command[0]}: cannot be run: {error.strerror}") from error
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.stop()

    @property
    def popen(self) -> subprocess.Popen[bytes]:
        """The process. Raises `StartError` before it was started."""
        if self._popen is None:
            raise StartError(f"{self.command[0]}: not started")
        return self._popen

    @property
    def pid(self) -> int:
        """Process id."""
        return self.popen.pid

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.popen.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End the process, by force after `STOP_SECONDS`; return its exit code. Once ended, do nothing."""
        popen = self._popen
        if popen is None:
            return 0
        if popen.poll() is None:
            popen.send_signal(number)
            try:
                popen.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                popen.kill()
        return popen.wait()

    def output(self) -> str:
        """What it has written so far."""
        return self.log.read_text("utf-8", "replace") if self.log.exists() else ""

    def wait_for(self, condition: Callable[[], T | None], what: str) -> T:
        """Poll until `condition` returns something true. Raises `StartError`."""
        deadline = time.monotonic() + READY_SECONDS
        while True:
            found = condition()
            if found:
                return found
            if self.popen.poll() is not None or time.monotonic() > deadline:
                raise StartError(f"{self.command[0]}: no {what}\n{self.output()[-4000:]}")
            time.sleep(_POLL_SECONDS)

    def wait_for_output(self, pattern: str) -> re.Match[str]:
        """Poll until its output matches `pattern`. Raises `StartError`."""
        return self.wait_for(lambda: re.search(pattern, self.output()), f"output like {pattern!r}")
