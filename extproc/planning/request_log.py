"""Request logs: bodies with the prompt tokens that a server counted, a JSON object a line.

Two forms are read, and told apart by line:

    {"path": "/v1/chat/completions", "body": {...}, "prompt_tokens": 123}
    {"request": {...}, "response": {"usage": {"prompt_tokens": 123, ...}}}

`body` (and `request`) is an object or the text of one. `prompt_tokens` may be an object, tokens by tokenizer.
`path` (or `url`) is read where it is there, else it is /v1/chat/completions, or /v1/completions for a body with
`prompt`. `category`, where there is one, names the kind of body.
"""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from extproc.body.facts import PromptFacts
from extproc.body.paths import api_of
from extproc.body.request import read_request
from extproc.body.usage import Count, Report


class LogError(Exception):
    """A log that cannot be used. The message names file, line and what is wrong."""


class Logged(msgspec.Struct, frozen=True):
    """One request. `tokens`: prompt tokens by tokenizer, "" where the log names none. `size`: bytes of its body."""

    facts: PromptFacts
    tokens: dict[str, int]
    completion_tokens: int | None
    kind: str
    size: int


class _Line(msgspec.Struct):
    path: str = ""
    url: str = ""
    body: Any = None
    request: Any = None
    prompt_tokens: Count | dict[str, Count] | None = None
    response: msgspec.Raw = msgspec.Raw()
    category: str = ""


_decoder = msgspec.json.Decoder(_Line)


class RequestLog:
    """The requests of a file, gzipped or not. `skipped`: lines with nothing to learn from, so far."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self.skipped = 0

    @property
    def size(self) -> int:
        """Bytes of the file. Raises `LogError`."""
        try:
            return self._path.stat().st_size
        except OSError as error:
            raise LogError(f"{self._path}: cannot be read: {error.strerror}") from error

    @property
    def position(self) -> int:
        """Bytes of the file read so far, 0 of a pipe."""
        return self._file.tell() if self._file is not None and self._file.seekable() else 0

    def __iter__(self) -> Iterator[Logged]:
        """Yield the requests in order. Raises `LogError` when the file or a line cannot be read."""
        try:
            with self._path.open("rb") as self._file:
                lines = gzip.open(self._file) if self._path.suffix == ".gz" else self._file  # noqa: SIM115 - closed with it
                for number, line in enumerate(lines, 1):
                    found = self._read(number, line) if line.strip() else None
                    if found is not None:
                        yield found
        except (OSError, EOFError, zlib.error) as error:
            raise LogError(f"{self._path}: cannot be read: {error}") from error

    def _read(self, number: int, line: bytes) -> Logged | None:
        try:
            entry = _decoder.decode(line)
            value = entry.body if entry.body is not None else entry.request
            body = value.encode() if isinstance(value, str) else msgspec.json.encode(value)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:  # ValueError: invalid UTF-8
            raise LogError(f"{self._path}: line {number}: {error}: one JSON object a line is needed") from None
        report = Report()
        report.read(bytes(entry.response))
        facts = _facts(entry, value, body)
        tokens = _tokens(entry, report)
        if facts is None or not tokens:
            self.skipped += 1
            return None
        completion = report.usage.completion_tokens if report.usage else None
        return Logged(facts, tokens, completion, entry.category, len(body))


def _facts(entry: _Line, value: Any, body: bytes) -> PromptFacts | None:
    plain = isinstance(value, dict) and "prompt" in value
    api = api_of(entry.path or entry.url or ("/v1/completions" if plain else "/v1/chat/completions"))
    facts = read_request(api, body) if api else None
    return facts if isinstance(facts, PromptFacts) else None


def _tokens(entry: _Line, report: Report) -> dict[str, int]:
    if isinstance(entry.prompt_tokens, dict):
        return entry.prompt_tokens
    counted = entry.prompt_tokens
    if counted is None and report.usage is not None:
        counted = report.usage.prompt_tokens
    return {"": counted} if counted else {}  # a prompt has a token at least: 0 was not counted
