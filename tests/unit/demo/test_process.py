"""Child processes end with the block that started them, whatever interrupts it."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from extproc.demo import process as module
from extproc.demo.process import Process, StartError

SLEEPER = [sys.executable, "-c", "import signal; print('up', flush=True); signal.pause()"]


class Interrupted(Exception):  # noqa: N818 - a signal is no error
    """Raised by the handler of the test."""


@pytest.fixture
def interrupting() -> Iterator[None]:
    """SIGTERM raises, as it does under `dualpool demo`."""

    def interrupt(*_: Any) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGTERM, interrupt)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def signal_at_birth(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Send SIGTERM to this process between a child's start and its handle; returns the pids of the children."""
    children: list[int] = []
    popen: Callable[..., Any] = subprocess.Popen

    def born(*arguments: Any, **options: Any) -> Any:
        child = popen(*arguments, **options)
        children.append(child.pid)
        signal.raise_signal(signal.SIGTERM)
        return child

    monkeypatch.setattr(subprocess, "Popen", born)
    return children


def runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.usefixtures("interrupting")
def test_a_signal_at_birth_waits_until_the_child_is_known(tmp_path: Path, signal_at_birth: list[int]) -> None:
    """The signal is delivered, and the child can be ended all the same."""
    process = Process(SLEEPER, tmp_path / "log")
    with pytest.raises(Interrupted):
        process.__enter__()
    assert [runs(pid) for pid in signal_at_birth] == [True]
    process.stop()
    assert [runs(pid) for pid in signal_at_birth] == [False]


def test_a_child_that_will_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the time it is given, by force."""
    monkeypatch.setattr(module, "STOP_SECONDS", 0.05)
    deaf = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEPER[2]}"
    with Process([sys.executable, "-c", deaf], tmp_path / "log") as process:
        process.wait_for_output("up")
        assert process.stop() == -signal.SIGKILL


def test_one_that_was_never_started_can_be_stopped(tmp_path: Path) -> None:
    """Its end may be registered before its start."""
    process = Process(SLEEPER, tmp_path / "log")
    assert process.stop() == 0
    with pytest.raises(StartError, match="not started"):
        _ = process.pid


def test_a_command_that_ends_early_says_why(tmp_path: Path) -> None:
    """The error ends with what the process wrote."""
    with (
        Process([sys.executable, "-c", "print('no luck')"], tmp_path / "log") as process,
        pytest.raises(StartError, match="no luck"),
    ):
        process.wait_for_output("never")


def test_a_command_that_does_not_exist_is_named(tmp_path: Path) -> None:
    """With the system's reason."""
    with pytest.raises(StartError, match="nowhere: cannot be run: No such file"):
        Process([str(tmp_path / "nowhere")], tmp_path / "log").__enter__()
