"""The admin port under clients that do not behave."""

import asyncio
import socket
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest
from prometheus_client import CollectorRegistry

from extproc.config_service import Server
from extproc.config_types import host_and_port
from extproc.service.admin import MOST_CLIENTS, Admin


class Well:
    """Health that is."""

    draining = False

    async def healthy(self) -> bool:
        return True


@pytest.fixture
def admin(monkeypatch: pytest.MonkeyPatch) -> Iterator[Admin]:
    monkeypatch.setattr("extproc.service.admin._CLIENT_SECONDS", 60)  # nobody is dropped for another reason
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    served = Admin(Server(admin="127.0.0.1:0"), Well(), CollectorRegistry(), dict, loop)
    served.start()
    yield served
    served.stop()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.mark.parametrize(
    ("address", "hosts"),
    [("[::1]:0", ["::1"]), ("[::]:0", ["127.0.0.1", "::1"]), ("0.0.0.0:0", ["127.0.0.1", "::1"])],
)
def test_an_ipv6_address_is_listened_on(address: str, hosts: list[str]) -> None:
    """All addresses are those of both families, as for gRPC: in some clusters the probes come by IPv6 alone."""
    with ExitStack() as stack:
        loop = stack.enter_context(closing(asyncio.new_event_loop()))
        try:
            stack.enter_context(socket.create_server(("::1", 0), family=socket.AF_INET6))
        except OSError:
            pytest.skip("no IPv6 here")
        admin = Admin(Server(admin=address), Well(), CollectorRegistry(), dict, loop)
        stack.callback(admin.stop)
        admin.start()
        host, _, port = admin.address.rpartition(":")
        assert host == address.removesuffix(":0")
        for each in hosts:
            with socket.create_connection((each, int(port)), timeout=30) as client:
                client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
                assert client.recv(12) == b"HTTP/1.0 200"


def test_no_name_server_is_asked_for_our_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that does not answer would hold up the start for ten seconds."""
    asked: list[str] = []

    def getfqdn(name: str) -> str:
        asked.append(name)
        return name

    monkeypatch.setattr(socket, "getfqdn", getfqdn)
    with closing(asyncio.new_event_loop()) as loop:
        admin = Admin(Server(admin="0.0.0.0:0"), Well(), CollectorRegistry(), dict, loop)
        admin.start()
        admin.stop()
    assert not asked


def connected(admin: Admin) -> socket.socket:
    return socket.create_connection(host_and_port(admin.address), timeout=30)


def ready(admin: Admin) -> bool:
    try:
        with urllib.request.urlopen(f"http://{admin.address}/readyz", timeout=30) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def test_clients_that_have_gone_take_no_place(admin: Admin) -> None:
    """However many have come since, a slow one is served to its end."""
    with connected(admin) as slow:
        for _ in range(2 * MOST_CLIENTS):
            assert ready(admin)
        slow.sendall(b"GET /readyz HTTP/1.0\r\n\r\n")
        assert slow.recv(12) == b"HTTP/1.0 200"


def test_clients_that_say_nothing_do_not_keep_a_probe_out(admin: Admin) -> None:
    """One more than there are places ends the oldest, and is answered."""
    with ExitStack() as clients:
        connections = [clients.enter_context(connected(admin)) for _ in range(MOST_CLIENTS)]
        assert ready(admin)
        assert connections[0].recv(1) == b""
