"""Where a fault is tried, and what came of it: facts that always hold, and times that a busy machine may miss."""

import itertools
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from extproc.demo.service import Service
from tests.envoy.load import Sent
from tests.envoy.pools import Pools
from tests.envoy.stack import Stack, shipped_stack

T = TypeVar("T")


@dataclass(frozen=True)
class Figure:
    """Something measured, and the most it may be. `timed`: a time, not a fact."""

    name: str
    value: float
    most: float
    timed: bool = False

    @property
    def good(self) -> bool:
        """Whether it is within its bound."""
        return self.value <= self.most


@dataclass(frozen=True)
class Outcome:
    """What became of the requests, and what else was measured."""

    sent: Sequence[Sent]
    figures: Sequence[Figure] = field(default=())

    @property
    def failed(self) -> list[Sent]:
        """Requests that were not answered with a whole 200."""
        return [sent for sent in self.sent if sent.status != 200]


class Ground:
    """Starts what a scenario needs, in `directory` and before `pools`; `stack` ends it."""

    def __init__(self, directory: Path, pools: Pools, stack: ExitStack) -> None:
        self.directory = directory
        self._pools = pools
        self._stack = stack
        self._numbers = itertools.count()

    def start(self, **options: Any) -> Stack:
        """Start an Envoy, with a service unless told otherwise (see `shipped_stack`)."""
        return self.enter(shipped_stack(self.place(), self._pools, **options))

    def service(self, settings: dict[str, Any]) -> Service:
        """Start a service."""
        return self.enter(Service(settings, self.place()))

    def enter(self, context: AbstractContextManager[T]) -> T:
        """Enter `context` until the scenario is over."""
        return self._stack.enter_context(context)

    def place(self) -> Path:
        """Return a new directory."""
        place = self.directory / str(next(self._numbers))
        place.mkdir(parents=True)
        return place


def added(name: str, before: Sequence[Sent], during: Sequence[Sent]) -> list[Figure]:
    """Return by how much the median and the 95th percentile of latency grew, in milliseconds."""
    was, now = (sorted(sent.seconds for sent in each) for each in (before, during))
    return [
        Figure(f"{name}, {word} ms added", round(1e3 * (_quantile(now, q) - _quantile(was, q)), 2), 10, timed=True)
        for word, q in (("median", 0.5), ("95th percentile", 0.95))
    ]


def _quantile(ordered: Sequence[float], q: float) -> float:
    return ordered[min(int(q * len(ordered)), len(ordered) - 1)]
