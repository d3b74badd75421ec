"""Files that are written whole or not at all, and known again."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path

Signature = tuple[int, int, int, int]

_UMASK = os.umask(0o077)
os.umask(_UMASK)
_USUAL_MODE = 0o666 & ~_UMASK
"""What `open` gives a new file. Found once, since it cannot be asked for without being changed."""


def signature(path: Path) -> Signature | None:
    """Return what tells the file that `path` leads to from another or a changed one; None when there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


def replace(path: Path, content: bytes, mode: int | None = None, *, follow: bool = True) -> None:
    """Put `content` at `path` in one step: a reader sees the old file or the new one. Raises `OSError`.

    Of a link, what it leads to is replaced; of one that leads to itself, or with `follow` false, the link. `mode`:
    who may read it, by default as the process's umask says.
    """
    if follow:
        path = Path(os.path.realpath(path))  # Path.resolve raises RuntimeError where a link leads to itself
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(handle, _USUAL_MODE if mode is None else mode)
            file.write(content)
            file.flush()
            os.fsync(handle)
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise
    with suppress(OSError):  # it is in place: an error here would say that it is not
        _flush_directory(path.parent)


def _flush_directory(path: Path) -> None:
    """Make the rename itself survive a power cut, where the file system can."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
