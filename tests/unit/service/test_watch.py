"""What the loop that judges pools makes of its sources, and how processes agree on it."""

import asyncio
import errno
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from extproc.config import Config
from extproc.metrics import export_pressure
from extproc.routing.in_flight import InFlight
from extproc.routing.spillover import Board, Level, Reading, Source
from extproc.service.compose import PoolState
from extproc.service.sharing import Share, publish, read_levels, read_tally, tallies
from extproc.service.watch import Watch, described
from extproc.service.workers import SharedDirectory, Worker
from tests.unit.service.waiting import until

ON = Config.model_validate(
    {"spillover": {"enabled": True, "requests": {"short": 4, "long": 4}, "interval_seconds": 0.05}}
)
OFF = Config()


class Says:
    """A source that says what it is told to."""

    def __init__(self, name: Source, **pressures: float) -> None:
        self.name: Source = name
        self.pressures = pressures
        self.followed: list[Config] = []
        self.closed = False

    def follow(self, config: Config) -> None:
        self.followed.append(config)

    def readings(self) -> Mapping[str, Reading]:
        return {pool: Reading(pressure, {"requests": 7}) for pool, pressure in self.pressures.items()}

    def results(self) -> Mapping[str, int]:
        return {"ok": 3, "failed": 1}

    async def close(self) -> None:
        self.closed = True


def test_every_pool_has_a_level() -> None:
    """Also one of which nobody knows anything."""
    board = Board()
    Watch(lambda: ON, board, [Says("vllm", short=0.5), Says("envoy", short=2, long=2)]).look(ON)
    assert {pool: (level.saturated, level.source) for pool, level in board.levels.items()} == {
        "short": (False, "vllm"),
        "long": (True, "envoy"),
    }
    Watch(lambda: ON, board, [Says("vllm", short=0.5)]).look(ON)
    assert board.levels["long"] == Level()


def test_a_pool_alone_in_its_set_has_no_level() -> None:
    """It would be called unknown, and never saturated, though nothing spills there."""
    lone = [{"name": "lone", "capacity": 8192}]
    both = Config(pools={**ON.pools, "other": lone}, spillover=ON.spillover)
    board = Board()
    Watch(lambda: both, board, [Says("vllm", short=2, lone=0)]).look(both)
    assert board.levels.keys() == {"short", "long"}


def test_a_pool_stays_saturated_until_it_has_drained() -> None:
    """The level before is what the next look begins with."""
    board, source = Board(), Says("vllm")
    watch = Watch(lambda: ON, board, [source])
    seen = []
    for pressure in (0.9, 1.1, 0.9, 0.7, 0.9):
        source.pressures = {"short": pressure}
        watch.look(ON)
        seen.append(board.levels["short"].saturated)
    assert seen == [False, True, True, False, False]


def test_sources_follow_a_new_configuration_and_nothing_when_it_is_off() -> None:
    """Off, nobody is asked and nothing is held of any pool."""
    board, source = Board(), Says("vllm", short=2)
    watch = Watch(lambda: ON, board, [source])
    watch.look(ON)
    watch.look(ON)
    assert source.followed == [ON]
    off = OFF.model_copy(update={"pools": ON.pools})
    watch.look(off)
    assert board.levels == {}
    assert len(source.followed) == 2
    assert not any(pool.endpoints for pools in source.followed[1].pools.values() for pool in pools)


def test_what_has_changed_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """A line when a pool becomes saturated, a line when it is no longer."""
    board, source = Board(), Says("vllm", short=1.5)
    watch = Watch(lambda: ON, board, [source])
    with caplog.at_level(logging.INFO):
        watch.look(ON)
        watch.look(ON)
        source.pressures = {}
        watch.look(ON)
    assert [record.getMessage() for record in caplog.records] == [
        "pool short is saturated: pressure 1.50 by vllm",
        "pool short is no longer saturated: pressure unknown by None",
    ]


async def test_a_look_that_fails_spills_nothing() -> None:
    """Whatever goes wrong, the loop goes on, and closes its sources at the end."""
    board, source = Board(), Says("vllm", short=2)
    board.levels = {"short": Level(saturated=True)}
    broken = [True]

    def published(_: object) -> None:
        if broken[0]:
            raise OSError("no space left")

    loop = asyncio.create_task(Watch(lambda: ON, board, [source], published).run())
    await until(lambda: not board.levels)
    broken[0] = False
    await until(lambda: board.levels)
    loop.cancel()
    await asyncio.gather(loop, return_exceptions=True)
    assert source.closed


async def test_levels_that_cannot_be_written_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """With the reason and no traceback, however often it is tried; and again when it happens again."""
    outcomes = iter([True, True, False, True])
    done = asyncio.Event()

    def published(_: object) -> None:
        fails = next(outcomes, None)
        if fails is None:
            done.set()
        elif fails:
            raise OSError(errno.ENOSPC, "No space left on device")

    loop = asyncio.create_task(Watch(lambda: ON, Board(), [Says("vllm")], published).run())
    await asyncio.wait_for(done.wait(), 30)
    loop.cancel()
    await asyncio.gather(loop, return_exceptions=True)
    told = "pool levels cannot be written: No space left on device; nothing spills until they can"
    assert [(record.getMessage(), record.exc_info) for record in caplog.records] == [(told, None)] * 2


