"""Learned figures in a file, which is written atomically and shared by the processes of one machine under a lock.

Readers find the old or the new figures, never half of them: figures go to a temporary file beside it, which is
flushed to disk and then renamed over it.
"""

import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from extproc.budget.sums import Table, surest
from extproc.state.atomic import Signature, replace, signature
from extproc.state.codec import AGEING_SECONDS, LARGEST, Ageing, BadStateError, Stored, decode, encode
from extproc.state.store import StoreError, new_lineage, updated

log = logging.getLogger(__name__)

LOCK_SECONDS = 1.0
LOCK_POLL_SECONDS = 0.01


def save(path: Path, table: Table, now: float | None = None, lineage: str = "") -> None:
    """Write `table` to `path` atomically. `now`: seconds since 1970, by default the time. Raises `OSError`."""
    replace(path, encode(table, time.time() if now is None else now, lineage=lineage))


def load(path: Path) -> Stored | None:
    """Read `path`; None when there is no such file. Raises `BadStateError` and `OSError`."""
    try:
        with path.open("rb") as file:
            return decode(file.read(LARGEST + 1))
    except FileNotFoundError:
        return None


class FileStore:
    """A state file as a store. `half_life`: seconds after which figures count half; may be infinite."""

    def __init__(
        self, path: Path, half_life: float, clock: Callable[[], float] = time.time, name: str = "file"
    ) -> None:
        self.name = name
        self.lineage = ""
        self._path = Path(os.path.realpath(path))  # through symbolic links
        self._ageing = Ageing(half_life)
        self._clock = clock
        self._seen: Signature | None = None
        self._saved = 0.0  # when the state in `_seen` was written
        self._others: Table = {}  # what was in the file when it was last found written by others

    def read(self) -> Table:
        """Return the stored figures, faded by age. A file that is not a readable state is set aside."""
        with self._errors():
            seen = signature(self._path)
            try:
                stored = load(self._path)  # needs no lock, so works in a read-only directory too
            except BadStateError:
                with self._locked():
                    stored = self._load()
            kept = self._aged(stored)
            self._seen, self._saved, self._others, self.lineage = seen, kept.saved, kept.table, kept.lineage
            return self._others

    def exchange(self, pending: Table, whole: Table, limit: int) -> Table | None:
        """Merge `pending` into the file and return the result; None when the file is what was last returned."""
        with self._errors(), self._locked():
            fresh = self._clock() - self._saved < AGEING_SECONDS
            if fresh and not pending and self._seen is not None and self._seen == signature(self._path):
                return None
            kept = self._aged(self._load())
            new = updated(kept, pending, whole, limit, self.lineage, self._clock())
            if new is not None:
                self._save(new.table, new.lineage)
                return new.table
            self._seen, self._saved, self.lineage = signature(self._path), kept.saved, kept.lineage
            return kept.table or None

    def replace(self, whole: Table, limit: int) -> None:
        """Store `whole`, except for figures of which the file, written by others, has seen more."""
        with self._errors(), self._locked():
            if self._seen != signature(self._path):
                self._others = self._aged(self._load()).table
            table = surest(whole, self._others, limit)
            if table:
                self._save(table, self.lineage or new_lineage())

    def _save(self, table: Table, lineage: str) -> None:
        now = self._clock()
        save(self._path, table, now, lineage)
        self._seen, self._saved, self.lineage = signature(self._path), now, lineage

    def _load(self) -> Stored | None:
        try:
            return load(self._path)
        except BadStateError as error:
            self._set_aside(error)
            return None

    def _aged(self, stored: Stored | None) -> Stored:
        return self._ageing.aged(stored, self._clock())

    def _set_aside(self, reason: BadStateError) -> None:
        """Rename the unreadable file, replacing one set aside before, and go on without it."""
        aside = self._path.with_name(f"{self._path.name}.set-aside")
        try:
            self._path.replace(aside)
        except OSError as error:
            log.warning("state.file: %s: %s; it is ignored (cannot be moved: %s)", self._path, reason, error)
        else:
            log.warning("state.file: %s: %s; it is now %s, and a new file is begun", self._path, reason, aside)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock of the file. Raises `StoreError` when another process holds it for too long."""
        descriptor = os.open(self._path.with_name(f".{self._path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            deadline = time.monotonic() + LOCK_SECONDS
            while not _try_lock(descriptor):
                if time.monotonic() > deadline:
                    raise StoreError(f"state.file: {self._path}: locked by another process for {LOCK_SECONDS:g} s")
                time.sleep(LOCK_POLL_SECONDS)
            yield
        finally:
            os.close(descriptor)  # which also unlocks

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(f"state.file: {self._path}: {error.strerror or error}") from error


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
