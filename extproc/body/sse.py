"""Server-sent events: reads the usage of a streamed answer while it passes.

Chunks may end anywhere: in the middle of a line, of a CRLF or of a multi-byte character. Only the event being
received is kept, up to a bound.
"""

import re

from extproc.body.usage import Report

# An event is decoded only when it may report something: most carry a few tokens of text and nothing else.
_REPORTS = re.compile(rb'"usage"\s*:\s*\{|"(?:finish_reason|stop_reason|reason)"\s*:\s*"')

_DONE = b"[DONE]"
"""OpenAI's last event."""


class EventStream:
    """Feeds the events of one stream into `report`.

    `limit`: bytes kept of an unfinished event. Longer events are skipped; `overlong` tells that there was one.
    """

    def __init__(self, report: Report, limit: int) -> None:
        self._report = report
        self._limit = limit
        self._line = bytearray()
        self._data: list[bytes] = []
        self._size = 0
        self._after_cr = False
        self._skipping = False
        self._first = True
        self.overlong = False

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the stream. Never raises."""
        if self._after_cr and chunk:
            self._after_cr = False
            chunk = chunk.removeprefix(b"\n")  # the other half of a CRLF
        if not chunk:
            return
        self._after_cr = chunk.endswith(b"\r")
        self._line += chunk
        if b"\n" in chunk or b"\r" in chunk:
            lines = bytes(self._line).splitlines(keepends=True)
            self._line = bytearray() if lines[-1].endswith((b"\n", b"\r")) else bytearray(lines.pop())
            for line in lines:
                self._take(line.rstrip(b"\r\n"))
        if len(self._line) + self._size > self._limit:
            self._line = bytearray(b":")  # treat the rest of this line as a comment
            self._skip()

    def close(self) -> None:
        """Take the last event, even if the stream ended without a blank line after it."""
        if self._line:
            self._take(bytes(self._line))
            self._line.clear()
        self._take(b"")

    def _take(self, line: bytes) -> None:
        if self._first:
            self._first = False
            line = line.removeprefix(b"\xef\xbb\xbf")  # a byte order mark may open the stream
        if not line:
            self._dispatch()
        elif line.startswith(b"data:"):
            value = line[5:].removeprefix(b" ")
            self._size += len(value) + 1  # an empty line takes memory too
            if self._size > self._limit:
                self._skip()
            elif not self._skipping:
                self._data.append(value)

    def _skip(self) -> None:
        self._skipping = self.overlong = True
        self._data.clear()
        self._size = 0

    def _dispatch(self) -> None:
        if self._data:
            data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
            if _REPORTS.search(data):
                self._report.read(data)
            elif data == _DONE:
                self._report.ended = True
        self._data = []
        self._size = 0
        self._skipping = False
