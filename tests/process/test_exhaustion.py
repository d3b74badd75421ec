"""Too little of something: descriptors, disk, patience of clients."""

import os
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import pytest

from extproc.pb import dualpool_extproc_pb2 as pb
from extproc.service.admin import MOST_CLIENTS
from tests.envoy.stack import until
from tests.process.talk import METHOD, QUICK, Serving, exchange, serving
from tests.process.test_state import kept
from tests.unit.service.test_exchange import CHAT, headers, pool

FAILED = 'dualpool_state_exchanges_total{result="failed",store="file"}'
REQUEST = pb.ProcessingRequest(request_headers=headers(CHAT))


def count(service: Serving, what: str) -> int:
    """Descriptors (`fd`) or threads (`task`) of the service."""
    return len(list(Path(f"/proc/{service.process.pid}/{what}").iterdir()))


@contextmanager
def connections(address: str, number: int) -> Iterator[list[socket.socket]]:
    """Connect to `address` so many times, and say nothing."""
    host, _, port = address.rpartition(":")
    with ExitStack() as stack:
        yield [stack.enter_context(socket.create_connection((host, int(port)), timeout=30)) for _ in range(number)]


def test_without_descriptors_open_connections_are_served(tmp_path: Path) -> None:
    """Envoy's connection goes on; what needs a new descriptor fails, and works when there are some again."""
    path = tmp_path / "state.json"
    with (
        serving(tmp_path, {"state": {"file": str(path), **QUICK}}) as service,
        grpc.insecure_channel(service.address) as channel,
    ):
        requests: list[bytes] = []
        call = channel.stream_stream(METHOD)
        list(call(iter(requests), timeout=30, wait_for_ready=True))
        few = count(service, "fd") + 4
        resource.prlimit(service.process.pid, resource.RLIMIT_NOFILE, (few, few))
        with connections(service.address, 20):
            until(lambda: "Too many open files" in service.process.output())
            requests.append(REQUEST.SerializeToString())
            answer = next(iter(call(iter(requests), timeout=30)))
            assert pool(pb.ProcessingResponse.FromString(answer)) == "long"
        until(lambda: "file works again" in service.process.output())
        assert exchange(service.address) == "short"
        until(lambda: service.samples() == 1)
        until(lambda: kept(path) == 1)


def test_a_disk_that_takes_no_more_is_survived(tmp_path: Path) -> None:
    """Requests are answered and learned from, the old file stays whole, and the next write that works has all."""
    path = tmp_path / "state.json"
    with serving(tmp_path, {"state": {"file": str(path), **QUICK}}) as service:
        exchange(service.address)
        until(lambda: kept(path) == 1)
        before = path.read_bytes()
        full = len(before) // 2  # no file of the service grows beyond this; its log is longer already, and stays
        resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, (full, resource.RLIM_INFINITY))
        assert exchange(service.address) == "short"
        until(lambda: service.metric(FAILED) > 1)
        assert service.samples() == 2
        assert path.read_bytes() == before
        assert not list(tmp_path.glob(".*.tmp"))
        resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        until(lambda: kept(path) == 2)


@pytest.mark.parametrize("said", [b"", b"GET /healthz HTTP/1.1\r\nx: "])
def test_slow_clients_of_the_admin_port_hold_up_nobody(tmp_path: Path, said: bytes) -> None:
    """However many say nothing or half a request, a probe is answered, with a bounded number of threads."""
    with serving(tmp_path, {}) as service:
        threads = count(service, "task")
        with connections(service.admin, 3 * MOST_CLIENTS) as clients:
            for client in clients:
                client.sendall(said)
            assert service.get("/healthz") == (200, "ok\n")
            assert count(service, "task") <= threads + MOST_CLIENTS + 2
            assert exchange(service.address) == "short"


def test_exchanges_that_never_go_on_hold_up_no_other(tmp_path: Path) -> None:
    """Calls that stay half way are limited in number; others are answered, and their end frees what they held."""
    with serving(tmp_path, {"server": {"max_exchanges": 50}}) as service, ExitStack() as stack:
        channel = stack.enter_context(grpc.insecure_channel(service.address))
        stopped = [channel.stream_stream(METHOD)(_hanging(stack), timeout=60) for _ in range(40)]
        for call in stopped:
            next(iter(call))
        assert service.state()["pools"]
        assert exchange(service.address) == "short"
        assert service.metric("dualpool_exchanges_in_flight") == 40
        for call in stopped:
            call.cancel()
        until(lambda: service.metric("dualpool_exchanges_in_flight") == 0)


def _hanging(stack: ExitStack) -> Iterator[bytes]:
    """Yield one message and no other until `stack` is left."""
    reading, writing = os.pipe()
    stack.callback(os.close, writing)
    yield REQUEST.SerializeToString()
    os.read(reading, 1)
    os.close(reading)
