"""Several worker processes as one service."""

import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import grpc
import pytest

from tests.envoy.stack import until
from tests.process.talk import METHOD, Serving, exchange, two_workers
from tests.process.test_cli import HEADERS
from tests.process.test_state import kept


def kept_every(seconds: float, directory: Path) -> dict[str, Any]:
    """Settings of a service that writes its state file every so many `seconds`."""
    return {"state": {"file": str(directory / "state.json"), "interval_seconds": seconds}}


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[tuple[Serving, list[str]]]:
    with two_workers(tmp_path, kept_every(0.2, tmp_path)) as started:
        yield started


def test_what_one_learns_all_use_and_is_counted_once(workers: tuple[Serving, list[str]], tmp_path: Path) -> None:
    """Both workers' observations end in one figure, in /state, in the metrics of all and in the state file."""
    service, (one, other) = workers
    for _ in range(3):
        exchange(one)
    exchange(other)
    until(lambda: service.samples() == 4)
    until(lambda: kept(tmp_path / "state.json") == 4)
    assert service.metric('dualpool_observations_total{verdict="used"}') == 4
    requests = service.state()["requests"]
    assert sum(r["requests"] for r in requests) == 4


def test_a_killed_worker_is_replaced_and_its_counts_go_on(workers: tuple[Serving, list[str]]) -> None:
    """The other answers meanwhile; the new one knows what was learned. What was under way is not any more."""
    service, (one, other) = workers
    exchange(one)
    until(lambda: service.samples() == 1)
    before = service.children
    messages: SimpleQueue[bytes | None] = SimpleQueue()
    messages.put(HEADERS)
    with grpc.insecure_channel(one) as channel:
        call = channel.stream_stream(METHOD)(iter(messages.get, None), timeout=60)
        next(call)
        assert service.metric("dualpool_exchanges_in_flight") == 1
        os.kill(before[0], signal.SIGKILL)
        messages.put(None)
    assert exchange(other) == "short"
    until(lambda: service.metric("dualpool_worker_restarts_total") == 1)
    assert "was ended by a signal: Killed" in service.process.output()
    until(lambda: service.metric("dualpool_workers_up") == 2)
    assert exchange(one) == "short"
    until(lambda: service.samples() == 3)
    assert service.metric('dualpool_observations_total{verdict="used"}') == 3
    assert service.metric("dualpool_exchanges_in_flight") == 0


def test_workers_stop_with_their_supervisor(workers: tuple[Serving, list[str]]) -> None:
    """SIGTERM ends all in order; a supervisor that is killed takes its workers along."""
    service, _ = workers
    running = service.children
    service.process.send_signal(signal.SIGKILL)
    service.process.popen.wait()
    until(lambda: not any(Path(f"/proc/{pid}/cmdline").exists() for pid in running))


def test_a_hangup_reaches_every_worker(workers: tuple[Serving, list[str]], tmp_path: Path) -> None:
    """All of them reload, and go on answering."""
    service, addresses = workers
    with (tmp_path / "dualpool.yaml").open("a", encoding="utf-8") as file:
        file.write("routing: {shadow: true}\n")
    service.process.send_signal(signal.SIGHUP)
    until(lambda: service.metric('dualpool_config_reloads_total{result="ok"}') >= 2)
    assert {exchange(address) for address in addresses} == {"long"}
    assert service.state()["shadow"] is True


def test_a_worker_that_hangs_is_replaced(workers: tuple[Serving, list[str]]) -> None:
    """Stopped for good it gives no sign of life; the other answers meanwhile, its successor knows what it knew.

    Where no worker answers, the service is not ready.
    """
    service, (one, other) = workers
    exchange(one)
    until(lambda: service.samples() == 1)
    before = service.children
    for worker in before:
        os.kill(worker, signal.SIGSTOP)
    until(lambda: service.get("/readyz")[0] == 503)
    os.kill(before[1], signal.SIGCONT)
    until(lambda: service.metric("dualpool_workers_up") == 1)
    assert service.get("/readyz")[0] == 200
    assert exchange(other) == "short"
    until(lambda: service.metric("dualpool_worker_restarts_total") == 1)
    until(lambda: service.metric("dualpool_workers_up") == 2)
    assert exchange(one) == "short"
    until(lambda: service.samples() == 3)
    assert before[0] not in service.children
    assert before[1] in service.children
    assert "gives no sign of life" in service.process.output()


