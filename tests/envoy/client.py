"""A plain HTTP client: one request a connection, the answer as it came."""

import http.client
import itertools
import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

CHAT = "/v1/chat/completions"
MARKER = "x-marker"

_serial = itertools.count()


@dataclass(frozen=True)
class Reply:
    """An answer: `headers` with lower-case names, `body` whole. `marker`: what the request can be found by."""

    status: int
    headers: dict[str, str]
    body: bytes
    marker: str

    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)


def send(
    url: str,
    body: Any = None,
    *,
    path: str = CHAT,
    method: str = "POST",
    headers: dict[str, str] | None = None,
    timeout: float = 30,
) -> Reply:
    """Send `body` with a marker of its own and return the answer.

    `body`: bytes as they are, an iterator of them in chunks, anything else as JSON.
    """
    marker = f"m{next(_serial)}"
    raw = body if body is None or isinstance(body, bytes | Iterator) else json.dumps(body).encode()
    sent = {"content-type": "application/json", MARKER: marker, **(headers or {})}
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=timeout)
    try:
        connection.request(method, path, raw, sent)
        response = connection.getresponse()
        received = {name.lower(): value for name, value in response.getheaders()}
        return Reply(response.status, received, response.read(), marker)
    finally:
        connection.close()


def connect(url: str) -> socket.socket:
    """Return a bare connection to the server at `url`, for what no HTTP client would do."""
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname or "", parts.port or 0), timeout=30)


def chat(text: str, **fields: Any) -> dict[str, Any]:
    """Return a chat request of one message."""
    return {"model": "m", "messages": [{"role": "user", "content": text}], **fields}
