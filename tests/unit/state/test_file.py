"""The state file."""

import fcntl
import math
import os
import stat
from pathlib import Path

import pytest

from extproc.budget.sums import Table
from extproc.state import codec
from extproc.state import file as module
from extproc.state.codec import AGEING_SECONDS, Stored, decode, encode
from extproc.state.file import FileStore, load, save
from extproc.state.store import StoreError
from tests.unit.budget.figures import GLOBAL, table


def store(path: Path, now: float = 1000.0) -> FileStore:
    return FileStore(path, half_life=3600, clock=lambda: now)


def test_saved_figures_are_loaded(tmp_path: Path) -> None:
    """`save` and `load` are each other's reverse, and leave nothing else behind."""
    path = tmp_path / "state.json"
    save(path, table(3), now=5.0)
    stored = load(path)
    assert stored is not None
    assert (stored.table, stored.saved) == (table(3), 5.0)
    assert [p.name for p in tmp_path.iterdir()] == ["state.json"]


def test_there_need_not_be_a_file(tmp_path: Path) -> None:
    """The first start finds nothing, and that is no error."""
    assert load(tmp_path / "state.json") is None
    assert store(tmp_path / "state.json").read() == {}


@pytest.mark.parametrize("pending", [table(1), {}])
def test_the_first_exchange_keeps_everything(tmp_path: Path, pending: Table) -> None:
    """An empty store is given all that is known, not only what is new, nor only when something is."""
    path = tmp_path / "state.json"
    one = store(path)
    one.read()
    assert one.exchange(pending, whole=table(5), limit=64) == table(5)
    assert decode(path.read_bytes()).table == table(5)


def test_what_a_running_service_keeps_does_not_age(tmp_path: Path) -> None:
    """Written again though nothing is new, it is young when another starts; what has no age never gets any."""
    path, now = tmp_path / "state.json", [1000.0]

    def store(half_life: float = 3600.0) -> FileStore:
        return FileStore(path, half_life, clock=lambda: now[0])

    one = store()
    one.exchange({}, whole=table(8), limit=64)
    now[0] += AGEING_SECONDS - 1
    assert one.exchange({}, whole=table(8), limit=64) is None
    assert decode(path.read_bytes()).saved == 1000.0
    for _ in range(3):
        now[0] += 3600
        one.exchange({}, whole=table(8), limit=64)
        assert decode(path.read_bytes()) == Stored(table(8), now[0], {}, one.lineage)
    assert store().read() == table(8)
    now[0] += 1e9
    assert store(math.inf).read() == table(8)


def test_what_was_old_at_a_start_ages_once(tmp_path: Path) -> None:
    """Written again it is as sure as it was read."""
    path = tmp_path / "state.json"
    save(path, table(8), now=1000.0)
    for _ in range(2):
        one = store(path, now=4600.0)
        assert one.read()[GLOBAL].samples == 4
        one.exchange({}, whole=one.read(), limit=64)


def test_who_knows_nothing_begins_nothing(tmp_path: Path) -> None:
    """What it wrote others would take for what is known by all."""
    path = tmp_path / "state.json"
    assert store(path).exchange({}, whole={}, limit=64) is None
    store(path).replace({}, limit=64)
    assert not path.exists()


@pytest.mark.parametrize("spoil", ["deleted", "torn", "written empty"])
def test_a_file_begun_anew_takes_nothing_away(tmp_path: Path, spoil: str) -> None:
    """Another service came first and knew little: who knows more gives it back, and what is new counts once."""
    path = tmp_path / "state.json"
    one, two, other = store(path), store(path), ("ratio", "text", "m", "")
    one.exchange({}, whole=table(40), limit=64)
    assert two.exchange({}, whole={}, limit=64) == table(40)
    if spoil == "deleted":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-3] if spoil == "torn" else encode({}, 1000.0))
    new: Table = {GLOBAL: table(1)[GLOBAL], other: table(5)[GLOBAL]}
    assert store(path).exchange(new, whole=new, limit=64) == new
    assert one.exchange(table(2), whole=table(42), limit=64) == {GLOBAL: table(42)[GLOBAL], other: new[other]}
    assert two.exchange(table(3), whole=table(43), limit=64) == {GLOBAL: table(45)[GLOBAL], other: new[other]}
    assert one.exchange({}, whole=table(42), limit=64) == load(path).table  # type: ignore[union-attr]


