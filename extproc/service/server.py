"""The gRPC server: exchanges and the access log, registered by hand, and the health service."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2_grpc

from extproc.config_service import Server, Tls
from extproc.config_types import socket_path
from extproc.service.access_log import AccessLog
from extproc.service.context import Context
from extproc.service.errors import StartError
from extproc.service.exchange import Exchange
from extproc.service.health import Health, HealthService
from extproc.service.route_settings import is_single_message, own_settings
from extproc.service.tls import credentials

log = logging.getLogger(__name__)

SERVICE = "envoy.service.ext_proc.v3.ExternalProcessor"
METHOD = f"/{SERVICE}/Process"
ACCESS_LOG_SERVICE = "envoy.service.accesslog.v3.AccessLogService"

SOCKET_SECONDS = 1.0
"""How long another process on our socket may take to accept a connection."""

RESET_SECONDS = 0.1
"""How long an exchange that is complete with its answer is kept for Envoy to reset, which it does at once. A status
that meets this reset costs time, and grpc.aio never frees what it took (grpc/grpc#43360)."""

FLUSH_SECONDS = 1.5
"""A bit more than Envoy keeps entries of the access log (`buffer_flush_interval`: 1 s) before it sends them."""

OPTIONS = (
    ("grpc.so_reuseport", 0),  # two servers on one port must be an error, not a lottery
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),  # a body may be as long as Envoy's buffer is set
    ("grpc.max_concurrent_streams", 8192),  # of one connection; Envoy opens another beyond them
    # Envoy's keepalive pings a connection every 0.5 s, busy or idle; gRPC's defaults close it as abusive.
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 250),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_ping_strikes", 0),
    # A peer that connects and says nothing, or stops answering pings, is disconnected.
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.http2.ping_timeout_ms", 20_000),
)


def build(
    listen: str, settings: Server, current: Callable[[], Context], health: Health
) -> tuple[grpc.aio.Server, int, "AccessLogStreams"]:
    """Return a server bound to `listen` (HOST:PORT or unix:///path), its port, which means nothing of a socket, and
    the streams of the access log, to be ended when the server stops.

    `listen`: stands for `settings.listen`, since each worker has its own. `current`: returns the context for a new
    exchange. Raises `StartError`.
    """
    # Health checks count as calls: where calls are refused they fail too, and Envoy soon stops asking.
    server = grpc.aio.server(options=OPTIONS, maximum_concurrent_rpcs=settings.max_exchanges)
    streams = AccessLogStreams(current)
    # Without (de)serializers gRPC passes bytes: the exchange and the access log decode their own messages.
    logs = {"StreamAccessLogs": grpc.stream_unary_rpc_method_handler(streams.serve)}
    server.add_generic_rpc_handlers(
        (_Exchanges(current, settings.body_seconds), grpc.method_handlers_generic_handler(ACCESS_LOG_SERVICE, logs))
    )
    health_pb2_grpc.add_HealthServicer_to_server(HealthService(health), server)
    return server, _bind(server, listen, settings.tls), streams


class AccessLogStreams:
    """Serves the streams of the access log. Envoy keeps them open, so a stop would wait for them in vain."""

    def __init__(self, current: Callable[[], Context]) -> None:
        self._access_log = AccessLog(current)
        self._open: set[asyncio.Task[Any]] = set()
        self._ending = False

    async def serve(self, messages: AsyncIterator[bytes], _: grpc.aio.ServicerContext) -> bytes:
        """Learn from the messages of one stream."""
        call = asyncio.current_task()
        assert call is not None
        self._open.add(call)
        try:
            async for message in messages:
                await in_turns(self._access_log.take(message))
                if self._ending:
                    break
        except asyncio.CancelledError:
            if call in self._open:  # reset by Envoy
                raise
        finally:
            self._open.discard(call)
        return b""  # StreamAccessLogsResponse has no field

    async def end(self) -> None:
        """End each after its next message, since then none is on its way, or when none comes.

        Envoy sends what comes next to another replica, or waits.
        """
        self._ending = True
        if self._open:
            await asyncio.wait(self._open, timeout=FLUSH_SECONDS)
        while self._open:
            self._open.pop().cancel()


