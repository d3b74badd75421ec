"""Replicas that share what they learn through a real Redis."""

import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from extproc.state.codec import decode
from tests.envoy.stack import until
from tests.process.redis_server import RedisServer, needs_redis
from tests.process.talk import QUICK, Serving, estimated, exchange, serving, two_workers
from tests.unit.service.test_tls import self_signed

pytestmark = needs_redis

FAILED = 'dualpool_state_exchanges_total{result="failed",store="redis"}'
GLOBAL = ("linear", "")


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as server:
        yield server


def replica(stack: ExitStack, directory: Path, redis: RedisServer, **more: str) -> Serving:
    directory.mkdir()
    settings = {"state": {"redis": {"url": redis.url, **more}, **QUICK}}
    return stack.enter_context(serving(directory, settings))


def shared(redis: RedisServer) -> int:
    """Observations behind the global ratio in Redis."""
    with redis.client() as client:
        data = client.get("dualpool")
    table = decode(data).table if isinstance(data, bytes) else {}
    return table[GLOBAL].samples if GLOBAL in table else 0  # who comes first may have had nothing to write


def test_replicas_learn_as_one(tmp_path: Path, redis: RedisServer) -> None:
    """What each has learned is counted once by all, and a new one starts with it."""
    with ExitStack() as stack:
        one, other = (replica(stack, tmp_path / name, redis) for name in "ab")
        for _ in range(3):
            exchange(one.address, tokens=1004)
        for _ in range(2):
            exchange(other.address, tokens=804)
        until(lambda: one.samples() == other.samples() == 5)
        assert one.state()["learned"] == other.state()["learned"]
        assert replica(stack, tmp_path / "c", redis).samples() == 5
        assert shared(redis) == 5


def test_a_redis_killed_and_restarted_empty_is_filled_again(tmp_path: Path, redis: RedisServer) -> None:
    """Each goes on alone meanwhile; afterwards every observation is there, once."""
    with ExitStack() as stack:
        one, other = (replica(stack, tmp_path / name, redis) for name in "ab")
        exchange(one.address)
        until(lambda: one.samples() == other.samples() == 1)
        redis.kill()
        until(lambda: one.metric(FAILED) > 0 and other.metric(FAILED) > 0)
        assert exchange(one.address) == exchange(other.address) == "short"
        assert (one.samples(), other.samples()) == (2, 2)
        redis.start()
        until(lambda: one.samples() == other.samples() == shared(redis) == 3)
        assert "redis works again" in one.process.output()


def test_a_newcomer_to_an_emptied_redis_wipes_nothing(tmp_path: Path, redis: RedisServer) -> None:
    """It comes first, while those that know more leave Redis in peace: they give it back what they know."""
    with ExitStack() as stack:
        one, other = (replica(stack, tmp_path / name, redis) for name in "ab")
        for _ in range(4):
            exchange(one.address)
        until(lambda: one.samples() == other.samples() == 4)
        redis.kill()
        until(lambda: one.metric(FAILED) > 0 and other.metric(FAILED) > 0)
        redis.start()
        new = replica(stack, tmp_path / "c", redis)
        exchange(new.address)
        until(lambda: shared(redis) >= 4)
        until(lambda: one.samples() == other.samples() == new.samples() == shared(redis))
        assert shared(redis) >= 4


@pytest.mark.parametrize("spoil", ["another kind of value", "no room", "emptied", "slow by 2 s"])
def test_a_redis_that_is_of_no_use_is_done_without(tmp_path: Path, redis: RedisServer, spoil: str) -> None:
    """Requests are decided and learned from; nothing is lost or counted twice once it is of use again."""
    with ExitStack() as stack, redis.client() as client:
        one, other = (replica(stack, tmp_path / name, redis) for name in "ab")
        exchange(one.address)
        until(lambda: one.samples() == other.samples() == 1)
        before = one.metric(FAILED)
        if spoil == "another kind of value":
            client.delete("dualpool")
            client.lpush("dualpool", "x")
        elif spoil == "no room":
            client.config_set("maxmemory", 1)
        elif spoil == "emptied":
            client.flushall()
        else:
            redis.slow(2.0)
        for service in (one, other):
            assert exchange(service.address) == "short"
        if spoil == "emptied":
            until(lambda: shared(redis) > 0)
        else:
            until(lambda: one.metric(FAILED) > before)
        for service in (one, other):
            assert exchange(service.address) == "short"
        client.config_set("maxmemory", 0)
        if spoil == "another kind of value":
            client.delete("dualpool")
        redis.slow(0.0)
        until(lambda: one.samples() == other.samples() == shared(redis) == 5)


def test_workers_deliver_what_they_learn_once(tmp_path: Path, redis: RedisServer) -> None:
    """They share among themselves and with other replicas; nobody counts an observation twice."""
    settings = {"state": {"redis": {"url": redis.url}, "file": str(tmp_path / "state.json"), **QUICK}}
    with ExitStack() as stack:
        service, workers = stack.enter_context(two_workers(tmp_path, settings))
        other = replica(stack, tmp_path / "other", redis)
        addresses = [*workers, other.address]
        for address, tokens in zip(addresses, (900, 1400, 2200), strict=True):
            exchange(address, tokens=tokens)
        until(lambda: service.samples() == other.samples() == shared(redis) == 3)
        # Reports so different that only those who know all three estimate alike: Redis will forget, they must know.
        until(lambda: len({estimated(address) for address in addresses}) == 1)
        redis.kill()
        until(lambda: service.metric(FAILED) > 1)
        for address in addresses:
            exchange(address)
        until(lambda: service.samples() == 5)
        redis.start()
        until(lambda: service.samples() == other.samples() == shared(redis) == 6)


def test_password_and_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The password from the environment opens it and stays out of log, state and metrics."""
    monkeypatch.setenv("DUALPOOL_STATE__REDIS__PASSWORD", "sesame: {")
    self_signed(tmp_path, "server")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "server.crt", tmp_path / "server.key")
    with RedisServer(tmp_path, "sesame: {", tls) as redis, ExitStack() as stack:
        service = replica(stack, tmp_path / "a", redis, ca=str(tmp_path / "server.crt"))
        exchange(service.address)
        until(lambda: shared(redis) == 1)
        assert "sesame" not in service.process.output() + service.get("/state")[1] + service.get("/metrics")[1]


def test_a_wrong_password_is_done_without(tmp_path: Path) -> None:
    """The service serves, and says once why it learns alone."""
    with RedisServer(tmp_path, "sesame") as redis, ExitStack() as stack:
        service = replica(stack, tmp_path / "a", redis)
        assert exchange(service.address) == "short"
        until(lambda: service.metric(FAILED) > 1)
        assert service.process.output().count("Authentication required") == 1