def test_a_file_without_a_lineage_takes_nothing_away(tmp_path: Path) -> None:
    """As `calibrate` writes it: it does not say what it goes on from, so it may be anything."""
    path = tmp_path / "state.json"
    save(path, table(40), now=1000.0)
    one = store(path)
    assert one.read() == table(40)
    save(path, table(3), now=1000.0)
    assert one.exchange({}, whole=table(40), limit=64) == table(40)
    assert one.exchange(table(1), whole=table(41), limit=64) == table(41)
    assert load(path).lineage != ""  # type: ignore[union-attr]


def test_who_keeps_less_does_not_cut_what_others_keep(tmp_path: Path) -> None:
    """Two that write in turns because each misses something of its own would write for ever."""
    path = tmp_path / "state.json"
    figures: Table = {("ratio", "text", f"m{number}", ""): table(1)[GLOBAL] for number in range(60)}
    store(path).exchange({}, whole=figures, limit=64)
    assert store(path).exchange({}, whole=dict(list(figures.items())[:9]), limit=10) == figures
    assert load(path).table == figures  # type: ignore[union-attr]


def test_an_exchange_merges(tmp_path: Path) -> None:
    """What is kept and what is new become what all have."""
    path = tmp_path / "state.json"
    first, second = store(path), store(path)
    first.exchange({}, whole=table(5), limit=64)
    assert second.exchange(table(2), whole=table(2), limit=64) == table(7)
    assert first.exchange({}, whole=table(5), limit=64) == table(7)


def test_what_is_new_is_merged_though_nobody_else_has_written(tmp_path: Path) -> None:
    """As with one service that has its file for itself."""
    path = tmp_path / "state.json"
    one = store(path)
    one.exchange({}, whole=table(5), limit=64)
    assert one.exchange(table(1), whole=table(6), limit=64) == table(6)
    assert decode(path.read_bytes()).table == table(6)


def test_an_exchange_without_news_on_either_side_says_so(tmp_path: Path) -> None:
    """The file is neither read nor written when there is nothing to say."""
    path = tmp_path / "state.json"
    one = store(path)
    one.exchange({}, whole=table(5), limit=64)
    before = path.stat()
    assert one.exchange({}, whole=table(5), limit=64) is None
    assert path.stat().st_mtime_ns == before.st_mtime_ns


