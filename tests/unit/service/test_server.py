"""Rules of the gRPC server and its health service, over a real connection."""

import asyncio
import os
import socket
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from extproc.config_service import Server
from extproc.pb import dualpool_extproc_pb2 as pb
from extproc.service import server as module
from extproc.service.errors import StartError
from extproc.service.exchange import Exchange
from extproc.service.health import Health, HealthService
from extproc.service.server import build, in_turns
from tests.unit.service.test_exchange import BODY, CHAT, Harness, answer_headers, headers, pool

DEFAULTS = Server()
METHOD = "/envoy.service.ext_proc.v3.ExternalProcessor/Process"


@asynccontextmanager
async def serving(
    harness: Harness, limit: float = 10.0, settings: Server = DEFAULTS
) -> AsyncIterator[tuple[grpc.aio.Channel, Health]]:
    health = Health(harness.context.router, limit)
    server, port, _ = build("127.0.0.1:0", settings, lambda: harness.context, health)
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel, health
    finally:
        await server.stop(0)


def process(channel: grpc.aio.Channel) -> "grpc.aio.StreamStreamCall":
    return channel.stream_stream(METHOD)()


async def exchange(call: "grpc.aio.StreamStreamCall", request: pb.ProcessingRequest) -> pb.ProcessingResponse:
    await call.write(request.SerializeToString())
    return pb.ProcessingResponse.FromString(await call.read())


async def test_an_exchange_over_the_wire() -> None:
    """The method is served under Envoy's own path, and the request is routed."""
    async with serving(Harness()) as (channel, _):
        call = process(channel)
        first = await exchange(call, pb.ProcessingRequest(request_headers=headers(CHAT)))
        assert pool(first) == "long"
        body = pb.ProcessingRequest(request_body=pb.HttpBody(body=BODY, end_of_stream=True))
        assert pool(await exchange(call, body)) == "short"
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        assert await call.code() == grpc.StatusCode.OK


NO_MORE = (("dualpool-answers", "false"), ("dualpool-body", "false"))


async def test_a_decision_that_hears_nothing_of_its_answer_ends_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes up none of `server.max_exchanges` while the answer is on its way."""
    monkeypatch.setattr(module, "RESET_SECONDS", 60.0)
    async with asyncio.timeout(30), serving(Harness()) as (channel, _):
        call = channel.stream_stream(METHOD)(metadata=(("dualpool-answers", "false"),))
        await exchange(call, pb.ProcessingRequest(request_headers=headers(CHAT)))
        await exchange(call, pb.ProcessingRequest(request_body=pb.HttpBody(body=BODY, end_of_stream=True)))
        assert await call.read() is grpc.aio.EOF
        assert await call.code() == grpc.StatusCode.OK


async def test_headers_alone_are_one_message_and_its_answer() -> None:
    """Where nothing else comes the call is over with the answer, without a word of its client's."""
    harness = Harness()
    async with serving(harness) as (channel, _):
        call = channel.stream_stream(METHOD)(metadata=NO_MORE)
        path = {**CHAT, "content-length": "300"}
        request = pb.ProcessingRequest(request_headers=headers(path))
        request.metadata_context.filter_metadata["dualpool.request"].update({"json": True, "max_tokens": 10.0})
        assert pool(await exchange(call, request)) == "short"
        assert await call.read() is grpc.aio.EOF
        assert await call.code() == grpc.StatusCode.OK
    assert harness.count("dualpool_requests_total", pool="short", chosen="short", reason="fits") == 1


async def test_a_body_that_stays_away_does_not_keep_the_answer_away() -> None:
    """With `dualpool-body` alone the headers of the answer still come, and what they say is read."""
    harness = Harness()
    async with serving(harness) as (channel, _):
        call = channel.stream_stream(METHOD)(metadata=(("dualpool-body", "false"),))
        sent = headers({**CHAT, "content-length": "300"})
        request = pb.ProcessingRequest(request_headers=sent)
        request.metadata_context.filter_metadata["dualpool.request"].update({"json": True, "max_tokens": 10.0})
        assert pool(await exchange(call, request)) == "short"
        await exchange(call, pb.ProcessingRequest(response_headers=answer_headers(status="503")))
        assert await call.read() is grpc.aio.EOF
    assert harness.count("dualpool_unread_answers_total", reason="status") == 1


