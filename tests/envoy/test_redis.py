"""Two replicas behind one Envoy, sharing what they learn through a real Redis, under load."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from extproc.demo.service import Service
from tests.envoy.changes import served_by
from tests.envoy.conftest import Start
from tests.envoy.load import Load
from tests.envoy.pools import POOLS
from tests.envoy.stack import Stack, healthy, until
from tests.process.redis_server import RedisServer, needs_redis

pytestmark = needs_redis


@dataclass(frozen=True)
class Replicas:
    """Two services, Redis and Envoy, running."""

    stack: Stack
    redis: RedisServer
    services: tuple[Service, Service]

    def samples(self) -> list[object]:
        """Observations behind the ratio over all models of each, by /state."""
        ratios = [ratio for s in self.services for ratio in s.state()["learned"]["linear"]]
        return [ratio["samples"] for ratio in ratios if not ratio["model"]]


@pytest.fixture
def replicas(tmp_path: Path, start_stack: Start) -> Iterator[Replicas]:
    with RedisServer(tmp_path) as redis, ExitStack() as running:
        settings = {"pools": POOLS, "state": {"redis": {"url": redis.url}, "interval_seconds": 0.2}}
        one, other = (running.enter_context(Service(settings, tmp_path / name)) for name in "ab")
        stack = start_stack(service=False, change=served_by(one.port, other.port))
        until(lambda: healthy(stack.envoy) == 2)
        yield Replicas(stack, redis, (one, other))


def test_two_replicas_converge_to_one_ratio(replicas: Replicas) -> None:
    """Each sees half of the answers, and both end with the figures of all of them."""
    with Load(replicas.stack.url) as load:
        until(load.more(60))
    answers = len(replicas.stack.pools["short"].pool.received)
    until(lambda: replicas.samples() == [answers, answers])
    one, other = (service.state()["learned"]["linear"] for service in replicas.services)
    assert one == other
    learned_from = [entry["requests"] for s in replicas.services for entry in s.state()["requests"]]
    assert len(learned_from) == 2  # both were asked
    assert load.failed() == []
