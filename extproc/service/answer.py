"""Reads the answer to a request: its usage, and how the generation ended."""

from collections.abc import Mapping

from extproc.body.sse import EventStream
from extproc.body.usage import Report
from extproc.budget.observation import Observation, ending
from extproc.metrics import Unread

ANSWER_LIMIT = 4 * 1024 * 1024
"""Bytes kept of a JSON answer, or of one event of a stream. A longer one is not read."""


class Answer:
    """Collects the usage of one answer from its headers and the pieces of its body.

    `unread`: why the body is not to be read (`status` is one other than 2xx), None when it is. `unparsable`: the
    body is not JSON, or the body or one of its events was longer than `ANSWER_LIMIT`. Set by `observation`.
    """

    def __init__(self, request: Observation, headers: Mapping[str, bytes], attempts: int | None) -> None:
        """`attempts`: how often Envoy sent the request to a pool, None where it does not say."""
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
        """Whether the body is a stream of server-sent events, to be read chunk by chunk."""
        return self._events is not None

    def _why_unread(self, encoding: bytes, content_type: bytes) -> Unread | None:
        if not 200 <= self._status < 300:
            return "status"
        if encoding not in (b"", b"identity"):
            return "compressed"
        return None if self.streamed or _is_json(content_type) else "content_type"

    def feed(self, chunk: bytes) -> None:
        """Take a piece of the body. Of a stream only the unfinished event is kept, of JSON all up to a limit."""
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
            whole = whole or not self.unparsable  # a part of a document is none, and trailers may follow the whole
        report = self._report
        return ending(
            self._request,
            self._status,
            report.usage,
            report.finish_reason,
            whole=whole or report.ended,
            attempts=self._attempts,
        )


def _is_json(content_type: bytes) -> bool:
    """Whether a body is one JSON document, not a stream of several (RFC 6839, section 3.1)."""
    media = content_type.partition(b";")[0].strip()
    return media == b"application/json" or (media.endswith(b"+json") and media != b"application/stream+json")


def _status(headers: Mapping[str, bytes]) -> int:
    value = headers.get(":status", b"")
    return int(value) if value.isdigit() and len(value) == 3 else 0
