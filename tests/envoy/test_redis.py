"""Two replicas behind one Envoy, sharing what they learn through a real Redis, under load."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from extproc.demo.service import Service
from tests.envoy.conftest import StartStack
from tests.envoy.load import Load
from tests.envoy.stack import POOLS, Stack, served_by, until
from tests.process.redis_server import RedisServer, needs_redis

pytestmark = needs_redis

HEALTHY = "cluster.dualpool.membership_healthy"
PATIENCE = 60


@dataclass(frozen=True)
class Replicas:
    """Two services, Redis and Envoy, running."""

    stack: Stack
    redis: RedisServer
    services: tuple[Service, Service]

    def ratios(self) -> list[object]:
        """What each has learned, by /state."""
        return [service.state()["learned"]["linear"] for service in self.services]

    def agree(self) -> bool:
        """Whether both have learned the same, and something."""
        one, other = self.ratios()
        return bool(one) and one == other

    def exchanged(self, result: str) -> float:
        """The fewest exchanges with Redis of that result that one of them counted."""
        sample = f'dualpool_state_exchanges_total{{result="{result}",store="redis"}} '
        return min(
            sum(
                float(line.removeprefix(sample))
                for line in s.get("/metrics").splitlines()
                if line.startswith(sample)
            )
            for s in self.services
        )


@pytest.fixture
def replicas(tmp_path: Path, start_stack: StartStack) -> Iterator[Replicas]:
    with RedisServer(tmp_path) as redis, ExitStack() as running:
        settings = {"pools": POOLS, "state": {"redis": {"url": redis.url}, "interval_seconds": 0.2}}
        one, other = (running.enter_context(Service(settings, tmp_path / name)) for name in "ab")
        stack = start_stack(service=False, change=served_by(one.port, other.port))
        until(lambda: stack.envoy.stats(HEALTHY).get(HEALTHY) == 2)
        yield Replicas(stack, redis, (one, other))


def test_two_replicas_converge(replicas: Replicas) -> None:
    """Each sees half of the answers, and both end with the figures of all of them."""
    with Load(replicas.stack.url) as load:
        until(load.more(60))
    until(replicas.agree)
    samples = [
        entry["samples"] for entry in replicas.services[0].state()["learned"]["linear"] if not entry["model"]
    ]
    answers = len(replicas.stack.pools.short.pool.received)
    assert samples == [answers]
    learned_from = [entry["requests"] for s in replicas.services for entry in s.state()["requests"]]
    assert len(learned_from) == 2  # both were asked
    assert load.failed() == []


def test_redis_killed_emptied_and_slow_costs_no_request(replicas: Replicas) -> None:
    """Not one fails, not one is sent elsewhere for it, and afterwards the replicas agree again."""
    with Load(replicas.stack.url) as load:
        until(load.more(20))
        replicas.redis.kill()
        failed = replicas.exchanged("failed")
        until(lambda: replicas.exchanged("failed") > failed)
        until(load.more(30))
        replicas.redis.start()
        works_again(replicas)
        with replicas.redis.client() as client:
            client.flushall()
        until(load.more(30))
        failed = replicas.exchanged("failed")
        replicas.redis.delay = 2.0
        until(lambda: replicas.exchanged("failed") > failed, PATIENCE)
        until(load.more(30))
        replicas.redis.delay = 0.0
        works_again(replicas)
    until(replicas.agree, PATIENCE)
    assert load.failed() == []
    assert not replicas.stack.pools.long.pool.received
    assert len(replicas.stack.pools.short.pool.received) == len(load.sent)


def works_again(replicas: Replicas) -> None:
    worked = replicas.exchanged("ok")
    until(lambda: replicas.exchanged("ok") > worked, PATIENCE)
