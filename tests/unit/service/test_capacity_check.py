"""A pool's servers are asked whether they hold what the configuration says."""

import asyncio
import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from extproc.cli import main
from extproc.config import Pool
from extproc.metrics import Metrics
from extproc.service import capacity_check as module
from extproc.service.capacity_check import CapacityCheck, Comparison, compare

Serve = Callable[[bytes], str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start a server that answers everything with the bytes given; returns HOST:PORT."""
    with ExitStack() as stack:

        def start(answer: bytes) -> str:
            class Handler(BaseHTTPRequestHandler):
                def do_GET(self) -> None:
                    self.send_response(200 if self.path == "/v1/models" else 404)
                    self.end_headers()
                    self.wfile.write(answer)

                def log_message(self, *_: Any) -> None:
                    pass

            server = HTTPServer(("127.0.0.1", 0), Handler)
            threading.Thread(target=server.serve_forever, daemon=True).start()
            stack.callback(server.server_close)
            stack.callback(server.shutdown)
            return f"127.0.0.1:{server.server_address[1]}"

        yield start


def models(*lengths: int | None) -> bytes:
    return json.dumps({"data": [{"id": f"m{i}", "max_model_len": n} for i, n in enumerate(lengths)]}).encode()


def asked(*endpoints: str) -> list[Comparison]:
    return asyncio.run(compare({"default": (Pool(name="short", capacity=8192, endpoints=endpoints),)}))


def test_equal(serve: Serve) -> None:
    """A server that says the same is found equal; adapters without a length are left out."""
    assert [c.verdict for c in asked(serve(models(8192, None)))] == ["equal"]


def test_a_server_with_thousands_of_adapters(serve: Serve) -> None:
    """Its list takes megabytes, as vLLM writes some 500 bytes for each of them."""
    adapters = [{"id": f"adapter-{n}", "max_model_len": None, "permission": "x" * 450} for n in range(4096)]
    page = json.dumps({"data": [{"id": "base", "max_model_len": 8192}, *adapters]}).encode()
    assert [c.verdict for c in asked(serve(page))] == ["equal"]


def test_differs(serve: Serve) -> None:
    """A server that says something else is a problem that names key, values and address."""
    endpoint = serve(models(4096))
    (found,) = asked(endpoint)
    assert found.verdict == "differs"
    assert found.text == (
        f"pools.default.0.capacity: 8192: http://{endpoint}/v1/models says max_model_len 4096 for 'm0': "
        "make them equal"
    )


@pytest.mark.parametrize(
    "answer", [b"", b"no JSON", b"[]", b"{}", b'{"data": [1, {"max_model_len": "x"}]}', b"[" * 10_000]
)
def test_unreadable(serve: Serve, answer: bytes) -> None:
    """An answer that is not a list of models says nothing."""
    assert [c.verdict for c in asked(serve(answer))] == ["unknown"]


def test_nobody_there(serve: Serve) -> None:
    """Every endpoint is asked, whether or not another answers."""
    assert [c.verdict for c in asked("127.0.0.1:1", serve(models(8192)))] == ["unknown", "equal"]


def test_not_all_are_asked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand connections at once would leave no descriptor for Envoy's."""
    asking: list[int] = []
    most = 0

    async def fetch(_host: str, port: int, *_: object) -> bytes:
        nonlocal most
        asking.append(port)
        most = max(most, len(asking))
        await asyncio.sleep(0)
        asking.remove(port)
        return models(8192)

    monkeypatch.setattr(module, "fetch", fetch)
    found = asked(*(f"127.0.0.1:{port}" for port in range(1, 1001)))
    assert [c.verdict for c in found] == 1000 * ["equal"]
    assert most == module.MOST_AT_ONCE


def test_report(caplog: pytest.LogCaptureFixture) -> None:
    """A mismatch is counted by pool, and warned of once as long as it stays the same."""
    registry = CollectorRegistry()
    check = CapacityCheck(dict, Metrics(registry))
    wrong = [Comparison("short", "a:1", "differs", "the mismatch"), Comparison("long", "b:1", "equal", "")]
    with caplog.at_level(logging.WARNING):
        check.report(wrong)
        check.report(wrong)
    assert [record.getMessage() for record in caplog.records] == ["the mismatch"]
    for pool, number in (("short", 1), ("long", 0)):
        assert (
            registry.get_sample_value("dualpool_capacity_servers", {"pool": pool, "verdict": "differs"}) == number
        )


def test_a_pool_that_is_no_longer_asked_differs_from_nothing() -> None:
    """Its alert ends: it was removed, or its servers were."""
    registry = CollectorRegistry()
    check = CapacityCheck(dict, Metrics(registry))
    check.report([Comparison("medium", "a:1", "differs", "the mismatch")])
    check.report([Comparison("short", "b:1", "equal", "")])
    assert registry.get_sample_value("dualpool_capacity_servers", {"pool": "medium", "verdict": "differs"}) == 0


def test_a_server_of_two_pool_sets_is_one(serve: Serve) -> None:
    """Sets may share a pool, and the metric counts servers; both keys are told of."""
    registry = CollectorRegistry()
    shared = (Pool(name="long", capacity=8192, endpoints=(serve(models(4096)),)),)
    found = asyncio.run(compare({"default": shared, "coder": shared}))
    CapacityCheck(dict, Metrics(registry)).report(found)
    assert registry.get_sample_value("dualpool_capacity_servers", {"pool": "long", "verdict": "differs"}) == 1
    assert [c.text.partition(":")[0] for c in found] == ["pools.default.0.capacity", "pools.coder.0.capacity"]


def test_a_server_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """All have the same time, however slowly bytes come."""
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:  # accepts, and says nothing
        endpoint = f"127.0.0.1:{server.getsockname()[1]}"
        found = asked(endpoint, endpoint)
    assert [c.verdict for c in found] == ["unknown", "unknown"]
    assert "no complete answer within 0.2 s" in found[0].text


def test_check_live(serve: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`dualpool check --live` is good when all servers agree, and lists each that does not."""

    def check(*lengths: int) -> int:
        file = tmp_path / "dualpool.yaml"
        endpoints = [serve(models(length)) for length in lengths]
        file.write_text(
            yaml.safe_dump({"pools": {"default": [{"name": "l", "capacity": 100, "endpoints": endpoints}]}})
        )
        return main(["check", "--live", str(file)])

    assert check(100, 100) == 0
    assert "so say 2 servers" in capsys.readouterr().out
    assert check(100, 90) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_check_live_without_endpoints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With nobody to ask, `check --live` says so rather than good."""
    file = tmp_path / "dualpool.yaml"
    file.write_text("")
    assert main(["check", "--live", str(file)]) == 2
    assert "nobody to ask" in capsys.readouterr().err
