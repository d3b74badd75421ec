"""Structured logs."""

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from extproc.service import logs

CORE = "grpc._cython.cygrpc"
RESET = "ExecuteBatchError raised in core by servicer method [%s]"


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root, core = logging.getLogger(), logging.getLogger(CORE)
    level, handlers, filters = root.level, root.handlers[:], core.filters[:]
    root.handlers = []
    yield
    root.handlers, core.filters = handlers, filters
    root.setLevel(level)


def test_a_call_that_envoy_resets_is_no_error(capfd: pytest.CaptureFixture[str]) -> None:
    """gRPC reports one whose status was being sent, with a traceback. What else it has to say is logged."""
    logs.configure("info")
    for message in (RESET, "Unexpected [%s] raised"):
        logging.getLogger(CORE).error(message, "x")
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert [(line["level"], line["logger"], line["message"]) for line in lines] == [
        ("error", CORE, "Unexpected [x] raised")
    ]


UNREAD = """
import logging, os
from contextlib import suppress
from extproc.service import logs

read, write = os.pipe()
os.dup2(write, 2)
os.set_blocking(read, False)
other = os.open(f"/proc/self/fd/{write}", os.O_WRONLY | os.O_NONBLOCK)
logs.configure("info")

def show():
    with suppress(BlockingIOError):
        while True:
            print(os.read(read, 4096).decode(), end="")

with suppress(BlockingIOError):
    while True:
        os.write(other, b"x" * 4095 + b"\\n")
logging.warning("one")
logging.warning("two")
show()
logging.warning("three")
logging.warning("four")
logging.warning("long" * 500_000)
logging.warning("six")
show()
logging.warning("seven")
logging.warning("eight")
show()
"""


def test_a_log_that_nobody_reads_holds_up_nobody() -> None:
    """Lines that its pipe does not take are lost, or cut; the next one says how many."""
    done = subprocess.run([sys.executable, "-c", UNREAD], capture_output=True, text=True, timeout=60, check=True)
    _, _, text = done.stdout.rpartition("x\n")
    three, four, cut, seven, eight = text.splitlines()
    assert '"message":"longlong' in cut
    lines = [json.loads(line) for line in (three, four, seven, eight)]
    assert [(line["message"], line.get("lost")) for line in lines] == [
        ("three", 2),
        ("four", None),
        ("seven", 2),
        ("eight", None),
    ]


def test_a_closed_standard_error_gets_no_line(tmp_path: Path) -> None:
    """Its descriptor is that of the next file that is opened."""
    file = tmp_path / "file"
    script = "import logging, sys; from extproc.service import logs; file = open(sys.argv[1], 'w'); "
    script += "assert file.fileno() == 2; logs.configure('info'); logging.warning('one')"
    closed = ["sh", "-c", 'exec "$@" 2>&-', "sh"]
    subprocess.run([*closed, sys.executable, "-c", script, str(file)], timeout=60, check=True)
    assert file.read_text() == ""
