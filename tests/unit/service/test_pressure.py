"""How full pools are, by what vLLM and Envoy say, and what becomes of it."""

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from extproc.config import Config
from extproc.routing.in_flight import InFlight
from extproc.routing.spillover import Server
from extproc.service.polls import Polls, Terms
from extproc.service.pressure import EnvoySource, InFlightSource, VllmSource, read_clusters, read_servers
from tests.unit.service.waiting import until

VLLM = b"""\
# HELP vllm:num_requests_waiting Number of requests waiting to be processed.
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="a {b} c"} 3.0
vllm:num_requests_waiting{engine="1",model_name="a {b} c"} 1e1
vllm:num_requests_waiting_by_reason{engine="0",model_name="a {b} c",reason="capacity"} 99
vllm:num_requests_running{engine="0",model_name="a {b} c"} 64.0
vllm:num_requests_running{engine="1",model_name="a {b} c"} 8
vllm:kv_cache_usage_perc{engine="0",model_name="a {b} c"} 0.5
vllm:kv_cache_usage_perc{engine="1",model_name="a {b} c"} 0.25
vllm:request_success_total{engine="0",finished_reason="stop",model_name="a {b} c"} 7.0
"""


def test_engines_are_told_apart_by_their_labels() -> None:
    """A server with data parallelism is as many as it has engines."""
    assert read_servers(VLLM) == [Server(3, 64, 0.5), Server(10, 8, 0.25)]


def test_the_older_name_of_kv_cache_use() -> None:
    """Both are read; the newer one counts where both are given."""
    old = b'vllm:num_requests_waiting{m="x"} 0\nvllm:gpu_cache_usage_perc{m="x"} 0.75\n'
    assert read_servers(old) == [Server(0, 0, 0.75)]
    assert read_servers(old + b'vllm:kv_cache_usage_perc{m="x"} 0.5\n') == [Server(0, 0, 0.5)]


@pytest.mark.parametrize(
    "page",
    [
        b"",
        b"<html>",
        b"vllm:num_requests_running 3\n",
        b"vllm:num_requests_waiting NaN\n",
        b"vllm:num_requests_waiting -1\n",
        b"vllm:num_requests_waiting +Inf\n",
        b"vllm:num_requests_waiting many\n",
        b" vllm:num_requests_waiting 3\n",
    ],
)
def test_a_page_without_a_queue_says_nothing(page: bytes) -> None:
    """A figure that is none is not a pool with room."""
    with pytest.raises(ValueError, match="num_requests_waiting"):
        read_servers(page)


def test_envoys_clusters() -> None:
    """Requests under way and those that wait for a connection, by cluster; names may hold dots."""
    page = (
        b"cluster.short.upstream_rq_active: 7\ncluster.short.upstream_rq_pending_active: 2\n"
        b"cluster.long.v2.upstream_rq_active: 1\ncluster.x.upstream_rq_total: 5\ncluster.y.upstream_rq_active: x\n"
    )
    assert read_clusters(page) == {"short": 9, "long.v2": 1}
    with pytest.raises(ValueError, match="upstream_rq_active"):
        read_clusters(b"ok\n")


# Sources against real servers.


@asynccontextmanager
async def serving(*pages: Callable[[], str | None]) -> AsyncIterator[list[str]]:
    """Serve each page on an address of its own; None is a server that does not answer. Yields the addresses."""
    runners = []
    addresses = []
    for page in pages:

        async def answer(_: web.Request, page: Callable[[], str | None] = page) -> web.Response:
            text = page()
            if text is None:
                await asyncio.Event().wait()
            return web.Response(text=text)

        app = web.Application()
        app.router.add_get("/{path}", answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.01)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        runners.append(runner)
        addresses.append(f"127.0.0.1:{runner.addresses[0][1]}")
    try:
        yield addresses
    finally:
        for runner in runners:
            await runner.cleanup()


def config(endpoints: list[str] | None = None, **spillover: Any) -> Config:
    pools = [{"name": "short", "capacity": 1000, "endpoints": endpoints or []}, {"name": "long", "capacity": 9000}]
    settings = {"interval_seconds": 0.05, "stale_seconds": 60, **spillover}
    return Config.model_validate({"pools": {"default": pools}, "spillover": settings})


def waiting(number: int) -> Callable[[], str]:
    return lambda: f"vllm:num_requests_waiting {number}\n"


async def test_all_servers_are_asked_whoever_hangs() -> None:
    """One that never answers and one that is not there delay nobody."""
    source = VllmSource()
    async with serving(lambda: None, waiting(5), waiting(15)) as addresses:
        source.follow(config([addresses[0], "127.0.0.1:1", *addresses[1:]], waiting=5))
        await until(
            lambda: source.readings().get("short", None) and source.readings()["short"].figures["servers"] == 2
        )
        reading = source.readings()["short"]
        assert (reading.pressure, reading.figures["waiting"]) == (1.0, 20)
        await until(lambda: source.results()["failed"])
        await source.close()


