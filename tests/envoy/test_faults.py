"""What breaks, breaks nothing for the client: real processes, under steady load, through a real Envoy."""

import asyncio
import signal
import statistics
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from extproc.demo.pool import Behaviour, Pool
from extproc.demo.pool_server import PoolServer
from extproc.demo.service import Service
from tests.envoy.client import CHAT, chat
from tests.envoy.conftest import StartStack
from tests.envoy.load import Load
from tests.envoy.stack import POOLS, SHORT_CAPACITY, Pools, Stack, running, served_by, until

WRONG_PRIOR = {"estimation": {"estimator": "ratio", "prior_bytes_per_token": 16, "deviations": 0}}
HEALTHY = "cluster.dualpool.membership_healthy"


def kill(service: Service) -> None:
    service.process.send_signal(signal.SIGKILL)
    service.process.popen.wait()


def test_a_service_killed_and_restarted_ten_times_loses_no_request(start_stack: StartStack, tmp_path: Path) -> None:
    """While it is gone requests go long; when it is back they are split again."""
    stack = start_stack()
    settings = {"pools": POOLS, "server": {"listen": f"127.0.0.1:{stack.dualpool.port}"}}
    with Load(stack.url) as load:
        until(load.more(5))
        kill(stack.dualpool)
        for turn in range(10):
            until(load.more(5))
            with Service(settings, tmp_path / f"again-{turn}") as again:
                until(lambda: stack.envoy.stats(HEALTHY).get(HEALTHY) == 1, 30)
                until(load.more(5))
                if turn < 9:
                    kill(again)
        until(load.more(10))
    assert load.failed() == []


def streamed() -> dict[str, Any]:
    return chat("Tell me something.", max_tokens=40, stream=True)


def test_a_stopped_service_costs_no_request_and_after_a_second_no_time(start_stack: StartStack) -> None:
    """SIGSTOP for 5 s: none fails, after a second none waits for the service, no stream is silent for a second.

    The bound is half of what waiting costs (message_timeout): on an idle machine the difference is under 10 ms.
    """
    stack = start_stack(hasty=True)
    stack.pools.short.pool.behaviour = stack.pools.long.pool.behaviour = Behaviour(pace=0.05)
    with Load(stack.url, users=1) as load, Load(stack.url, users=2, body=streamed) as streams:
        until(load.more(30), 60)
        stopped = time.monotonic()
        stack.dualpool.process.send_signal(signal.SIGSTOP)
        until(lambda: time.monotonic() > stopped + 5)
        resumed = time.monotonic()
        stack.dualpool.process.send_signal(signal.SIGCONT)
        until(load.more(5), 60)
    assert load.failed() == []
    assert streams.failed() == []
    before = statistics.median(s.seconds for s in load.sent if s.started < stopped)
    during = statistics.median(s.seconds for s in load.sent if stopped + 1 < s.started < resumed)
    assert during < before + 0.1
    assert max(s.silence for s in streams.sent) < 1.0


def test_a_killed_short_pool_costs_no_request_that_fits_the_long_one(pools: Pools, tmp_path: Path) -> None:
    """Requests whose answer had not begun are answered by the long pool."""
    with ExitStack() as pool:
        short = pool.enter_context(PoolServer(Pool("short", SHORT_CAPACITY)))
        with running(tmp_path, Pools(short, pools.long)) as stack, Load(stack.url) as load:
            until(load.more(20))
            pool.close()
            until(load.more(50))
    assert load.failed() == []


async def test_a_burst_of_fifty_misroutes_is_not_seen_by_a_client(start_stack: StartStack) -> None:
    """All at once are refused by the short pool and answered by the long one."""
    stack = await asyncio.to_thread(start_stack, settings=WRONG_PRIOR)
    body = chat("a1 b2 c3 d4 " * 500, max_tokens=10)

    async def one(session: aiohttp.ClientSession) -> int:
        async with session.post(stack.url + CHAT, json=body) as answer:
            await answer.read()
            return answer.status

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        statuses = await asyncio.gather(*(one(session) for _ in range(50)))
    assert statuses == [200] * 50
    assert sum(r.status == 400 for r in stack.pools.short.pool.received) > 25


def test_a_hundred_reloads_a_third_of_them_broken_cost_no_request(start_stack: StartStack, tmp_path: Path) -> None:
    """Good or bad, every file is read while requests go on, and the bad ones change nothing."""
    stack = start_stack()
    file = next(tmp_path.rglob("dualpool.yaml"))
    settings = yaml.safe_load(file.read_text("utf-8"))
    with Load(stack.url) as load:
        until(load.more(10))
        for turn in range(100):
            broken = turn % 3 == 0
            settings["estimation"] = {"min_samples": 20 + turn}
            text = "routing: {shadow: maybe}" if broken else yaml.safe_dump(settings)
            (file.parent / "new.yaml").write_text(text, "utf-8")
            noticed = partial(reloaded, stack, broken, reloads(stack, broken))
            (file.parent / "new.yaml").replace(file)
            stack.dualpool.process.send_signal(signal.SIGHUP)
            until(noticed)
        until(load.more(10))
    assert load.failed() == []
    assert {r["pool"] for r in stack.dualpool.state()["requests"]} == {"short"}


def reloaded(stack: Stack, broken: bool, before: float) -> bool:
    return reloads(stack, broken) > before


def reloads(stack: Stack, broken: bool) -> float:
    sample = f'dualpool_config_reloads_total{{result="{"rejected" if broken else "ok"}"}} '
    lines = stack.dualpool.get("/metrics").splitlines()
    return sum(float(line.removeprefix(sample)) for line in lines if line.startswith(sample))


def test_a_rolling_restart_of_two_replicas_loses_no_request(start_stack: StartStack, tmp_path: Path) -> None:
    """SIGTERM to one after the other: health fails first, so none is asked that no longer answers."""
    drain = {"lame_duck_seconds": 2, "drain_seconds": 2}
    settings = {"pools": POOLS, "server": drain}
    with ExitStack() as replicas:
        one, other = (replicas.enter_context(Service(settings, tmp_path / name)) for name in "ab")
        stack = start_stack(service=False, change=served_by(one.port, other.port))
        until(lambda: stack.envoy.stats(HEALTHY).get(HEALTHY) == 2)
        with Load(stack.url) as load:
            until(load.more(20))
            sent_long = len(stack.pools.long.pool.received)
            for service in (one, other):
                service.process.send_signal(signal.SIGTERM)
                service.process.popen.wait(30)
                there = {"pools": POOLS, "server": {**drain, "listen": f"127.0.0.1:{service.port}"}}
                replicas.enter_context(Service(there, tmp_path / f"again-{service.port}"))
                until(lambda: stack.envoy.stats(HEALTHY).get(HEALTHY) == 2)
            until(load.more(20))
    assert load.failed() == []
    assert len(stack.pools.long.pool.received) == sent_long
