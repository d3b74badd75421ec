"""Keeps the file of the in-proxy filter up to date: rewritten when figures have moved, and swapped by a rename.

When the service is gone, Envoy goes on with the last figures.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from extproc.service.in_proxy import Figures, read, written
from extproc.service.logs import Failing
from extproc.state.atomic import Signature, replace, signature

log = logging.getLogger(__name__)

LEARNED = {"figures", "of_models", "others"}
"""Keys of learned figures, which move while requests pass; all others are configured."""

_READABLE = 0o644  # Envoy runs as another user


class InProxyFile:
    """Keeps `path` up to date with the figures in force, which `collect(values)` puts into a dictionary.

    The file is written at the start, then at most every `interval` seconds, when a figure has moved by more than
    the share `step` or somebody else has replaced the file. `changes()`: a number that stays the same as long as no
    figure can have moved, which saves comparing them. `report(worked)` is called after every write.

    With thousands of models all this takes a second. So `collect` yields, which gives requests a turn, and figures
    are compared and written in a thread.
    """

    def __init__(
        self,
        path: Path,
        step: float,
        interval: float,
        collect: Callable[[Figures], Iterator[None]],
        changes: Callable[[], int],
        report: Callable[[bool], None],
    ) -> None:
        self._path = path
        self._step = step
        self._interval = interval
        self._collect = collect
        self._changes = changes
        self._report = report
        self._written: Figures | None = None
        self._signature: Signature | None = None
        self._compared: int | None = None
        self._failing = Failing()

    async def run(self) -> None:
        """Call `update` every `interval` seconds, until cancelled."""
        while True:
            await self.update()
            await asyncio.sleep(self._interval)

    async def update(self) -> bool:
        """Write the figures if they have moved. True when written; a write that fails is tried again next time."""
        ours = self._signature is not None and self._signature == signature(self._path)
        changes = self._changes()
        if ours and changes == self._compared:
            return False
        values: Figures = {}
        for _ in self._collect(values):
            await asyncio.sleep(0)
        try:
            wrote = await asyncio.to_thread(self._put, values)
        except OSError as error:
            if self._failing.begins():
                log.error("in_proxy.file: %s: cannot be written: %s", self._path, error.strerror)
            self._report(False)
            return False
        self._compared = changes
        self._failing.ends()
        if wrote:
            self._report(True)
        return wrote

    def _put(self, values: Figures) -> bool:
        """Write `values` unless the file, whoever wrote it, is within the step of them. Raises `OSError`."""
        found = signature(self._path)
        ours = found is not None and found == self._signature
        # Another replica may have written the file: if it knows the same, its file will do.
        known = self._written if ours else self._found()
        if known is not None and not moved(known, values, self._step):
            self._written, self._signature = known, found
            return False
        # A link is replaced itself: Envoy watches the directory of the path it was given.
        replace(self._path, written(values), _READABLE, follow=False)
        self._written, self._signature = values, signature(self._path)
        return True

    def _found(self) -> Figures | None:
        """Return the figures in the file, whoever wrote them."""
        try:
            return read(self._path.read_bytes())
        except OSError:
            return None


def moved(old: Figures, new: Figures, step: float) -> bool:
    """Whether a learned figure differs by more than the share `step`, or a configured one at all.

    A new row is compared with the row that decided in its place, so that a new model alone moves nothing.
    """
    return (
        old.keys() != new.keys()
        or any(_differs(old[key], new[key], 0.0) for key in old.keys() - LEARNED)
        or old["figures"].keys() != new["figures"].keys()
        or any(_differs(_row(old, *key), _row(new, *key), step) for key in _keys(old) | _keys(new))
    )


def _keys(values: Figures) -> set[tuple[str, str]]:
    """Return category and model of each row; "" stands for all."""
    rows = {("", ""), *(("", model) for model in values["of_models"])}
    return rows | {(category, model) for category, models in values["figures"].items() for model in models}


def _row(values: Figures, category: str, model: str) -> Figures:
    """Return the row that decides, as `figures_of` in in_proxy.lua does."""
    own = values["figures"].get(category, {}).get(model)
    row: Figures = own or values["of_models"].get(model) or values["others"]
    return row


def _differs(old: Any, new: Any, step: float) -> bool:
    if isinstance(old, dict) and isinstance(new, dict):
        return old.keys() != new.keys() or any(_differs(old[key], new[key], step) for key in old)
    if isinstance(old, int | float) and isinstance(new, int | float):
        return abs(new - old) > step * abs(old)
    return bool(old != new)