async def test_an_undecodable_message_alone_ends_the_call() -> None:
    """There is no answer to it that Envoy would understand, so the call fails, which Envoy takes no offence at."""
    harness = Harness()
    async with serving(harness) as (channel, _):
        call = channel.stream_stream(METHOD)(metadata=NO_MORE)
        await call.write(b"\xff")
        with pytest.raises(grpc.aio.AioRpcError):
            await call.read()
        assert await call.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert harness.count("dualpool_exchanges_total", end="undecodable") == 1


async def whole_exchange(call: "grpc.aio.StreamStreamCall", status: str = "200") -> None:
    """Do an exchange to its end: that of the answer, or its headers where they say that it is not read."""
    await exchange(call, pb.ProcessingRequest(request_headers=headers(CHAT)))
    await exchange(call, pb.ProcessingRequest(request_body=pb.HttpBody(body=BODY, end_of_stream=True)))
    await exchange(call, pb.ProcessingRequest(response_headers=answer_headers(status=status)))
    if status == "200":
        await exchange(call, pb.ProcessingRequest(response_body=pb.HttpBody(body=b"{}", end_of_stream=True)))


@pytest.mark.parametrize("status", ["200", "503"])
async def test_a_complete_exchange_is_ended_by_the_service(status: str) -> None:
    """Where Envoy does not reset it, nothing else is waited for."""
    async with serving(Harness()) as (channel, _):
        call = process(channel)
        await whole_exchange(call, status)
        assert await call.read() is grpc.aio.EOF
        assert await call.code() == grpc.StatusCode.OK


async def test_no_status_meets_the_reset_of_a_complete_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    """Envoy resets a stream with the last reply, so a status would be lost; the exchange is counted as ended."""
    monkeypatch.setattr(module, "RESET_SECONDS", 60.0)
    harness = Harness()
    async with serving(harness) as (channel, _):
        call = process(channel)
        await whole_exchange(call)
        # What the service had sent before comes before this answer.
        await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert harness.count("dualpool_exchanges_total", end="closed") == 1
        assert not call.done()
        call.cancel()


async def test_entries_that_have_arrived_are_read_though_the_call_is_reset() -> None:
    """A long message is read in turns; an Envoy that stops does not wait for the last of them."""
    done: list[int] = []

    def work() -> Iterator[None]:
        for number in range(5):
            done.append(number)
            yield

    reading = asyncio.create_task(in_turns(work()))
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert done == [0, 1, 2, 3, 4]


async def test_a_cancelled_exchange_is_a_normal_end(caplog: pytest.LogCaptureFixture) -> None:
    """Envoy ends streams by reset: nothing is logged, nothing stays open, what was seen is counted."""
    harness = Harness()
    async with serving(harness) as (channel, _):
        call = process(channel)
        request = pb.ProcessingRequest(response_headers=answer_headers())
        await exchange(call, request)
        call.cancel()
        while harness.count("dualpool_exchanges_total", end="closed") == 0:
            await asyncio.sleep(0)
    assert harness.count("dualpool_exchanges_in_flight") == 1  # the harness's own
    assert "Traceback" not in caplog.text


async def test_an_undecodable_message_closes_the_stream() -> None:
    """The stream ends without an error, which lets Envoy go on by itself."""
    async with serving(Harness()) as (channel, _):
        call = process(channel)
        await call.write(b"\xff\xff\xff")
        assert await call.read() is grpc.aio.EOF
        assert await call.code() == grpc.StatusCode.OK


async def test_a_body_that_does_not_come_ends_the_call() -> None:
    """Envoy then goes on by the answer to the headers; why is counted, and nothing stays open."""
    harness = Harness()
    async with serving(harness, settings=Server(body_seconds=0.05)) as (channel, _):
        call = process(channel)
        sent = pb.ProcessingRequest(request_headers=headers(CHAT))
        assert pool(await exchange(call, sent)) == "long"
        assert await call.read() is grpc.aio.EOF
        assert await call.code() == grpc.StatusCode.OK
    assert harness.count("dualpool_requests_total", pool="long", chosen="long", reason="slow") == 1
    assert harness.count("dualpool_exchanges_total", end="slow") == 1


