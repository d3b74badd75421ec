"""Faults of what stands around the service: pools, Envoy, Redis."""

import asyncio
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import aiohttp

from extproc.demo.process import Process
from tests.envoy.changes import at, served_by
from tests.envoy.client import CHAT, chat
from tests.envoy.load import Load, Sent
from tests.envoy.pools import LONG_CAPACITY, POOLS, SHORT_CAPACITY
from tests.envoy.stack import WRONG_PRIOR, healthy, until
from tests.faults.ground import Figure, Ground, Outcome, added
from tests.faults.services import streamed
from tests.process.redis_server import RedisServer

ACTIVE = "cluster.short.upstream_rq_active"


@contextmanager
def pool_process(ground: Ground, name: str, capacity: int, pace: float = 0) -> Iterator[tuple[Process, int]]:
    """Run a stand-in pool as a process of its own; yields it and its port. `pace`: seconds between events."""
    command = [sys.executable, "-m", "extproc.demo.pool_server", f"{name}={capacity}", "--pace", str(pace)]
    with Process(command, ground.place() / "pool.log") as process:
        yield process, int(process.wait_for_output(r"on port (\d+)")[1])


def pool_signalled(ground: Ground, number: signal.Signals) -> Outcome:
    """The short pool is killed while requests wait for its answer, stopped for two seconds, or asked to end."""
    short, short_port = ground.enter(pool_process(ground, "short", SHORT_CAPACITY))
    _, long_port = ground.enter(pool_process(ground, "long", LONG_CAPACITY))
    stack = ground.start(change=at(short=short_port, long=long_port))
    with Load(stack.url) as load:
        until(load.more(20))
        if number != signal.SIGTERM:
            short.send_signal(signal.SIGSTOP)  # now no answer begins
            until(lambda: stack.envoy.stats(ACTIVE).get(ACTIVE, 0) > 0)
        if number == signal.SIGSTOP:
            resumed = time.monotonic() + 2
            until(lambda: time.monotonic() > resumed)
            short.send_signal(signal.SIGCONT)
        else:
            short.send_signal(number)
            short.popen.wait(30)
        until(load.more(50))
    return Outcome(load.sent)


def pool_killed_in_the_middle(ground: Ground) -> Outcome:
    """The short pool is killed while some of its answers are under way: those are lost, and no others."""
    short, short_port = ground.enter(pool_process(ground, "short", SHORT_CAPACITY, pace=0.05))
    _, long_port = ground.enter(pool_process(ground, "long", LONG_CAPACITY))
    stack = ground.start(change=at(short=short_port, long=long_port))
    with Load(stack.url) as load, Load(stack.url, users=5, body=streamed) as streams:
        until(streams.more(10))
        until(load.more(20))
        short.send_signal(signal.SIGKILL)
        short.popen.wait(30)
        until(load.more(50))
        until(streams.more(20))
    lost = [sent for sent in streams.failed() if sent.begun]
    others = [sent for sent in (*load.sent, *streams.sent) if sent not in lost]
    return Outcome(others, [Figure("besides, lost with their answer under way", len(lost), 5)])


def burst_of_misroutes(ground: Ground) -> Outcome:
    """Fifty requests at once are refused by the short pool."""
    stack = ground.start(settings=WRONG_PRIOR)
    body = chat("a1 b2 c3 d4 " * 500, max_tokens=10)

    async def one(session: aiohttp.ClientSession) -> Sent:
        started = time.monotonic()
        async with session.post(stack.url + CHAT, json=body) as answer:
            await answer.read()
            return Sent(started, time.monotonic() - started, answer.status, 0)

    async def burst() -> list[Sent]:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            return list(await asyncio.gather(*(one(session) for _ in range(50))))

    sent = asyncio.run(burst())
    assert sum(r.status == 400 for r in stack.pools["short"].pool.received) > 25
    return Outcome(sent)


def redis_of_no_use(ground: Ground) -> Outcome:
    """Redis, shared by two replicas, is killed, restarted empty, emptied, stopped, and slow by two seconds."""
    redis = ground.enter(RedisServer(ground.place()))
    settings = {"pools": POOLS, "state": {"redis": {"url": redis.url}, "interval_seconds": 0.2}}
    replicas = [ground.service(settings) for _ in range(2)]
    stack = ground.start(service=False, change=served_by(*(replica.port for replica in replicas)))
    until(lambda: healthy(stack.envoy) == 2)

    def exchanged(result: str) -> float:
        """The fewest exchanges with Redis of that result that one of them counted."""
        sample = f'dualpool_state_exchanges_total{{result="{result}",store="redis"}} '
        pages = (replica.get("/metrics").splitlines() for replica in replicas)
        return min(sum(float(x.removeprefix(sample)) for x in page if x.startswith(sample)) for page in pages)

    def more(result: str) -> Callable[[], bool]:
        before = exchanged(result)
        return lambda: exchanged(result) > before

    def agree() -> bool:
        one, other = (replica.state()["learned"]["linear"] for replica in replicas)
        return bool(one) and one == other

    with Load(stack.url) as load:
        until(load.more(60))
        began = time.monotonic()
        for spoil, mend in (
            (redis.kill, redis.start),
            (redis.empty, lambda: None),
            (redis.stop, redis.resume),
            (lambda: redis.slow(2.0), lambda: redis.slow(0.0)),
        ):
            spoil()
            if spoil != redis.empty:
                until(more("failed"))
            until(load.more(30))
            mend()
            until(more("ok"))
        until(load.more(10))
    until(agree)
    before, during = ([s for s in load.sent if (s.started < began) is early] for early in (True, False))
    sent_long = len(stack.pools["long"].pool.received)
    return Outcome(load.sent, [Figure("sent long for it", sent_long, 0), *added("meanwhile", before, during)])
