"""Files that are written whole or not at all."""

import errno
import os
import stat
import threading
from pathlib import Path

import pytest

from extproc.state import atomic
from extproc.state.atomic import replace, signature


def test_nothing_is_written_through_a_link_beside_it(tmp_path: Path) -> None:
    """Whoever may write in the directory cannot have another file overwritten."""
    other = tmp_path / "other"
    other.write_bytes(b"kept")
    for name in (f".file.{os.getpid()}.tmp", ".file.tmp"):
        (tmp_path / name).symlink_to(other)
    replace(tmp_path / "file", b"new")
    assert (other.read_bytes(), (tmp_path / "file").read_bytes()) == (b"kept", b"new")


def test_two_writers_do_not_mix(tmp_path: Path) -> None:
    """Two services in containers, with the same number of process, may keep one file: a reader finds either's."""
    contents = [bytes([letter]) * 50_000 for letter in b"ab"]

    def write(content: bytes) -> None:
        for _ in range(50):
            replace(tmp_path / "file", content)

    writers = [threading.Thread(target=write, args=(content,)) for content in contents]
    for writer in writers:
        writer.start()
    seen = set()
    while any(writer.is_alive() for writer in writers):
        if (tmp_path / "file").exists():
            seen.add((tmp_path / "file").read_bytes())
    assert seen <= set(contents)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_directory_that_cannot_be_flushed_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is in place then: told otherwise, a store would add the same observations again."""

    def refuse(path: Path) -> None:
        raise OSError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(atomic, "_flush_directory", refuse)
    replace(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"


@pytest.mark.parametrize(("mode", "expected"), [(None, 0o666 & ~atomic._UMASK), (0o600, 0o600), (0o644, 0o644)])
def test_who_may_read_it(tmp_path: Path, mode: int | None, expected: int) -> None:
    """As the umask of the process says, or as asked for."""
    replace(tmp_path / "file", b"", mode)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == expected


def test_the_umask_is_read_and_not_changed() -> None:
    """Of a process that has imported the module."""
    now = os.umask(0)
    os.umask(now)
    assert now == atomic._UMASK


def test_of_a_link_what_it_leads_to_is_replaced(tmp_path: Path) -> None:
    """It stays one: who links to a volume wants the file there."""
    (tmp_path / "volume").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "volume" / "file")
    replace(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "volume" / "file").read_bytes() == b"new"


def test_a_file_that_was_edited_is_known_though_it_is_as_long(tmp_path: Path) -> None:
    """In place, as editors do: 4096 becomes 8192."""
    path = tmp_path / "file"
    path.write_text("4096")
    os.utime(path, ns=(1, 1))
    before = signature(path)
    path.write_text("8192")
    assert signature(path) != before


def test_a_write_keeps_no_descriptor(tmp_path: Path) -> None:
    """There are thousands of writes in the life of a service."""
    before = len(list(Path("/dev/fd").iterdir()))
    replace(tmp_path / "file", b"new")
    assert len(list(Path("/dev/fd").iterdir())) == before


def test_another_file_is_known_though_it_looks_the_same(tmp_path: Path) -> None:
    """As long, and written at the same moment."""
    signatures = []
    for name in ("one", "other"):
        (tmp_path / name).write_bytes(b"same")
        os.utime(tmp_path / name, ns=(1, 1))
        signatures.append(signature(tmp_path / name))
    assert None not in signatures
    assert signatures[0] != signatures[1]
    assert signature(tmp_path / "none") is None
