"""`dualpool demo` shows what it says and leaves nothing behind."""

import os
import re
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from extproc.demo.process import Process
from extproc.demo.show import show
from tests.envoy.client import Reply, chat, send
from tests.envoy.stack import until

MARK = "DEMO_TEST"
TRY = r"Try: curl -si http://127\.0\.0\.1:(\d+)/"

WHOLE_DEMO_SECONDS = 180
"""What starting everything, all requests and the latencies may take on a slow machine."""


@contextmanager
def demo(directory: Path, *arguments: str) -> Iterator[tuple[Process, str]]:
    """Run the command as a process; yields it, and a mark that all its descendants carry in their environment."""
    mark = uuid.uuid4().hex
    command = [sys.executable, "-m", "extproc", "demo", *arguments]
    with Process(command, directory / "demo.log", {**os.environ, MARK: mark, "COLUMNS": "300"}) as process:
        yield process, mark


def marked(mark: str) -> list[int]:
    """Processes that carry the mark."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if f"{MARK}={mark}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
        except (OSError, ValueError):
            continue  # not a process, gone meanwhile, or another user's
    return found


def decided(port: int) -> Reply | None:
    """The answer to a short request, if it was Dualpool that chose its pool."""
    reply = send(f"http://127.0.0.1:{port}", chat("How are you?", max_tokens=20))
    return reply if reply.headers.get("x-dualpool-reason") else None


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_it_tells_where_requests_went_and_what_was_learned(capsys: pytest.CaptureFixture[str]) -> None:
    """Every request is answered; the tables name both pools, every kind of text and the latency added."""
    assert show(120, keep=False)
    told = capsys.readouterr().out
    assert "120 of 120" in told
    assert re.search(r"all +120 +\d+ +\d+ +\d+ +\d+\.\d % +\d+\.\d %", told), told  # the errors are known
    for word in (
        "short",
        "long",
        "chat",
        "Chinese",
        "JSON, tools",
        "fits",
        "refused by the short pool",
        "ms at the median",
    ):
        assert word in told


def test_kept_it_answers_until_interrupted_and_leaves_nothing(tmp_path: Path) -> None:
    """With --keep the address in the curl line works; Ctrl-C ends every process and closes every port."""
    with demo(tmp_path, "--requests", "20", "--keep") as (process, mark):
        port = int(until(lambda: re.search(TRY, process.output()), WHOLE_DEMO_SECONDS)[1])
        # On a busy machine the service may be late, and a request then goes long: ask until it was in time.
        reply = until(lambda: decided(port))
        assert (reply.status, reply.headers["x-served-by"]) == (200, "short")
        assert reply.headers["x-dualpool-reason"] == "fits"
        assert len(marked(mark)) == 4  # the demo, Envoy, the service, the pools
        assert process.stop(signal.SIGINT) == 0
    assert marked(mark) == []
    assert not listens(port)


@pytest.mark.parametrize(("processes", "number"), [(2, signal.SIGINT), (3, signal.SIGINT), (4, signal.SIGTERM)])
def test_interrupted_anywhere_it_leaves_nothing(tmp_path: Path, processes: int, number: signal.Signals) -> None:
    """While processes are being started, or under load: a signal ends them all, without a traceback."""
    with demo(tmp_path, "--requests", "100000") as (process, mark):
        until(lambda: len(marked(mark)) >= processes)
        assert process.stop(number) == 128 + number
        assert "Traceback" not in process.output()
    assert marked(mark) == []


def test_without_envoy_it_says_what_to_do(tmp_path: Path) -> None:
    """What cannot start is named, and the exit code is 1."""
    done = subprocess.run(
        [sys.executable, "-m", "extproc", "demo"],
        env={**os.environ, "ENVOY": str(tmp_path / "none"), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert re.search("cannot be run", done.stderr)
    assert "Traceback" not in done.stderr
