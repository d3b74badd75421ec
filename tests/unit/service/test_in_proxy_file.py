"""Rules of `extproc.service.in_proxy_file`: when the filter is written, and how."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from copy import deepcopy
from itertools import count, repeat
from pathlib import Path
from typing import Any

import pytest

from extproc.service import in_proxy_file
from extproc.service.in_proxy import RESOURCE
from extproc.service.in_proxy_file import InProxyFile, moved
from extproc.state import atomic

NOTHING: dict[str, Any] = {"figures": {"all": {}, "docs": {}}, "of_models": {}, "others": {}, "shadow": False}


class Harness:
    """A file, the figures in force, and what was reported."""

    def __init__(self, directory: Path, step: float = 0.1) -> None:
        self.path = directory / "in-proxy.yaml"
        self.values = {**NOTHING, "others": {"mean": 3.0, "source": "prior"}}
        self.reports: list[bool] = []
        self.changes: Iterator[int] = count()
        self.looks = self.collected = 0
        self.file = InProxyFile(self.path, step, 60, self.look, lambda: next(self.changes), self.reports.append)

    def look(self, values: dict[str, Any]) -> Iterator[None]:
        self.looks += 1
        yield
        self.collected += 1
        values |= deepcopy(self.values)


async def test_written_at_the_start(tmp_path: Path) -> None:
    """The first figures are written as Envoy's discovery response, readable to others."""
    harness = Harness(tmp_path)
    assert await harness.file.update()
    (extension,) = json.loads(harness.path.read_text())["resources"]
    assert extension["name"] == RESOURCE
    assert "envoy_on_request" in extension["typed_config"]["default_source_code"]["inline_string"]
    assert harness.path.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [harness.path]


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ({"mean": 3.2}, False),
        ({"mean": 3.4}, True),
        ({"source": "learned"}, True),
        ({"more": 1}, True),
        ({}, False),
    ],
)
async def test_written_when_a_figure_moves(tmp_path: Path, change: dict[str, Any], again: bool) -> None:
    """A figure within the step is left; one beyond it, or another configuration, is written."""
    harness = Harness(tmp_path)
    await harness.file.update()
    harness.values["others"] |= change
    assert await harness.file.update() is again


async def test_figures_are_looked_at_when_something_was_learned(tmp_path: Path) -> None:
    """Not at each interval: with many models and categories that takes its time."""
    harness = Harness(tmp_path)
    await harness.file.update()
    harness.changes = repeat(7)
    for _ in range(3):
        await harness.file.update()
    assert harness.looks == 2  # at the start, and when it was told of a change


@pytest.mark.parametrize("change", [lambda file: file.write_text("{"), lambda file: file.unlink()])
async def test_a_file_that_somebody_else_changed_is_written_again(
    tmp_path: Path, change: Callable[[Path], object]
) -> None:
    """Though no figure has moved: Envoy does not start with a broken one, or without one."""
    harness = Harness(tmp_path)
    harness.changes = repeat(7)
    await harness.file.update()
    good = harness.path.read_bytes()
    change(harness.path)
    assert await harness.file.update()
    assert harness.path.read_bytes() == good
    assert not await harness.file.update()


async def test_requests_get_turns_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures of thousands of models are collected step by step, and compared and written beside the loop."""
    loop_thread, threads = threading.get_ident(), []

    def seen_in(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            threads.append(threading.get_ident())
            return function(*arguments)

        return call

    for name in ("read", "moved", "written"):
        monkeypatch.setattr(in_proxy_file, name, seen_in(getattr(in_proxy_file, name)))
    first, second = Harness(tmp_path), Harness(tmp_path)
    assert await first.file.update()
    second.values = {**second.values, "others": {"mean": 9.0}}
    updating, turns = asyncio.create_task(second.file.update()), 0
    while not second.looks:
        await asyncio.sleep(0)
    assert not second.collected
    while not updating.done():
        turns += 1
        await asyncio.sleep(0)
    assert await updating
    assert turns > 1
    assert len(threads) == 4  # written, then read, compared and written again
    assert loop_thread not in threads


async def test_services_that_know_the_same_leave_the_file_alone(tmp_path: Path) -> None:
    """Two that see one volume, as at an overlapping restart, do not have Envoy load it again and again."""
    first, second = Harness(tmp_path), Harness(tmp_path)
    assert await first.file.update()
    assert not await second.file.update()
    assert not await first.file.update()
    assert (first.reports, second.reports) == ([True], [])


@pytest.mark.parametrize(("mean", "again"), [(3.001, False), (30.0, True)])
async def test_what_another_service_has_written_is_left_within_the_step(
    tmp_path: Path, mean: float, again: bool
) -> None:
    """Two under one load never know quite the same."""
    first, second = Harness(tmp_path), Harness(tmp_path)
    first.values = {**first.values, "others": {**first.values["others"], "mean": 3.0}}
    second.values = {**second.values, "others": {**second.values["others"], "mean": mean}}
    assert await first.file.update()
    assert await second.file.update() is again
    assert await first.file.update() is again


async def test_small_steps_add_up(tmp_path: Path) -> None:
    """What counts is how far a figure is from the one written, not from the last one seen."""
    harness = Harness(tmp_path)
    await harness.file.update()
    seen = []
    for mean in (3.2, 3.25, 3.35):
        harness.values["others"]["mean"] = mean
        seen.append(await harness.file.update())
    assert seen == [False, False, True]


async def test_a_reader_finds_a_whole_file(tmp_path: Path) -> None:
    """Whenever Envoy looks, the file is the old one or the new one, never a part."""
    harness = Harness(tmp_path)
    await harness.file.update()
    for mean in range(4, 50):
        harness.values["others"]["mean"] = 2.0**mean
        writing = asyncio.create_task(harness.file.update())
        while not writing.done():
            assert json.loads(harness.path.read_text())["resources"]
            await asyncio.sleep(0)
    assert harness.reports == [True] * 47


async def test_a_directory_that_is_not_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A failed write is reported, and tried again; the log tells once."""
    harness = Harness(tmp_path / "later")
    assert not await harness.file.update()
    assert not await harness.file.update()
    assert [record.getMessage() for record in caplog.records] == [
        f"in_proxy.file: {harness.path}: cannot be written: No such file or directory"
    ]
    harness.path.parent.mkdir()
    assert await harness.file.update()
    assert harness.reports == [False, False, True]
    harness.path.unlink()
    harness.path.parent.rmdir()
    assert not await harness.file.update()
    assert len(caplog.records) == 2  # another time, after it had worked


