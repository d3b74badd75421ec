"""Structured logs: one JSON object a line on standard error."""

import logging
import select
import sys
from datetime import UTC, datetime
from typing import TextIO

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


class _StandardError(logging.StreamHandler[TextIO]):
    """Loses a line rather than wait for whoever reads the log, since requests would wait too.

    A pipe that is said to be writable takes a line of up to 4 KiB. The next line says how many were lost before it.
    """

    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self._poll = select.poll()
        self._poll.register(2, select.POLLOUT)
        self._lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        if not self._poll.poll(0):
            self._lost += 1
            return
        record.lost, self._lost = self._lost, 0
        super().emit(record)


def _is_no_reset(record: logging.LogRecord) -> bool:
    """Whether a record is not gRPC's about a call that Envoy reset while its status was sent: a normal end."""
    return not str(record.msg).startswith("ExecuteBatchError raised in core")


def configure(level: str) -> None:
    """Send every log record of `level` (debug, info, warning, error) and above to standard error."""
    handler = _StandardError()
    handler.setFormatter(_JsonLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("grpc._cython.cygrpc").addFilter(_is_no_reset)
