"""Files that are written whole or not at all, and known again."""

import os
import tempfile
from pathlib import Path

Signature = tuple[int, int, int, int]


def signature(path: Path) -> Signature | None:
    """Return what tells the file that `path` leads to from another or a changed one; None when there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


def replace(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Put `content` at `path` in one step: a reader sees the old file or the new one. Raises `OSError`.

    Of a link, what it leads to is replaced. `mode`: who may read it; Envoy, which reads the in-proxy filter, runs
    as another user.
    """
    path = path.resolve()
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(mode)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