@pytest.mark.parametrize("data", [b"torn", b"", encode(table(1), 0.0)[:-3], b"x" * 100, b'{"x":' + b"[" * 10_000])
def test_an_unreadable_file_is_set_aside(tmp_path: Path, data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """It is kept under another name, the log says why, and a new file is begun."""
    path = tmp_path / "state.json"
    path.write_bytes(data)
    one = store(path)
    assert one.read() == {}
    assert (tmp_path / "state.json.set-aside").read_bytes() == data
    assert "a new file is begun" in caplog.text
    assert one.exchange(table(1), whole=table(1), limit=64) == table(1)


def test_an_endless_file_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file longer than any state could be is set aside."""
    monkeypatch.setattr(codec, "LARGEST", 10)
    path = tmp_path / "state.json"
    path.write_bytes(b"x" * 11)
    assert store(path).read() == {}
    assert not path.exists()


def test_old_figures_fade_when_read(tmp_path: Path) -> None:
    """A file found after a half-life counts for half."""
    path = tmp_path / "state.json"
    save(path, table(8), now=1000.0)
    assert store(path, now=1000.0 + 3600).read()[GLOBAL].samples == 4


@pytest.mark.parametrize("where", ["missing/state.json", "file/state.json"])
def test_a_place_that_cannot_be_written_is_a_store_error(tmp_path: Path, where: str) -> None:
    """The message names the key and the path; nothing else is raised."""
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(StoreError, match=r"state\.file: .*state\.json: "):
        store(tmp_path / where).exchange(table(1), whole=table(1), limit=64)


def test_a_full_disk_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the new figures cannot be written whole, the old ones stay and no scraps are left."""
    path = tmp_path / "state.json"
    save(path, table(3), now=1000.0)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left on device"):
        store(path).exchange(table(1), whole=table(4), limit=64)
    assert decode(path.read_bytes()).table == table(3)
    assert not list(tmp_path.glob("*.tmp"))


def test_a_lock_that_is_never_released_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stopped process that holds the lock costs a bounded wait."""
    monkeypatch.setattr(module, "LOCK_SECONDS", 0.05)
    path = tmp_path / "state.json"
    one = store(path)
    one.exchange({}, whole=table(1), limit=64)
    with (tmp_path / ".state.json.lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(StoreError, match="locked by another process"):
            one.exchange(table(1), whole=table(2), limit=64)


def test_a_lock_that_is_released_soon_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process is at the file for a moment."""
    path = tmp_path / "state.json"
    with (tmp_path / ".state.json.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        monkeypatch.setattr("time.sleep", lambda _: fcntl.flock(lock, fcntl.LOCK_UN))
        assert store(path).exchange({}, whole=table(1), limit=64) == table(1)


def test_a_copy_takes_the_place_of_what_was_kept(tmp_path: Path) -> None:
    """What it wrote itself is not merged: another store has merged it. It is known again at the next exchange."""
    path = tmp_path / "state.json"
    one = store(path)
    one.exchange({}, whole=table(5), limit=64)
    one.replace(table(3), limit=64)
    assert decode(path.read_bytes()).table == table(3)
    assert one.exchange({}, whole=table(3), limit=64) is None


def test_what_another_wrote_is_returned_once(tmp_path: Path) -> None:
    """Until it changes again there is nothing new."""
    path = tmp_path / "state.json"
    first, second = store(path), store(path)
    first.exchange({}, whole=table(5), limit=64)
    assert second.exchange({}, whole={}, limit=64) == table(5)
    assert second.exchange({}, whole={}, limit=64) is None


def test_figures_are_on_the_disk_before_their_name_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a power cut there is the old file or the new one: first all bytes are flushed, then the rename."""
    path = tmp_path / "state.json"
    flushed: list[tuple[bool, int, bool]] = []

    def fsync(descriptor: int) -> None:
        found = os.fstat(descriptor)
        flushed.append((stat.S_ISDIR(found.st_mode), found.st_size, path.exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    save(path, table(3), now=5.0)
    (_, size, _), (_, directory, _) = flushed
    assert flushed == [(False, path.stat().st_size, False), (True, directory, True)]
    assert size > 0


def test_a_copy_leaves_what_others_write(tmp_path: Path) -> None:
    """Two services that each copy what they know to one file: what has seen more stays, at every turn."""
    path = tmp_path / "state.json"
    one, two = store(path), store(path)
    other = ("ratio", "text", "m", "")
    assert one.read() == two.read() == {}
    one.replace(table(50), limit=64)
    two.replace({GLOBAL: table(60)[GLOBAL], other: table(9)[GLOBAL]}, limit=64)
    for samples in (51, 52):
        one.replace(table(samples), limit=64)
        assert decode(path.read_bytes()).table == {GLOBAL: table(60)[GLOBAL], other: table(9)[GLOBAL]}
    one.replace(table(61), limit=64)
    assert decode(path.read_bytes()).table[GLOBAL] == table(61)[GLOBAL]


def test_a_link_leads_to_the_file_that_is_kept(tmp_path: Path) -> None:
    """It stays one: who links to a volume wants the figures there."""
    (tmp_path / "volume").mkdir()
    path = tmp_path / "state.json"
    path.symlink_to(tmp_path / "volume" / "kept.json")
    store(path).exchange({}, whole=table(5), limit=64)
    assert path.is_symlink()
    assert decode((tmp_path / "volume" / "kept.json").read_bytes()).table == table(5)
    assert (tmp_path / "volume" / ".kept.json.lock").exists()  # whichever link another process goes by


def test_a_link_to_itself_is_a_failure_like_others(tmp_path: Path) -> None:
    """It is told, and learning goes on."""
    path = tmp_path / "state.json"
    path.symlink_to(path)
    with pytest.raises(StoreError, match="symbolic links"):
        store(path).exchange({}, whole=table(5), limit=64)


def test_a_copy_takes_no_place_of_what_was_never_looked_at(tmp_path: Path) -> None:
    """A volume that comes late, a read that was given up: what is there has seen more than who knows nothing."""
    path = tmp_path / "state.json"
    save(path, table(200), now=1000.0)
    store(path).replace({}, limit=64)
    assert decode(path.read_bytes()).table == table(200)


def test_a_copy_is_bounded(tmp_path: Path) -> None:
    """Figures of others are the first to go."""
    path = tmp_path / "state.json"
    figures: Table = {("ratio", "text", f"m{number}", ""): table(1)[GLOBAL] for number in range(60)}
    one, two = store(path), store(path)
    one.replace(figures, limit=64)
    two.replace(table(5), limit=10)
    assert len(decode(path.read_bytes()).table) == 10
    assert decode(path.read_bytes()).table[GLOBAL] == table(5)[GLOBAL]