async def in_turns(work: Iterator[None]) -> None:
    """Do `work` step by step, with a turn for others after each; at once where the call is reset meanwhile.

    An Envoy that stops sends its last entries and resets: what has arrived counts.
    """
    try:
        for _ in work:
            await asyncio.sleep(0)
    finally:
        for _ in work:
            pass


Processor = Callable[[AsyncIterator[bytes], grpc.aio.ServicerContext], Awaitable[None]]
Decider = Callable[[bytes, grpc.aio.ServicerContext], Awaitable[bytes | None]]


class _Exchanges(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types
    """Serves an exchange as a stream, or as a unary call where Envoy promises a single message.

    On the wire the two are the same, but gRPC takes fewer steps for a unary call. There the wait for the message is
    not bounded: an Envoy that makes the promise has the message at hand.
    """

    def __init__(self, current: Callable[[], Context], body_seconds: float) -> None:
        self._stream = grpc.stream_stream_rpc_method_handler(_processor(current, body_seconds))
        self._single = grpc.unary_unary_rpc_method_handler(_decider(current))

    def service(self, call: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """Return the handler for `call`, None when it is for another service."""
        if call.method != METHOD:
            return None
        return self._single if is_single_message(call.invocation_metadata) else self._stream


def _decider(current: Callable[[], Context]) -> Decider:
    """Return the handler of an exchange of one message."""

    async def decide(message: bytes, call: grpc.aio.ServicerContext) -> bytes | None:
        exchange = Exchange(current(), own_settings(call.invocation_metadata()))
        reply = exchange.handle(message)
        exchange.close()
        if reply is None:
            await call.abort(grpc.StatusCode.INVALID_ARGUMENT, "not a message of an external processor")
        return reply

    return decide


def _processor(current: Callable[[], Context], body_seconds: float) -> Processor:
    """Return the handler of an exchange of several messages."""

    async def process(_: AsyncIterator[bytes], call: grpc.aio.ServicerContext) -> None:
        exchange = Exchange(current(), own_settings(call.invocation_metadata()))
        limit = _limit(exchange, body_seconds)
        try:
            # read() and write() are cheaper than a generator over an iterator: 6 % of an exchange of four messages.
            while not exchange.complete and (message := await call.read()) is not grpc.aio.EOF:
                reply = exchange.handle(message)
                if exchange.decided:
                    limit.cancel()
                if reply is None:
                    return
                await call.write(reply)
        except asyncio.CancelledError:
            if not exchange.given_up:  # reset by Envoy: sending a status would leak memory
                raise
        finally:
            limit.cancel()
            exchange.close()
        if exchange.complete and exchange.answered:
            await asyncio.sleep(RESET_SECONDS)

    return process


def _limit(exchange: Exchange, seconds: float) -> asyncio.TimerHandle:
    """End the running call in `seconds`, so that clients that never finish their bodies do not use up all calls.

    Envoy then sends the request on by the route picked at its headers: to the largest pool.
    """
    call = asyncio.current_task()

    def end() -> None:
        exchange.give_up()
        if call is not None:
            call.cancel()

    return asyncio.get_running_loop().call_later(seconds, end)


def _bind(server: grpc.aio.Server, listen: str, tls: Tls | None) -> int:
    if listen.startswith("unix:") and _is_served(socket_path(listen)):
        raise StartError(f"server.listen: {listen!r}: cannot be listened on: another process does")
    try:
        port = server.add_insecure_port(listen) if tls is None else server.add_secure_port(listen, credentials(tls))
    except RuntimeError as error:
        raise StartError(
            f"server.listen: {listen!r}: cannot be listened on: in use, no address of this machine, or in a "
            "directory that is not there or not ours"
        ) from error
    if listen.startswith("unix:"):
        # Envoy runs as another user, and gRPC takes no mode. The directory's permissions say who may connect.
        Path(socket_path(listen)).chmod(0o666)
    return int(port)


def _is_served(path: str) -> bool:
    """Whether a process listens on the socket at `path`. gRPC would replace it silently, and remove it later."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(SOCKET_SECONDS)
        try:
            client.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except OSError:
            pass  # no permission, or no time to accept: in either case somebody is there
        return True
