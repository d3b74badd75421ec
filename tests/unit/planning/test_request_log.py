"""Request logs that cannot be read say where, and nothing else is raised."""

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from extproc.planning.request_log import LogError, RequestLog

LINE = json.dumps({"body": {"messages": [{"content": "hi"}]}, "prompt_tokens": 9}).encode() + b"\n"
DEEP = b'{"body": {"messages": ' + b"[" * 50_000 + b"]" * 50_000 + b'}, "prompt_tokens": 9}\n'


@pytest.mark.parametrize(
    ("second", "told"),
    [
        (LINE.replace(b"hi", b"\xff"), "line 2: "),
        (DEEP, "line 2: "),
        (LINE.replace(b": 9", b": 1" + b"0" * 400), "line 2: "),
        (LINE.replace(b": 9", b": -1"), "line 2: "),
        (b"[]\n", "line 2: "),
    ],
    ids=["not UTF-8", "deep", "a huge count", "a count below zero", "no object"],
)
def test_a_line_that_cannot_be_read_is_named(tmp_path: Path, second: bytes, told: str) -> None:
    """With the file."""
    file = tmp_path / "log.jsonl"
    file.write_bytes(LINE + second)
    with pytest.raises(LogError, match=told):
        list(RequestLog(file))


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-9], lambda b: b[:12] + b"\xff\xff\xff" + b[15:]], ids=["cut", "altered"]
)
def test_a_damaged_gzip_cannot_be_read(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    """Whatever of it is wrong."""
    file = tmp_path / "log.jsonl.gz"
    file.write_bytes(damage(gzip.compress(LINE * 100)))
    with pytest.raises(LogError, match="cannot be read"):
        list(RequestLog(file))


def test_a_count_of_zero_says_nothing(tmp_path: Path) -> None:
    """The line is skipped, and counted as such."""
    file = tmp_path / "log.jsonl"
    file.write_bytes(LINE.replace(b": 9", b": 0") + LINE)
    log = RequestLog(file)
    assert [logged.tokens for logged in log] == [{"": 9}]
    assert log.skipped == 1


def test_a_pipe_is_a_log_too() -> None:
    """As `<(zstd -dc log.zst)` of a shell; how far it is read, nobody can say."""
    read, write = os.pipe()
    os.write(write, LINE * 2)
    os.close(write)
    log = RequestLog(Path(f"/dev/fd/{read}"))
    assert [log.position for _ in log] == [0, 0]
    os.close(read)
