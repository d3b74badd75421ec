"""What the demo asks of an Envoy that does not answer."""

import socket
from pathlib import Path

import pytest

from extproc.demo import envoy as module
from extproc.demo.envoy import Envoy


def test_a_page_that_does_not_come_in_time_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks whether it is ready may ask again: a busy machine is no reason to end."""
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.01)
    proxy = Envoy({}, tmp_path, "envoy")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        proxy.admin = f"127.0.0.1:{silent.getsockname()[1]}"
        assert proxy.get("/ready") is None