async def test_an_answer_may_take_as_long_as_it_likes() -> None:
    """Only the body of a request is waited for: a generation takes minutes."""
    harness = Harness()
    async with serving(harness, settings=Server(body_seconds=0.05)) as (channel, _):
        call = process(channel)
        sent = pb.ProcessingRequest(request_headers=headers(CHAT))
        await exchange(call, sent)
        body = pb.ProcessingRequest(request_body=pb.HttpBody(body=BODY, end_of_stream=True))
        assert pool(await exchange(call, body)) == "short"
        other = process(channel)
        await exchange(other, sent)
        assert await other.read() is grpc.aio.EOF  # so the time has passed
        await exchange(call, pb.ProcessingRequest(response_headers=answer_headers()))
        call.cancel()


async def test_calls_beyond_the_limit_are_refused_at_once() -> None:
    """Health checks too, so Envoy soon stops asking; a call that ends makes room."""
    async with serving(Harness(), settings=Server(max_exchanges=1)) as (channel, _):
        call = process(channel)
        sent = pb.ProcessingRequest(request_headers=headers(CHAT))
        await exchange(call, sent)
        check = health_pb2_grpc.HealthStub(channel).Check
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await check(health_pb2.HealthCheckRequest())
        assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        while True:
            try:
                answer = await check(health_pb2.HealthCheckRequest())
            except grpc.aio.AioRpcError:
                continue
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
            break


@pytest.mark.parametrize(("limit", "status"), [(10.0, "SERVING"), (0.0, "NOT_SERVING")])
async def test_health_follows_the_probe(limit: float, status: str) -> None:
    """A probe decision that takes longer than the limit is not healthy."""
    async with serving(Harness(), limit) as (channel, _):
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status) == status


async def test_a_probe_waits_for_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever holds up the loop holds up exchanges too."""
    now = [0.0]
    monkeypatch.setattr("extproc.service.health.perf_counter", lambda: now[0])
    health = Health(Harness().context.router, 0.1)
    assert await health.healthy()
    asyncio.get_running_loop().call_soon(now.__setitem__, 0, 0.2)
    assert not await health.healthy()


class Changing:
    """Health as told, one probe after the other; at the last one the service drains."""

    def __init__(self, *found: bool) -> None:
        self.found = list(found)

    @property
    def draining(self) -> bool:
        return len(self.found) == 1

    async def healthy(self) -> bool:
        return self.found.pop(0)


async def test_who_watches_is_told_of_every_change_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """First how it is, then whenever it is otherwise."""
    monkeypatch.setattr("extproc.service.health.WATCH_SECONDS", 0)
    watch: Any = HealthService(Changing(True, True, False, False, True, False)).Watch  # type: ignore[arg-type]
    told = [answer.status async for answer in watch(None, None)]
    status = health_pb2.HealthCheckResponse
    assert told == [status.SERVING, status.NOT_SERVING, status.SERVING, status.NOT_SERVING]


async def test_a_watch_does_not_hold_up_a_drain(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told, and ended."""
    monkeypatch.setattr("extproc.service.health.WATCH_SECONDS", 0.001)
    harness = Harness()
    async with serving(harness) as (channel, health):
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service="any"))
        status = health_pb2.HealthCheckResponse
        assert (await watch.read()).status == status.SERVING
        health.drain()
        assert (await watch.read()).status == status.NOT_SERVING
        assert await watch.read() is grpc.aio.EOF


async def test_a_socket_that_somebody_listens_on_is_not_taken_over(tmp_path: Path) -> None:
    """One that was left behind is."""
    path = tmp_path / "dualpool.sock"
    harness = Harness()
    health = Health(harness.context.router, 10.0)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        with pytest.raises(StartError, match="another process does"):
            build(f"unix://{path}", DEFAULTS, lambda: harness.context, health)
    server = build(f"unix://{path}", DEFAULTS, lambda: harness.context, health)[0]
    await server.start()
    await server.stop(0)


