"""Writes files atomically, and recognises whether a file has changed."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path

Signature = tuple[int, int, int, int]

_UMASK = os.umask(0o077)
os.umask(_UMASK)
_USUAL_MODE = 0o666 & ~_UMASK
"""The mode that `open` gives a new file. Read once at import, since the umask cannot be read without setting it."""


def signature(path: Path) -> Signature | None:
    """Return an identity of the file that `path` leads to, which changes with the file; None without a file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


def replace(path: Path, content: bytes, mode: int | None = None, *, follow: bool = True) -> None:
    """Put `content` at `path` in one step: readers see the old file or the new one. Raises `OSError`.

    `mode`: the file's mode, by default what the umask leaves. If `path` is a symbolic link, its target is replaced;
    with `follow` false, or if the link leads to itself, the link is.
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
    with suppress(OSError):  # the file is in place: an error now would say that it is not
        _flush_directory(path.parent)


def _flush_directory(path: Path) -> None:
    """Make the rename survive a power failure, where the file system can."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
