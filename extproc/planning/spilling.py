"""The service's spillover in simulated time: the same marks, the same judgement, looked at as seldom."""

from collections.abc import Callable, Sequence

from extproc.config import Pool, Spillover
from extproc.routing.spillover import UNKNOWN, Levels, Server, by_servers, judge, spill


class Spilling:
    """Takes requests from a saturated pool to the next. `servers(place)`: the state of a pool's instances now.

    As the service does it looks every `interval_seconds`, at the first arrival after that, and acts on what it saw
    until it looks again.
    """

    def __init__(
        self, pools: Sequence[Pool], settings: Spillover, servers: Callable[[int], Sequence[Server]]
    ) -> None:
        self._pools = tuple(pools)
        self._places = {pool.name: place for place, pool in enumerate(pools)}
        self._settings = settings
        self._servers = servers
        self._levels: Levels = {}
        self._next_look = 0.0

    def place(self, time: float, place: int) -> int:
        """Return where a request for `place` goes at `time`, s."""
        if time >= self._next_look:
            self._look()
            self._next_look = time + self._settings.interval_seconds
        # A larger pool holds it: a simulated pool has no threshold below its capacity.
        spilled = spill(self._pools, self._pools[place], self._levels, lambda _: True)
        return place if spilled is None else self._places[spilled.name]

    def _look(self) -> None:
        before = self._levels
        readings = {pool: by_servers(self._servers(place), self._settings) for pool, place in self._places.items()}
        self._levels = {
            pool: judge(before.get(pool, UNKNOWN), {"vllm": reading} if reading else {}, self._settings.leave)
            for pool, reading in readings.items()
        }