async def test_a_socket_whose_owner_hangs_is_not_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is it waited for: its backlog is full, and nobody accepts."""
    monkeypatch.setattr("extproc.service.server.SOCKET_SECONDS", 0.01)
    path = tmp_path / "dualpool.sock"
    harness = Harness()
    with socket.socket(socket.AF_UNIX) as hung, socket.socket(socket.AF_UNIX) as waiting:
        hung.bind(str(path))
        hung.listen(0)
        waiting.connect(str(path))
        with pytest.raises(StartError, match="another process does"):
            build(f"unix://{path}", DEFAULTS, lambda: harness.context, Health(harness.context.router, 10.0))


async def test_health_fails_while_draining() -> None:
    """A service about to stop asks for no more requests."""
    async with serving(Harness()) as (channel, health):
        health.drain()
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["grpc.server_handshake_timeout_ms"], b""),
        (
            ["grpc.keepalive_time_ms", "grpc.http2.ping_timeout_ms"],
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        ),
    ],
)
async def test_a_silent_connection_is_closed(
    monkeypatch: pytest.MonkeyPatch, options: list[str], said: bytes
) -> None:
    """Who connects and says nothing, or no more than the beginning of HTTP/2, is not waited for without end."""
    assert set(options) <= set(dict(module.OPTIONS))
    quick = {**dict(module.OPTIONS), **dict.fromkeys(options, 100)}
    monkeypatch.setattr(module, "OPTIONS", tuple(quick.items()))
    harness = Harness()
    server, port, _ = build("127.0.0.1:0", DEFAULTS, lambda: harness.context, Health(harness.context.router, 10))
    await server.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(said)
    await asyncio.wait_for(reader.read(), 30)  # to its end
    writer.close()
    await server.stop(0)


async def test_a_taken_port_is_an_error() -> None:
    """Two services on one port must not share it in silence."""
    harness = Harness()
    health = Health(harness.context.router, 1.0)
    server, port, _ = build("127.0.0.1:0", DEFAULTS, lambda: harness.context, health)
    await server.start()
    with pytest.raises(StartError, match=r"server\.listen: '127\.0\.0\.1:\d+': cannot be listened on"):
        build(f"127.0.0.1:{port}", DEFAULTS, lambda: harness.context, health)
    await server.stop(0)


async def test_a_unix_socket_is_served(tmp_path: Path) -> None:
    """The service listens on a Unix socket as well."""
    harness = Harness()
    address = f"unix://{tmp_path}/dualpool.sock"
    server = build(address, DEFAULTS, lambda: harness.context, Health(harness.context.router, 10.0))[0]
    await server.start()
    async with grpc.aio.insecure_channel(address) as channel:
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    await server.stop(0)


async def test_a_unix_socket_may_be_connected_to_by_every_user(tmp_path: Path) -> None:
    """Envoy runs as another, and who may is what the directory says."""
    path = tmp_path / "dualpool.sock"
    harness = Harness()
    before = os.umask(0o077)
    try:
        server = build(f"unix://{path}", DEFAULTS, lambda: harness.context, Health(harness.context.router, 10))[0]
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666
    await server.stop(0)


@pytest.mark.parametrize("decided", [True, False])
async def test_a_body_is_not_waited_for_longer_than_the_call(
    monkeypatch: pytest.MonkeyPatch, decided: bool
) -> None:
    """Of a request that is decided, or has gone, nobody says later that its body was late."""
    limits: list[asyncio.TimerHandle] = []
    limit = module._limit

    def kept(opened: Exchange, seconds: float) -> asyncio.TimerHandle:
        limits.append(limit(opened, seconds))
        return limits[-1]

    monkeypatch.setattr(module, "_limit", kept)
    sent = {**CHAT, ":path": "/v1/models"} if decided else CHAT
    async with serving(Harness()) as (channel, _):
        call = process(channel)
        await exchange(call, pb.ProcessingRequest(request_headers=headers(sent)))
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
    assert [each.cancelled() for each in limits] == [True]
