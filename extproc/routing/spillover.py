"""Spillover: which pools are saturated, and where their requests go meanwhile.

Pressure is how full a pool is, as a share of its mark: from 1 on the pool is saturated. It has room again once its
pressure has fallen to `leave`, so that a pressure that wavers around the mark does not toggle it.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, get_args

import msgspec

from extproc.config import Pool, Spillover

Source = Literal["vllm", "envoy", "in_flight"]
"""Who reports how full a pool is: its servers, Envoy's gauges, or our own count of decisions less ends."""

SOURCES: tuple[Source, ...] = get_args(Source)
"""In order of trust: the first that knows anything about a pool counts."""


class Server(msgspec.Struct, frozen=True):
    """One vLLM engine: requests `running` and `waiting`, and the share of its KV cache in use (0 to 1)."""

    waiting: float
    running: float = 0.0
    kv_use: float = 0.0


class Reading(msgspec.Struct, frozen=True):
    """How full one source finds a pool. `figures`: what `pressure` was computed from, for people."""

    pressure: float
    figures: dict[str, float] = {}


class Level(msgspec.Struct, frozen=True):
    """The judgement of a pool. `pressure`: None when nothing is known. `why`: in words, for people."""

    saturated: bool = False
    pressure: float | None = None
    source: Source | None = None
    figures: dict[str, float] = {}
    why: str = "nothing is known of it: it neither spills nor takes"

    @property
    def has_room(self) -> bool:
        """Whether it may take requests of a smaller pool."""
        return self.pressure is not None and not self.saturated


Levels = Mapping[str, Level]
"""By pool name."""

UNKNOWN = Level()


class Board:
    """Holds the levels of all pools. Each request reads `levels` once; the watcher replaces it as a whole."""

    def __init__(self) -> None:
        self.levels: Levels = {}


def by_servers(servers: Sequence[Server], marks: Spillover) -> Reading | None:
    """Return the pressure of a pool's median server, the lower one of two; None without servers.

    So a pool is saturated when more than half of its servers are: one that is stuck or has just started does not
    decide.
    """
    if not servers:
        return None
    pressures = [max(s.waiting / marks.waiting, s.kv_use / marks.kv_use) for s in servers]
    return Reading(
        statistics.median_low(pressures),
        {
            "servers": len(servers),
            "waiting": sum(s.waiting for s in servers),
            "running": sum(s.running for s in servers),
            "kv_use": statistics.fmean(s.kv_use for s in servers),
        },
    )


def by_requests(requests: float, mark: int) -> Reading:
    """Return the pressure of a pool that holds `requests` and is saturated by `mark`."""
    return Reading(requests / mark, {"requests": requests, "mark": mark})


def judge(before: Level, readings: Mapping[Source, Reading], leave: float) -> Level:
    """Return the new level of a pool that was at `before`, by the first source with a reading."""
    for source in SOURCES:
        reading = readings.get(source)
        if reading is None:
            continue
        pressure = reading.pressure
        if pressure >= 1:
            saturated, why = True, "saturated: at its mark or above"
        elif before.saturated and pressure > leave:
            saturated, why = True, f"saturated: below its mark again, but not down to {leave:g} of it"
        else:
            saturated, why = False, "has room"
        return Level(saturated, pressure, source, reading.figures, why)
    return UNKNOWN


def spill(pools: Sequence[Pool], chosen: Pool, levels: Levels, holds: Callable[[Pool], bool]) -> Pool | None:
    """Return the pool that a request spills to from `chosen`, None when it stays there.

    While `chosen` is saturated, that is the next larger pool that holds the request (`holds`), if it has room.
    O(pools of the set).
    """
    if not levels.get(chosen.name, UNKNOWN).saturated:
        return None
    for pool in pools:
        if pool.capacity > chosen.capacity and holds(pool):
            return pool if levels.get(pool.name, UNKNOWN).has_room else None
    return None