def test_metrics_and_state_say_why() -> None:
    """Pressure with its source, absent while unknown; questions by result; figures and reason in /state."""
    board, registry = Board(), CollectorRegistry()
    watch = Watch(lambda: ON, board, [Says("envoy", short=1.5)])
    watch.look(ON)
    export_pressure(registry, lambda: board.levels, watch.results)

    def sample(name: str, **labels: str) -> Any:
        return registry.get_sample_value(name, labels)

    assert sample("dualpool_pool_pressure", pool="short", source="envoy") == 1.5
    assert sample("dualpool_pool_pressure", pool="long", source="envoy") is None
    assert sample("dualpool_pool_saturated", pool="short") == 1
    assert sample("dualpool_pool_saturated", pool="long") == 0
    assert sample("dualpool_pressure_questions_total", source="envoy", result="failed") == 1
    assert described(board.levels) == {
        "long": {
            "saturated": False,
            "pressure": None,
            "source": None,
            "why": "nothing is known of it: it neither spills nor takes",
        },
        "short": {
            "saturated": True,
            "pressure": 1.5,
            "source": "envoy",
            "why": "saturated: at its mark or above",
            "requests": 7,
        },
    }


# How processes agree.

LEVELS = {"short": Level(True, 1.5, "vllm", {"waiting": 7.0}, "because"), "long": Level()}


def test_levels_are_read_as_they_were_judged(tmp_path: Path) -> None:
    """By every worker, until they are too old to be acted on."""
    shared = SharedDirectory(tmp_path)
    assert read_levels(shared, 60) == {}
    publish(shared, LEVELS)
    assert read_levels(shared, 60) == LEVELS
    judged = time.monotonic()
    while time.monotonic() == judged:
        pass
    assert read_levels(shared, 0) == {}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"at": 1}', b'{"at": 1, "levels": {"short": 1}}', b"\xff"])
def test_what_cannot_be_read_is_nothing(tmp_path: Path, content: bytes) -> None:
    """A file that is not whole spills nothing and counts nothing."""
    shared = SharedDirectory(tmp_path)
    shared.levels.write_bytes(content)
    shared.tally(0).write_bytes(content)
    assert read_levels(shared, 1e9) == {}
    assert read_tally(shared, 0) == {}


async def test_a_worker_shares_what_it_counted_and_takes_what_was_judged(tmp_path: Path) -> None:
    """One turn of its loop."""
    shared = SharedDirectory(tmp_path)
    publish(shared, LEVELS)
    pools = PoolState(Board(), InFlight("a"))
    pools.in_flight.begin("short")
    share = asyncio.create_task(Share(Worker(1, shared), lambda: ON, pools).run())
    await until(lambda: pools.board.levels)
    share.cancel()
    await asyncio.gather(share, return_exceptions=True)
    assert pools.board.levels == LEVELS
    assert [sum(b for b, _ in t["short"].values()) if t else 0 for t in tallies(shared, 2)] == [0, 1]


async def test_a_worker_whose_directory_is_gone_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its supervisor was killed, and the next one has removed the directory while the worker drains."""
    shared = SharedDirectory(tmp_path / "gone")
    pools = PoolState(Board(), InFlight("a"))
    pools.board.levels = LEVELS
    turns: list[Config] = []

    def current() -> Config:
        turns.append(ON)
        return ON

    share = asyncio.create_task(Share(Worker(1, shared), current, pools).run())
    await until(lambda: len(turns) > 3)
    assert pools.board.levels == {}
    told = "pool levels cannot be shared: No such file or directory; nothing spills until they can"
    assert [(record.getMessage(), record.exc_info) for record in caplog.records] == [(told, None)]
    shared.path.mkdir()
    publish(shared, LEVELS)
    await until(lambda: pools.board.levels)
    share.cancel()
    await asyncio.gather(share, return_exceptions=True)


async def test_a_worker_stops_spilling_when_a_reload_says_so(tmp_path: Path) -> None:
    """What was judged before is still there and not too old, though `/state` holds no pool any more. Its counts are
    not: the supervisor would judge by them when spillover is turned on again."""
    shared = SharedDirectory(tmp_path)
    publish(shared, LEVELS)
    shared.tally(1).write_bytes(b'{"short": {"1": [7, 0]}}')
    assert read_tally(shared, 1)
    pools = PoolState(Board(), InFlight("a"))
    pools.board.levels = LEVELS
    off = Config.model_validate({"spillover": {"enabled": False, "stale_seconds": 600}})
    share = asyncio.create_task(Share(Worker(1, shared), lambda: off, pools).run())
    await until(lambda: not pools.board.levels)
    share.cancel()
    await asyncio.gather(share, return_exceptions=True)
    assert not read_tally(shared, 1)
