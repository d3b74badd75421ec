"""What breaks, breaks nothing for the client: real processes, under steady load, through a real Envoy.

Each fault is a scenario of `tests.faults`. Here facts are asserted; times are for `make faults`, on a machine
that does nothing else.
"""

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.envoy.changes import at
from tests.envoy.conftest import Start
from tests.envoy.counts import AT_REST
from tests.envoy.load import Load
from tests.envoy.pools import Pools
from tests.envoy.stack import until
from tests.faults.ground import Ground
from tests.faults.scenarios import NEEDS_REDIS, SCENARIOS
from tests.process.redis_server import needs_redis


@pytest.fixture
def ground(tmp_path: Path, pools: Pools) -> Iterator[Ground]:
    with ExitStack() as stack:
        yield Ground(tmp_path, pools, stack)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[needs_redis] if name in NEEDS_REDIS else []) for name in SCENARIOS]
)
def test_no_request_is_lost(ground: Ground, name: str) -> None:
    """Whatever is broken, every request is answered, and none is sent elsewhere that need not be."""
    outcome = SCENARIOS[name](ground)
    assert outcome.failed == []
    assert [figure for figure in outcome.figures if not figure.timed and not figure.good] == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_service_outlives_its_envoy(start_stack: Start, number: signal.Signals) -> None:
    """Exchanges that were open end with it, and the next Envoy is answered at once."""
    stack = start_stack()
    with Load(stack.url) as load:
        until(load.more(20))
        stack.envoy.process.send_signal(number)
        stack.envoy.process.popen.wait(30)
        until(lambda: load.sent[-1].status != 200)
    again = start_stack(service=False, change=at(dualpool=stack.service.port))
    with Load(again.url) as more:
        until(more.more(20))
    assert more.failed() == []
    assert not stack.pools["long"].pool.received
    until(lambda: AT_REST in stack.service.get("/metrics"))


def test_a_stopped_envoy_loses_nothing(start_stack: Start) -> None:
    """Requests and exchanges wait with it and go on with it."""
    stack = start_stack()
    with Load(stack.url) as load:
        until(load.more(20))
        stack.envoy.process.send_signal(signal.SIGSTOP)
        resumed = time.monotonic() + 2
        until(lambda: time.monotonic() > resumed)
        stack.envoy.process.send_signal(signal.SIGCONT)
        until(load.more(20))
    assert load.failed() == []
    until(lambda: AT_REST in stack.service.get("/metrics"))