@pytest.mark.parametrize("there", [True, False])
async def test_a_link_is_replaced(tmp_path: Path, there: bool) -> None:
    """Envoy watches the directory of the file that it is told, so a change elsewhere would not be seen."""
    harness = Harness(tmp_path)
    target = tmp_path / "elsewhere"
    if there:
        target.write_text("kept")
    harness.path.symlink_to(target if there else harness.path)
    assert await harness.file.update()
    assert not harness.path.is_symlink()
    assert not there or target.read_text() == "kept"
    assert not await harness.file.update()


@pytest.mark.parametrize(
    ("old", "new", "written"),
    [
        ({"others": {"reserve": 500}}, {"others": {"reserve": 549}}, False),
        ({"others": {"reserve": 500}}, {"others": {"reserve": 551}}, True),
        ({"others": {"source": "prior"}}, {"others": {"source": "learned"}}, True),
        ({"of_models": {"m": {"mean": 4.0}}}, {"of_models": {"m": {"mean": 4.3}}}, False),
        ({"of_models": {"m": {"mean": 4.0}}}, {"of_models": {"m": {"mean": 4.5}}}, True),
        ({"figures": {"all": {"m": {"mean": 4.0}}}}, {"figures": {"all": {"m": {"mean": 4.5}}}}, True),
        ({"figures": {"all": {}}}, {"figures": {"all": {}, "docs": {}}}, True),
        ({"rollout_steps": 5000.0}, {"rollout_steps": 5001.0}, True),
        ({"rollout_steps": 5000.0}, {"rollout_steps": None}, True),  # by another version
        ({"models": None}, {"models": {}}, True),
        ({}, {"added": 1}, True),
        ({"left_out": 1}, {}, True),
        ({"sets": {"default": [{"capacity": 1000}]}}, {"sets": {"default": [{"capacity": 1001}]}}, True),
        ({"sets": {"default": [{"capacity": 1000}]}}, {"sets": {"default": [{"capacity": 1000}]}}, False),
    ],
)
def test_what_is_learned_moves_by_steps_and_what_is_configured_at_once(
    old: dict[str, Any], new: dict[str, Any], written: bool
) -> None:
    """A number that is learned may differ by the step, here a tenth, wherever it stands."""
    assert moved({**NOTHING, **old}, {**NOTHING, **new}, 0.1) is written


@pytest.mark.parametrize(
    ("rows", "written"),
    [
        ({"of_models": {"m": {"mean": 4.3}}}, False),
        ({"of_models": {"m": {"mean": 4.5}}}, True),
        ({"figures": {"all": {"m": {"mean": 4.3}}, "docs": {}}}, False),
        ({"figures": {"all": {"m": {"mean": 4.5}}, "docs": {}}}, True),
        ({"of_models": {"m": {"mean": 4.3}}, "figures": {"all": {"m": {"mean": 4.5}}, "docs": {}}}, True),
    ],
)
def test_a_row_that_comes_or_goes_is_compared_with_what_stands_in_for_it(
    rows: dict[str, Any], written: bool
) -> None:
    """A model is heard of every day: as long as it is decided much as others are, the file stays."""
    without = {**NOTHING, "others": {"mean": 4.0}}
    assert moved(without, {**without, **rows}, 0.1) is written
    assert moved({**without, **rows}, without, 0.1) is written


async def test_written_no_faster_than_the_interval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However fast figures move, the next write has to wait."""
    waits, go_on = asyncio.Queue[float](), asyncio.Queue[None]()

    async def sleep(seconds: float) -> None:
        if seconds:  # 0 gives others a turn
            waits.put_nowait(seconds)
            await go_on.get()

    monkeypatch.setattr(asyncio, "sleep", sleep)
    harness = Harness(tmp_path)
    running = asyncio.create_task(harness.file.run())
    for turn in range(1, 4):
        assert await waits.get() == 60
        harness.values["others"]["mean"] = 10.0**turn
        assert len(harness.reports) == turn
        go_on.put_nowait(None)
    running.cancel()


async def test_envoy_may_read_the_file_whatever_the_umask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs as another user."""
    monkeypatch.setattr(atomic, "_USUAL_MODE", 0o600)
    harness = Harness(tmp_path)
    await harness.file.update()
    assert harness.path.stat().st_mode & 0o777 == 0o644
