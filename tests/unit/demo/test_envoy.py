"""What the demo asks of an Envoy that does not answer."""

import socket
from pathlib import Path

import pytest

from extproc.demo import page as module
from extproc.demo.envoy import Envoy
from extproc.demo.pool import Pool
from extproc.demo.pool_server import PoolServer


def test_a_page_that_does_not_come_in_time_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks whether it is ready may ask again: a busy machine is no reason to end."""
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.01)
    proxy = Envoy({}, tmp_path, "envoy")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        proxy.admin = f"127.0.0.1:{silent.getsockname()[1]}"
        assert proxy.get("/ready") is None


def test_a_proxy_of_the_environment_is_not_asked_for_what_runs_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It leads to other machines: asked for an admin page of this one, it has none."""
    monkeypatch.delenv("no_proxy")
    proxy = Envoy({}, tmp_path, "envoy")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with PoolServer(Pool("short", 100)) as server:
        proxy.admin = f"127.0.0.1:{server.port}"
        assert proxy.get("/health") is not None
