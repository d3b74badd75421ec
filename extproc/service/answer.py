"""What is read of the answer to a request: its usage and how it ended."""

from collections.abc import Mapping

from extproc.body.sse import EventStream
from extproc.body.usage import Report
from extproc.budget.observation import Observation, ending

ANSWER_LIMIT = 4 * 1024 * 1024
"""Bytes kept of a JSON answer that arrives in pieces, or of an event of a stream; a longer one is not read."""


class Answer:
    """Collects the usage of one answer from its headers and the pieces of its body.

    `unread`: why the body is left alone (`status`: not a 2xx, `compressed`, `content_type`), None when it is read.
    `streamed`: the body is a stream of server-sent events. `unparsable`: the body is no JSON, or was too long to be
    read, or an event of it.
    """

    def __init__(self, request: Observation, headers: Mapping[str, bytes], attempts: int | None = None) -> None:
        """`attempts`: how often the request was sent on, None where Envoy does not say."""
        self._request = request
        self._attempts = attempts
        self._status = _status(headers)
        self._report = Report()
        self._pieces: list[bytes] = []
        self._size = 0
        self.unparsable = False
        content_type = headers.get("content-type", b"").lower()
        self._events = (
            EventStream(self._report, ANSWER_LIMIT) if content_type.startswith(b"text/event-stream") else None
        )
        self.unread = self._why_unread(headers.get("content-encoding", b"").lower(), content_type)

    @property
    def streamed(self) -> bool:
        """Whether the body is to be read chunk by chunk."""
        return self._events is not None

    def _why_unread(self, encoding: bytes, content_type: bytes) -> str | None:
        if not 200 <= self._status < 300:
            return "status"
        if encoding not in (b"", b"identity"):
            return "compressed"
        return None if self.streamed or _is_json(content_type) else "content_type"

    def feed(self, chunk: bytes) -> None:
        """Take a piece of the body: of a stream only the unfinished event is kept, of JSON all up to a limit."""
        if self._events is not None:
            self._events.feed(chunk)
            return
        self._size += len(chunk)
        if self._size <= ANSWER_LIMIT:
            self._pieces.append(chunk)
        else:
            self._pieces.clear()

    def observation(self, whole: bool) -> Observation:
        """Return the request's observation, completed by what was read (see `ending`). Call once, at the end."""
        if self._events is not None:
            self._events.close()
            self.unparsable = self._events.overlong
        elif self._size > ANSWER_LIMIT:
            self.unparsable = True
        elif self._pieces:
            self.unparsable = not self._report.read(b"".join(self._pieces))
            whole = whole or not self.unparsable  # trailers may follow
        report = self._report
        return ending(
            self._request, self._status, report.usage, report.finish_reason, whole=whole, attempts=self._attempts
        )


def _is_json(content_type: bytes) -> bool:
    """Whether a body is one JSON document, and not a stream of several (RFC 6839 section 3.1)."""
    media = content_type.partition(b";")[0].strip()
    return media == b"application/json" or (media.endswith(b"+json") and media != b"application/stream+json")


def _status(headers: Mapping[str, bytes]) -> int:
    value = headers.get(":status", b"")
    return int(value) if value.isdigit() and len(value) == 3 else 0