def test_a_worker_that_cannot_be_started_is_tried_again(workers: tuple[Serving, list[str]]) -> None:
    """Without a descriptor there is no new process; the supervisor goes on until there is."""
    service, (one, other) = workers
    pid = service.process.pid
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE, (4, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    os.kill(service.children[0], signal.SIGKILL)
    until(lambda: "cannot be started: Too many open files" in service.process.output())
    assert exchange(other) == "short"
    resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
    until(lambda: service.metric("dualpool_workers_up") == 2)
    assert exchange(one) == "short"


TLS = "{certificate: /nowhere/tls.crt, key: /nowhere/tls.key}"


@pytest.mark.parametrize(
    ("server", "reason"),
    [
        ("{listen: 'unix:///nowhere/at.sock', lame_duck_seconds: 0}", "server.workers: 2: worker "),
        (f"{{listen: 'unix:///nowhere/at.sock', tls: {TLS}}}", "server.tls.certificate: /nowhere/tls.crt: "),
    ],
)
def test_what_no_worker_can_start_with_ends_the_service(tmp_path: Path, server: str, reason: str) -> None:
    """With the reason, and the exit code that it has without workers: nothing would change by trying again."""
    file = tmp_path / "dualpool.yaml"
    file.write_text(f"server: {server}", "utf-8")
    command = [sys.executable, "-m", "extproc", "serve", "--config", str(file), "--workers", "2"]
    environment = {**os.environ, "DUALPOOL_SERVER__ADMIN": "127.0.0.1:0"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith(reason)


ELSEWHERE = "server: {listen: 'unix:///nowhere/at.sock'}\nrouting: {shadow: true}"


@pytest.mark.parametrize("text", ["oops: 1", ELSEWHERE])
def test_a_successor_is_what_its_predecessor_was(
    workers: tuple[Serving, list[str]], tmp_path: Path, text: str
) -> None:
    """Whatever the file holds by now: broken, or of an address that takes a restart."""
    service, addresses = workers
    file = tmp_path / "dualpool.yaml"
    (tmp_path / "new.yaml").write_text(text, "utf-8")
    (tmp_path / "new.yaml").replace(file)
    service.process.send_signal(signal.SIGHUP)
    result = "rejected" if "oops" in text else "ok"
    until(lambda: service.metric(f'dualpool_config_reloads_total{{result="{result}"}}') == 2)
    os.kill(service.children[0], signal.SIGKILL)
    until(lambda: service.metric("dualpool_worker_restarts_total") == 1)
    until(lambda: service.metric("dualpool_workers_up") == 2)
    assert {exchange(address) for address in addresses} == {"long" if "shadow" in text else "short"}
    assert service.metric("dualpool_config_last_reload_successful") == (result == "ok")


def test_only_the_file_waits_for_its_interval(tmp_path: Path) -> None:
    """/state shows soon what was learned, and a shutdown keeps it."""
    with two_workers(tmp_path, kept_every(300, tmp_path)) as (service, addresses):
        exchange(addresses[0])
        until(lambda: service.samples() == 1)
        assert kept(tmp_path / "state.json") == 0
        assert service.process.stop() == 0
    assert kept(tmp_path / "state.json") == 1


def test_a_state_file_that_cannot_be_written_is_counted(tmp_path: Path) -> None:
    """As by a service without workers: what they share in memory is another store."""
    (tmp_path / "state.json").mkdir()
    with two_workers(tmp_path, kept_every(0.1, tmp_path)) as (service, addresses):
        exchange(addresses[0])
        until(lambda: service.metric('dualpool_state_exchanges_total{result="failed",store="file"}') > 0)
        assert service.metric('dualpool_state_exchanges_total{result="ok",store="shared"}') > 0
        assert service.metric('dualpool_state_exchanges_total{result="ok",store="file"}') == 0
        families = re.findall("^# TYPE (.*)$", service.get("/metrics")[1], re.MULTILINE)
        assert len(families) == len(set(families))