async def test_servers_are_asked_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spread over the interval: the pages of a thousand, read at once, would hold up requests."""
    asked = []

    async def ask(_polls: object, address: str, _timeout: float) -> None:
        asked.append(address)

    monkeypatch.setattr(Polls, "_ask", ask)
    polls = Polls("/metrics", read_servers, time.monotonic)
    polls.follow([f"127.0.0.1:{port}" for port in range(1, 5)], Terms(interval=3600, timeout=1))
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(asked) == 1
    await polls.close()


async def test_a_name_stands_for_all_its_addresses() -> None:
    """Host names are resolved; behind a headless Service are all pods."""
    source = VllmSource()
    async with serving(waiting(5)) as (address,):
        source.follow(config([f"localhost:{address.rpartition(':')[2]}"], waiting=5))
        await until(source.readings)
        assert source.readings()["short"].pressure == 1.0
        await source.close()


async def test_a_name_that_is_not_resolved_in_time_is_no_answer(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """However long the DNS takes."""
    go_on = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: go_on.wait(30))
    polls = Polls("/metrics", read_servers, time.monotonic)
    polls.follow(["pods:8000"], Terms(interval=60, timeout=0.01))
    await until(lambda: polls.results["failed"])
    go_on.set()
    await polls.close()
    assert caplog.messages == ["http://pods:8000/metrics cannot be read: no answer"]


async def test_what_was_said_expires() -> None:
    """A server that has fallen silent is unknown after a while, not as it was."""
    now = [100.0]
    source = VllmSource(lambda: now[0])
    said: list[str | None] = ["vllm:num_requests_waiting 5\n"]
    async with serving(lambda: said[0]) as addresses:
        source.follow(config(addresses, stale_seconds=10))
        await until(source.readings)
        said[0] = None
        now[0] += 9
        assert source.readings()
        now[0] += 2
        assert not source.readings()
        await source.close()


async def test_another_configuration_is_followed() -> None:
    """Servers that are no longer named are not asked, and what they said is forgotten."""
    source = VllmSource()
    async with serving(waiting(5), waiting(9)) as (one, other):
        source.follow(config([one], waiting=1))
        await until(source.readings)
        source.follow(config([other], waiting=1))
        assert not source.readings()
        await until(source.readings)
        assert source.readings()["short"].pressure == 9
        await source.close()


async def test_other_terms_leave_what_is_known() -> None:
    """Under a new interval servers are asked again one after the other; until then what they said holds."""
    source = VllmSource()
    async with serving(waiting(5), waiting(9)) as addresses:
        source.follow(config(addresses, waiting=1))
        await until(lambda: source.readings() and source.readings()["short"].figures["servers"] == 2)
        source.follow(config(addresses, waiting=1, interval_seconds=30))
        assert source.readings()["short"].figures["servers"] == 2
        await source.close()


async def test_a_server_that_comes_back_is_complained_about_again(caplog: pytest.LogCaptureFixture) -> None:
    """A server that was taken out of the configuration while it failed begins with a clean record.

    However long it fails, there is one complaint.
    """
    source = VllmSource()
    for complaints in (1, 2):
        before = source.results()["failed"]
        source.follow(config(["127.0.0.1:1"]))
        while source.results()["failed"] < before + 2:
            await asyncio.sleep(0)
        assert caplog.text.count("cannot be read") == complaints
        source.follow(config())
    await source.close()


async def test_envoys_are_summed_and_a_part_is_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Pools without a mark, or a cluster, are left out; while one Envoy is silent, so are all."""
    caplog.set_level("INFO")
    source = EnvoySource()
    page = "cluster.short.upstream_rq_active: 6\n"
    second: list[str | None] = [None]
    async with serving(lambda: page, lambda: second[0]) as addresses:
        source.follow(config(envoy=addresses, requests={"short": 8, "long": 9}, stale_seconds=1))
        await until(lambda: source.results()["ok"] and source.results()["failed"])
        assert not source.readings()
        second[0] = page
        await until(source.readings)
        assert {pool: r.pressure for pool, r in source.readings().items()} == {"short": 1.5}
        answers = source.results()["ok"]
        await until(lambda: source.results()["ok"] > answers + 2)
        assert caplog.text.count("is read again") == 1
        await source.close()


async def test_the_services_own_count() -> None:
    """A pool with a mark and no request is empty, once the log has spoken."""
    count = InFlight("a")
    source = InFlightSource(lambda longest: [count.tally(longest)])
    source.follow(config(requests={"short": 4, "long": 8}))
    tickets = [count.begin("short") for _ in range(4)]
    assert source.readings() == {}
    count.end("short", tickets[0])
    assert {pool: r.pressure for pool, r in source.readings().items()} == {"short": 0.75, "long": 0.0}
    source.follow(Config())
    assert source.readings() == {}


async def test_a_slow_page_is_as_old_as_the_question() -> None:
    """What a server said after two seconds was true two seconds ago."""
    now = [time.monotonic()]

    def slow() -> str:
        now[0] += 8
        return "vllm:num_requests_waiting 5\n"

    source = VllmSource(lambda: now[0])
    async with serving(slow) as addresses:
        source.follow(config(addresses, stale_seconds=7, interval_seconds=60))
        await until(lambda: source.results()["ok"])
        assert not source.readings()
        await source.close()
