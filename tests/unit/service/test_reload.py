"""Reloading the configuration."""

import asyncio
from pathlib import Path

import pytest

from extproc.config import Config
from extproc.config_file import load
from extproc.service import reload as module
from extproc.service.reload import Reloader
from extproc.state.atomic import Signature
from tests.unit.service.waiting import until

GOOD = "routing: {shadow: true}"


class Seen:
    """What a reloader was seen to do."""

    def __init__(self, path: Path | None, seen: Signature | None = None) -> None:
        self.applied: list[Config] = []
        self.reports: list[bool] = []
        self.reloader = Reloader(path, lambda p: load(p, {}), self._apply, self.reports.append, seen)

    def _apply(self, config: Config) -> None:
        self.applied.append(config)

    async def until(self, reports: int) -> None:
        await until(lambda: len(self.reports) >= reports)


@pytest.fixture
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.01)


async def test_a_good_file_is_applied(tmp_path: Path) -> None:
    """The whole configuration is handed on."""
    file = tmp_path / "config.yaml"
    file.write_text(GOOD)
    seen = Seen(file)
    await seen.reloader.reload()
    assert [c.routing.shadow for c in seen.applied] == [True]
    assert seen.reports == [True]


@pytest.mark.parametrize("text", ["routing: {shadow: maybe}\noutput: {quantile: 7}", "{", "\x00", "- 1"])
def test_a_bad_file_changes_nothing(tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture) -> None:
    """Every problem is logged, the attempt is counted, and nothing is applied."""
    file = tmp_path / "config.yaml"
    file.write_text(text)
    seen = Seen(file)
    asyncio.run(seen.reloader.reload())
    assert (seen.applied, seen.reports) == ([], [False])
    assert caplog.text.count(f"configuration not reloaded: {file}") == (2 if "quantile" in text else 1)


@pytest.mark.usefixtures("_often")
async def test_a_swapped_symlink_is_noticed(tmp_path: Path) -> None:
    """A ConfigMap's directory is replaced by a symlink to a new one; the path stays the same."""
    for name, text in (("a", "{}"), ("b", GOOD)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text(text)
    data = tmp_path / "..data"
    data.symlink_to("a")
    (tmp_path / "config.yaml").symlink_to("..data/config.yaml")
    seen = Seen(tmp_path / "config.yaml")
    task = asyncio.create_task(seen.reloader.run())
    (tmp_path / "new").symlink_to("b")
    (tmp_path / "new").replace(data)
    await seen.until(1)
    task.cancel()
    assert [c.routing.shadow for c in seen.applied] == [True]


@pytest.mark.usefixtures("_often")
async def test_a_file_that_is_gone_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deleting the file changes nothing; the one written next is read."""
    file = tmp_path / "config.yaml"
    file.write_text("{}")
    seen = Seen(file)
    missed = asyncio.Event()
    signature = Reloader._signature

    def noticed(reloader: Reloader) -> Signature | None:
        found = signature(reloader)
        if found is None:
            missed.set()
        return found

    monkeypatch.setattr(Reloader, "_signature", noticed)
    file.unlink()
    task = asyncio.create_task(seen.reloader.run())
    await missed.wait()
    assert seen.reports == []
    (tmp_path / "new").write_text(GOOD)
    (tmp_path / "new").replace(file)
    await seen.until(1)
    task.cancel()
    assert seen.applied


async def test_it_reloads_when_asked() -> None:
    """SIGHUP reloads though there is no file: the environment is one too."""
    seen = Seen(None)
    task = asyncio.create_task(seen.reloader.run())
    seen.reloader.ask()
    await seen.until(1)
    task.cancel()
    assert seen.reports == [True]


@pytest.mark.parametrize("text", ["", " \n"])
def test_an_empty_file_changes_nothing(tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture) -> None:
    """A command that failed leaves one where its output was to go; all defaults at once are hardly meant."""
    file = tmp_path / "config.yaml"
    file.write_text(text)
    seen = Seen(file)
    asyncio.run(seen.reloader.reload())
    assert (seen.applied, seen.reports) == ([], [False])
    assert f"{file}: is empty" in caplog.text


@pytest.mark.usefixtures("_often")
async def test_a_file_that_is_being_written_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read when it has stayed as it is from one look to the next, and then not again."""
    file = tmp_path / "config.yaml"
    file.write_text(GOOD)
    seen = Seen(file)
    looks: list[Signature] = []

    def look(_: Reloader) -> Signature:
        looks.append((1, 1, min(len(looks), 4), 1))
        return looks[-1]

    monkeypatch.setattr(Reloader, "_signature", look)
    task = asyncio.create_task(seen.reloader.run())
    await seen.until(1)
    read_at = len(looks)
    assert looks[4:6] == [looks[-1]] * 2
    await until(lambda: len(looks) > read_at + 1)
    task.cancel()
    assert seen.reports == [True]


@pytest.mark.usefixtures("_often")
@pytest.mark.parametrize(("last", "reports"), [(None, []), ((1, 1, 0, 1), [True])], ids=["this", "another"])
async def test_a_start_reads_what_was_not_seen_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: Signature | None, reports: list[bool]
) -> None:
    """A worker that replaces another reads what that one had no time for, and nothing else."""
    file = tmp_path / "config.yaml"
    file.write_text(GOOD)
    looks: list[Signature] = []

    def look(_: Reloader) -> Signature:
        looks.append((1, 1, 1, 1))
        return looks[-1]

    monkeypatch.setattr(Reloader, "_signature", look)
    seen = Seen(file, last)
    task = asyncio.create_task(seen.reloader.run())
    await until(lambda: len(looks) > 5)
    task.cancel()
    assert seen.reports == reports


async def test_a_file_that_vanishes_while_it_is_read_is_one_problem(tmp_path: Path) -> None:
    """The next that is written is read as any other."""
    seen = Seen(tmp_path / "config.yaml")
    await seen.reloader.reload()
    (tmp_path / "config.yaml").write_text(GOOD)
    await seen.reloader.reload()
    assert seen.reports == [False, True]
