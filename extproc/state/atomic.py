"""Files that are written whole or not at all, and known again."""

import os
from contextlib import suppress
from pathlib import Path

Signature = tuple[int, int, int, int]


def signature(path: Path) -> Signature | None:
    """Return what tells the file that `path` leads to from another or a changed one; None when there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


def replace(path: Path, content: bytes, mode: int | None = None) -> None:
    """Put `content` at `path` in one step: a reader sees the old file or the new one. Raises `OSError`.

    Of a link, what it leads to is replaced; of one that leads to itself, the link. `mode`: who may read it, by
    default as the process's umask says.
    """
    path = Path(os.path.realpath(path))  # Path.resolve raises RuntimeError where a link leads to itself
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666 if mode is None else mode)
        with os.fdopen(handle, "wb") as file:
            if mode is not None:
                os.fchmod(handle, mode)
            file.write(content)
            file.flush()
            os.fsync(handle)
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
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
