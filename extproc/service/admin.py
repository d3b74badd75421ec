"""The admin port: /healthz, /readyz, /metrics and /state over plain HTTP, for probes, Prometheus and people.

Served by a thread of its own, so that a slow reader cannot hold up an exchange. The pages hold no headers, no
prompts and no secrets.
"""

import asyncio
import logging
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any, Protocol

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from extproc.config_service import ALL_ADDRESSES, Server
from extproc.service.errors import StartError

log = logging.getLogger(__name__)

_PROBE_SECONDS = 1.0
_CLIENT_SECONDS = 5.0
"""A client that sends or reads nothing for this long is dropped."""

MOST_CLIENTS = 64


class Probe(Protocol):
    """Whether requests should be sent here: the health of one process, or of all workers."""

    @property
    def draining(self) -> bool:
        """Whether the service is about to stop."""
        ...

    async def healthy(self) -> bool:
        """Whether a probe succeeds, in time."""
        ...


Page = tuple[HTTPStatus, str, bytes]


class _Server(ThreadingHTTPServer):
    """A thread for each of at most `MOST_CLIENTS` clients. One more disconnects the oldest."""

    daemon_threads = True
    # Where this backlog is full, the kernel drops a probe's SYN, which is sent again after 1 s.
    request_queue_size = 2 * MOST_CLIENTS

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        host, port = address
        if host in ALL_ADDRESSES:  # of both families, as gRPC takes it
            host = "::" if socket.has_dualstack_ipv6() else "0.0.0.0"
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), handler)
        self._clients: dict[socket.socket, None] = {}
        self._lock = threading.Lock()

    def server_bind(self) -> None:
        """Bind, and ask no name server for our name, as `HTTPServer` does: it may take 10 s."""
        if self.server_address[0] == "::":
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        TCPServer.server_bind(self)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a client on a thread of its own."""
        with self._lock:
            self._clients[request] = None
            if len(self._clients) > MOST_CLIENTS:
                oldest = next(iter(self._clients))
                del self._clients[oldest]
                with suppress(OSError):
                    oldest.shutdown(socket.SHUT_RDWR)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Hang up."""
        with self._lock:
            self._clients.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore it: a client that left early is no error, and errors of pages are handled in `_answer`."""


class Admin:
    """Serves the pages from a thread."""

    def __init__(
        self,
        settings: Server,
        health: Probe,
        registry: CollectorRegistry,
        state: Callable[[], dict[str, object]],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """Bind `settings.admin`. `loop`: where the probe runs. Raises `StartError` when the address is not free."""
        self._health = health
        self._registry = registry
        self._state = state
        self._loop = loop
        self._host = settings.admin.rpartition(":")[0]
        pages: dict[str, Callable[[], Page]] = {
            "/healthz": self._healthz,
            "/readyz": self._readyz,
            "/metrics": self._metrics,
            "/state": self._state_page,
        }
        try:
            self._server = _Server(settings.admin_address, _handler(pages))
        except OSError as error:
            raise StartError(
                f"server.admin: {settings.admin!r}: cannot be listened on: {error.strerror}"
            ) from error
        self._thread = threading.Thread(target=self._server.serve_forever, name="admin", daemon=True)

    @property
    def address(self) -> str:
        """HOST:PORT as configured, with the port the kernel chose when 0 was asked for."""
        return f"{self._host}:{self._server.server_address[1]}"

    def start(self) -> None:
        """Serve until `stop`."""
        self._thread.start()

    def stop(self) -> None:
        """Close the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _healthz(self) -> Page:
        """Whether the process works: its loop takes a probe decision in time, or it is draining."""
        return _verdict(self._probe() or self._health.draining)

    def _readyz(self) -> Page:
        """Whether the service should be sent requests."""
        return _verdict(self._probe())

    def _probe(self) -> bool:
        future = asyncio.run_coroutine_threadsafe(self._health.healthy(), self._loop)
        try:
            return future.result(_PROBE_SECONDS)
        except TimeoutError:
            future.cancel()
            return False

    def _metrics(self) -> Page:
        return HTTPStatus.OK, CONTENT_TYPE_LATEST, generate_latest(self._registry)

    def _state_page(self) -> Page:
        return HTTPStatus.OK, "application/json", msgspec.json.format(msgspec.json.encode(self._state())) + b"\n"


def _verdict(good: bool) -> Page:
    if good:
        return HTTPStatus.OK, "text/plain", b"ok\n"
    return HTTPStatus.SERVICE_UNAVAILABLE, "text/plain", b"unavailable\n"


def _answer(page: Callable[[], Page]) -> Page:
    """Return the page, or 503 where making it fails: a worker that is starting has half-written metric files."""
    try:
        return page()
    except Exception as error:
        log.warning("admin: a page could not be made: %s", type(error).__name__)
        return _verdict(False)


def _handler(pages: dict[str, Callable[[], Page]]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _CLIENT_SECONDS
        server_version = "dualpool"
        sys_version = ""

        def do_GET(self) -> None:
            page = pages.get(self.path.partition("?")[0])
            if page is None:
                known = ", ".join(sorted(pages))
                status, kind, body = HTTPStatus.NOT_FOUND, "text/plain", f"there are: {known}\n".encode()
            else:
                status, kind, body = _answer(page)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815 - the name is http.server's

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is http.server's
            """Log nothing: probes come every second."""

    return Handler
