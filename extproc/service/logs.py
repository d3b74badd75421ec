"""Structured logs: one JSON object a line on standard error."""

import logging
import os
import select
import sys
import traceback
from datetime import UTC, datetime

import msgspec


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "process": record.process,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if lost := getattr(record, "lost", 0):
            line["lost"] = lost
        return msgspec.json.encode(line).decode()


class _StandardError(logging.Handler):
    """Loses a line rather than wait for whoever reads the log, since requests would wait too.

    A pipe that is said to be writable takes `PIPE_BUF` bytes. A longer line is written in pieces, and may be cut.
    The next line says how many were lost or cut before it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._poll = select.poll()
        self._poll.register(2, select.POLLOUT)
        self._lost = 0
        self._is_cut = False

    def emit(self, record: logging.LogRecord) -> None:
        try:
            record.lost = self._lost
            line = "\n" * self._is_cut + self.format(record) + "\n"
            self._write(line.encode())
        except Exception:
            self.handleError(record)

    def _write(self, line: bytes) -> None:
        for start in range(0, len(line), select.PIPE_BUF):
            if not self._poll.poll(0):
                self._lost += 1
                self._is_cut |= start > 0
                return
            os.write(2, line[start : start + select.PIPE_BUF])
        self._lost, self._is_cut = 0, False


def _is_no_reset(record: logging.LogRecord) -> bool:
    """Whether a record is not gRPC's about a call that Envoy reset while its status was sent: a normal end."""
    return not str(record.msg).startswith("ExecuteBatchError raised in core")


class Failing:
    """Whether something that is tried again and again fails, so that it is logged once and not at every try."""

    def __init__(self) -> None:
        self._is_failing = False

    def begins(self) -> bool:
        """Note a failure. True if it is the first, or the first since `ends`."""
        before, self._is_failing = self._is_failing, True
        return not before

    def ends(self) -> None:
        """Note that it has worked."""
        self._is_failing = False


def origin(error: BaseException) -> str:
    """Return the calls that led to `error`, for the log, without its message: that may quote a body."""
    return "".join(traceback.format_tb(error.__traceback__))


def configure(level: str) -> None:
    """Send every log record of `level` (debug, info, warning, error) and above to standard error."""
    # Where standard error was closed before the start, its descriptor is by now another file's.
    handler = logging.NullHandler() if sys.stderr is None else _StandardError()
    handler.setFormatter(_JsonLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("grpc._cython.cygrpc").addFilter(_is_no_reset)
