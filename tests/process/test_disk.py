"""A disk of its own for the state: a small one that fills up, and one that turns read-only."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.envoy.stack import until
from tests.process.talk import QUICK, Serving, exchange, serving
from tests.process.test_state import kept

FAILED = 'dualpool_state_exchanges_total{result="failed",store="file"}'
SPACE = ("unshare", "-rm")
"""A mount namespace, in which whoever is nobody may mount."""

pytestmark = pytest.mark.skipif(
    shutil.which("nsenter") is None
    or subprocess.run([*SPACE, "true"], capture_output=True, check=False).returncode != 0,
    reason="no user namespaces: a full disk is tried by a limit on file sizes only, a read-only one by /proc only",
)


class Disk:
    """The disk of a running service, seen from outside."""

    def __init__(self, service: Serving, place: Path) -> None:
        self._pid = service.process.pid
        self._place = place
        self.path = Path(f"/proc/{self._pid}/root{place}")

    def fill(self) -> None:
        """Write until nothing fits any more."""
        with (self.path / "filler").open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(b"x" * 512)

    def clear(self) -> None:
        """Make room again."""
        (self.path / "filler").unlink()

    def remount(self, mode: str) -> None:
        """`ro` or `rw`."""
        command = ["nsenter", "-t", str(self._pid), "-U", "--preserve-credentials", "-m", "mount", "-o"]
        subprocess.run([*command, f"remount,{mode}", str(self._place)], check=True)


@pytest.fixture
def on_disk(tmp_path: Path) -> Iterator[tuple[Serving, Disk]]:
    place = tmp_path / "disk"
    place.mkdir()
    mounted = 'mount -t tmpfs -o size=256k none "$0" && exec "$@"'
    python = (*SPACE, "sh", "-c", mounted, str(place), sys.executable, "-m", "extproc")
    settings = {"state": {"file": str(place / "state.json"), **QUICK}}
    with serving(tmp_path, settings, python=python) as service:
        exchange(service.address)
        disk = Disk(service, place)
        until(lambda: kept(disk.path / "state.json") == 1)
        yield service, disk


def goes_on(service: Serving, disk: Disk) -> None:
    """Requests are decided and learned from, the file is what it was, and nothing is left beside it."""
    before = (disk.path / "state.json").read_bytes()
    failed = service.metric(FAILED)
    assert exchange(service.address) == "short"
    until(lambda: service.metric(FAILED) > failed + 1)
    assert service.samples() == 2
    assert (disk.path / "state.json").read_bytes() == before
    assert not list(disk.path.glob(".*.tmp"))
    assert service.process.output().count("state.file: ") == 1


def test_a_full_disk_is_survived(on_disk: tuple[Serving, Disk]) -> None:
    """The file stays whole, and has everything once there is room."""
    service, disk = on_disk
    disk.fill()
    goes_on(service, disk)
    assert "No space left on device" in service.process.output()
    disk.clear()
    until(lambda: kept(disk.path / "state.json") == 2)


def test_a_disk_that_turns_read_only_is_survived(on_disk: tuple[Serving, Disk]) -> None:
    """The same, once it can be written again."""
    service, disk = on_disk
    disk.remount("ro")
    goes_on(service, disk)
    assert "Read-only file system" in service.process.output()
    disk.remount("rw")
    until(lambda: kept(disk.path / "state.json") == 2)


def test_a_state_that_cannot_be_written_is_read(on_disk: tuple[Serving, Disk], tmp_path: Path) -> None:
    """A start takes over what is there, though nothing can be kept."""
    _, disk = on_disk
    place = tmp_path / "other"
    place.mkdir()
    (place / "state.json").write_bytes((disk.path / "state.json").read_bytes())
    mounted = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'
    python = (*SPACE, "sh", "-c", mounted, str(place), sys.executable, "-m", "extproc")
    settings = {"state": {"file": str(place / "state.json"), **QUICK}}
    with serving(tmp_path, settings, python=python) as service:
        assert service.samples() == 1
        assert exchange(service.address) == "short"
        until(lambda: service.metric(FAILED) > 1)
        assert service.samples() == 2
