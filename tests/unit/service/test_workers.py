"""Signs of life of workers."""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from extproc.service import workers
from extproc.service.errors import StartError
from extproc.service.workers import (
    HUNG_LOOKS,
    START_LOOKS,
    Pulse,
    SharedDirectory,
    Worker,
    shared_directory,
    wait_or_kill,
)


def looks(*stamps: int) -> Iterator[bool]:
    """What a pulse says at each look after the first."""
    given = iter(stamps)
    pulse = Pulse(lambda: next(given))
    for _ in stamps[1:]:
        yield pulse.is_lost()


def test_a_silent_worker_is_held_to_hang_after_so_many_looks() -> None:
    """And not one look before."""
    *before, last = looks(*[7] * (HUNG_LOOKS + 1))
    assert (any(before), last) == (False, True)


def test_one_sign_of_life_is_enough() -> None:
    """Counting starts over, whatever the stamp is: a clock is not asked."""
    assert not any(looks(*[9] * HUNG_LOOKS, *[3] * HUNG_LOOKS))


def test_a_worker_that_starts_has_more_time() -> None:
    """It has not yet said anything; for ever it may not take either."""
    *before, last = looks(*[0] * (START_LOOKS + 1))
    assert (any(before), last) == (False, True)


async def test_a_worker_that_hangs_is_brought_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """By SIGKILL, since it listens to nothing else."""
    monkeypatch.setattr(workers, "LOOK_SECONDS", 0.001)
    script = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.pause()"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", script)
    assert await wait_or_kill(process, Pulse(lambda: 1)) == -9


async def test_a_worker_that_ends_is_left_alone() -> None:
    """Its exit code is its own."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", "raise SystemExit(3)")
    assert await wait_or_kill(process, Pulse(lambda: 1)) == 3


async def live(worker: Worker, healthy: bool, turns: int) -> None:
    """Let `worker` live for so many turns."""
    done = asyncio.Event()
    asked = 0

    async def judged() -> bool:
        nonlocal asked
        asked += 1
        if asked > turns:
            done.set()
        return healthy

    task = asyncio.create_task(worker.live(judged))
    await done.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("healthy", [True, False])
async def test_life_is_one_thing_and_health_another(
    tmp_path: Path, healthy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker with too much to do is not sent requests, but does not hang either."""
    monkeypatch.setattr(workers, "BEAT_SECONDS", 0)
    shared = SharedDirectory(tmp_path)
    assert (shared.last_beat(1), shared.alive(2)) == (0, 0)
    await live(Worker(1, shared), healthy, turns=1)
    assert shared.last_beat(1) > 0
    assert shared.alive(2) == healthy
    shared.forget(1)
    assert (shared.last_beat(1), shared.alive(2)) == (0, 0)


async def test_signs_that_cannot_be_given_are_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk, or no descriptor left, must not make a worker that works look dead for ever."""
    monkeypatch.setattr(workers, "BEAT_SECONDS", 0)
    shared = SharedDirectory(tmp_path / "later")
    await live(Worker(0, shared), healthy=True, turns=3)
    assert shared.last_beat(0) == 0
    shared.path.mkdir()
    await live(Worker(0, shared), healthy=True, turns=1)
    assert shared.alive(1) == 1


def test_what_a_killed_service_has_left_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one that runs, and what is not ours, is left alone: the lock of the first is held until it ends."""
    monkeypatch.setattr(workers, "MEMORY", tmp_path)
    script = "import os; from pathlib import Path; from extproc.service import workers\n"
    script += f"workers.MEMORY = Path({str(tmp_path)!r})\n"
    script += "with workers.shared_directory(0) as shared: os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    (left,) = tmp_path.iterdir()
    (tmp_path / "dualpool-other").mkdir()
    with monkeypatch.context() as another_user:
        another_user.setattr(os, "geteuid", lambda: left.stat().st_uid + 1)
        with shared_directory(0):
            assert left.exists()
    with shared_directory(0) as one:
        assert not left.exists()
        with shared_directory(0) as other:
            assert one.path.exists()
            assert {path.name for path in other.path.iterdir()} == {"lock"}
        assert one.path.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["dualpool-other"]


def test_nothing_is_removed_through_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever may write beside it cannot have another directory of ours removed."""
    monkeypatch.setattr(workers, "MEMORY", tmp_path)
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "lock").touch()
    (tmp_path / "dualpool-x").symlink_to(kept)
    with shared_directory(0):
        assert (kept / "lock").exists()


def test_a_place_without_room_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory comes first; where there is no room anywhere, the service does not start."""
    memory, disk = tmp_path / "memory", tmp_path / "disk"
    free = {memory: SimpleNamespace(free=9), disk: SimpleNamespace(free=10)}
    for place in free:
        place.mkdir()
    monkeypatch.setattr(workers, "MEMORY", memory)
    monkeypatch.setattr(tempfile, "tempdir", str(disk))
    monkeypatch.setattr(shutil, "disk_usage", free.__getitem__)
    for needed, place in ((9, memory), (10, disk)):
        with shared_directory(needed) as shared:
            assert shared.path.parent == place
    with pytest.raises(StartError, match=r"server\.workers: "), shared_directory(11):
        pass


def test_what_is_left_is_removed_in_all_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a service began when memory had no room, while it has now."""
    memory, disk = tmp_path / "memory", tmp_path / "disk"
    lefts = [memory / "dualpool-x", disk / "dualpool-y"]
    for left in lefts:
        left.mkdir(parents=True)
        (left / "lock").touch()
    monkeypatch.setattr(workers, "MEMORY", memory)
    monkeypatch.setattr(tempfile, "tempdir", str(disk))
    with shared_directory(0):
        assert not any(left.exists() for left in lefts)


def test_where_nothing_can_be_written_the_start_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a read-only root without a /tmp and with no memory to share."""
    monkeypatch.setattr(workers, "MEMORY", tmp_path / "nowhere")
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path / "nowhere")])
    with pytest.raises(StartError, match=r"server\.workers: "), shared_directory(0):
        pass


def test_old_signs_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Health is what was said lately, by the clock that nobody sets: the first time and each after it."""
    monkeypatch.setattr(workers, "DEAD_SECONDS", 0)
    shared = SharedDirectory(tmp_path)
    for _ in range(2):
        shared.beat(0, healthy=True)
        assert shared.alive(1) == 0
