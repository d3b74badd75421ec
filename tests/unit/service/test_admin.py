"""The admin port under clients that do not behave."""

import asyncio
import socket
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest
from prometheus_client import CollectorRegistry

from extproc.config import Server
from extproc.service.admin import MOST_CLIENTS, Admin
from extproc.service.errors import StartError


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


def test_an_ipv6_address_is_listened_on() -> None:
    """As configuration allows it."""
    with ExitStack() as stack:
        loop = stack.enter_context(closing(asyncio.new_event_loop()))
        try:
            admin = Admin(Server(admin="[::1]:0"), Well(), CollectorRegistry(), dict, loop)
        except StartError:
            pytest.skip("no IPv6 here")
        stack.callback(admin.stop)
        admin.start()
        with socket.create_connection(admin.address, timeout=30) as client:
            client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            assert client.recv(12) == b"HTTP/1.0 200"


def ready(admin: Admin) -> bool:
    host, port = admin.address
    try:
        with urllib.request.urlopen(f"http://{host}:{port}/readyz", timeout=30) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def test_clients_that_have_gone_take_no_place(admin: Admin) -> None:
    """However many have come since, a slow one is served to its end."""
    with socket.create_connection(admin.address, timeout=30) as slow:
        for _ in range(2 * MOST_CLIENTS):
            assert ready(admin)
        slow.sendall(b"GET /readyz HTTP/1.0\r\n\r\n")
        assert slow.recv(12) == b"HTTP/1.0 200"


def test_clients_that_say_nothing_do_not_keep_a_probe_out(admin: Admin) -> None:
    """One more than there are places ends the oldest, and is answered."""
    with ExitStack() as clients:
        connections = [
            clients.enter_context(socket.create_connection(admin.address, timeout=30)) for _ in range(MOST_CLIENTS)
        ]
        assert ready(admin)
        assert connections[0].recv(1) == b""
