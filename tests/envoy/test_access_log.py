"""The access log through a real Envoy: any replica learns from any entry, and what is lost shows."""

import signal
from pathlib import Path

import pytest

from benchmarks.load import Workload, run
from extproc.demo.pool import Behaviour
from extproc.demo.service import Service
from tests.envoy.changes import hasty_log
from tests.envoy.client import chat
from tests.envoy.conftest import Start
from tests.envoy.counts import ENTRIES, OBSERVATIONS, WRITTEN
from tests.envoy.load import Load
from tests.envoy.modes import IN_PROXY, LOGGED, Mode, name, options
from tests.envoy.stack import Stack, healthy, rendered_stack, until
from tests.envoy.version import version

DROPPED = "access_logs.grpc_access_log.logs_dropped"
HELD_UP = "access_logs.grpc_access_log.grpc_entries_flush_failed"
FAILED_CHECKS = "cluster.dualpool.health_check.failure"
CUT = "cluster.dualpool.http2.keepalive_timeout"
SHORT = chat("word " * 20, max_tokens=50)


def entries(service: Service) -> float:
    return service.count(ENTRIES)


def kill(stack: Stack) -> None:
    stack.service.process.popen.kill()
    stack.service.process.popen.wait()


def again(stack: Stack, directory: Path) -> Service:
    """Return a service to be started in place of the one that is gone, which knows nothing of it."""
    server = {"listen": f"127.0.0.1:{stack.service.port}"}
    return Service({"pools": stack.settings["pools"], "server": server}, directory)


@pytest.mark.parametrize("mode", LOGGED, ids=name)
def test_any_replica_learns_from_any_entry(start_mode: Start, tmp_path: Path, mode: Mode) -> None:
    """A request that one service has decided teaches another, which has never heard of it."""
    stack = start_mode(mode)
    assert stack.lands(SHORT) == "short"
    until(lambda: stack.count(ENTRIES) == 1)
    stack.pools.behave(Behaviour(held=True))
    with Load(stack.url, users=5, body=lambda: SHORT) as load:
        until(lambda: stack.pools["short"].pool.running == 5)
        kill(stack)
        with again(stack, tmp_path / "again") as service:
            until(lambda: healthy(stack.envoy))
            stack.pools.behave(Behaviour())
            until(load.more(5))
            until(lambda: service.count(OBSERVATIONS) >= 5)
            assert service.count(OBSERVATIONS, verdict="used")
    assert load.failed() == []


@pytest.mark.parametrize("mode", LOGGED, ids=name)
def test_every_request_is_learned_from_under_load(start_mode: Start, mode: Mode) -> None:
    """Requests answered, entries written, entries received and observations used are one number."""
    stack = start_mode(mode)
    with Load(stack.url, users=8, pause=0, body=lambda: SHORT) as load:
        until(load.more(500))
    assert load.failed() == []
    until(lambda: stack.count(ENTRIES) == len(load.sent))
    until(lambda: stack.count(OBSERVATIONS) == len(load.sent))
    assert stack.count(OBSERVATIONS, verdict="no_usage") == 0
    assert stack.envoy.stats(WRITTEN)[WRITTEN] == len(load.sent)


def test_no_entry_is_dropped_while_bodies_wait(start_mode: Start) -> None:
    """Megabytes of prompts, on the connection that the log takes too, do not hold it up."""
    stack = start_mode(("body", "access-log"))
    stack.pools.behave(Behaviour(status=200))
    requests = 1000
    assert not run(stack.envoy, Workload("200 kB", 200_000, 0, 256, requests)).failed
    until(lambda: sum(told(stack)) == requests)
    assert told(stack) == (requests, 0)
    assert not sum(stack.envoy.stats(HELD_UP).values())  # before 1.39 it is not counted
    until(lambda: stack.count(ENTRIES) == requests)


def test_no_entry_is_lost_while_the_service_hangs_for_a_second(tmp_path: Path) -> None:
    """Envoy stops asking, but does not cut the connection that the log is on."""
    with rendered_stack(tmp_path, options=options(LOGGED[0]), change=hasty_log, hasty=True) as stack:
        stack.lands(SHORT)
        stack.service.process.send_signal(signal.SIGSTOP)
        stack.lands(SHORT)
        until(lambda: stack.envoy.stats(FAILED_CHECKS)[FAILED_CHECKS] >= 2)
        stack.lands(SHORT)
        stack.service.process.send_signal(signal.SIGCONT)
        until(lambda: stack.count(ENTRIES) == 3)
        assert stack.envoy.stats(CUT) == {CUT: 0}


def test_what_is_lost_shows(start_mode: Start, tmp_path: Path) -> None:
    """Entries that nobody took are what Envoy has written and dropped, less what the services have received.

    While they are away it keeps 64 KiB for them, or before 1.39 nothing; what it sends into a connection that has
    just died is lost, too.
    """
    stack = start_mode(IN_PROXY)
    stack.lands(SHORT)
    until(lambda: stack.count(ENTRIES) == 1)
    kill(stack)
    away = 600
    for _ in range(away):
        stack.lands(SHORT)
    until(lambda: sum(told(stack)) == 1 + away)
    assert bool(told(stack)[1]) == (version() >= (1, 39))
    with again(stack, tmp_path / "again") as service:
        until(lambda: healthy(stack.envoy))
        after = 50
        for _ in range(after):
            stack.lands(SHORT)
        until(lambda: entries(service) >= after)
        written, dropped = told(stack)
        assert written + dropped == 1 + away + after
        assert dropped <= written + dropped - 1 - entries(service) <= away


def told(stack: Stack) -> tuple[int, int]:
    """Entries that Envoy says it has written, and dropped."""
    found = stack.envoy.stats("access_logs.grpc_access_log")
    return found[WRITTEN], found[DROPPED]
