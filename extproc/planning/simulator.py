"""The simulator: arrivals, one routing decision each, instances advanced in between.

The compiled kernel runs every instance up to the next arrival; the decision is made here, by a `Policy`. What is in
memory is what is in flight: batches of arrivals are read as they are needed, latencies go to histograms.
"""

import itertools
import math
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from extproc.budget.observation import Outcome
from extproc.config import Pool, Spillover
from extproc.planning import kernel, rows
from extproc.planning.dispatch import Policy
from extproc.planning.engine import Engine
from extproc.planning.errors import PlanError
from extproc.planning.measures import Measures
from extproc.planning.spilling import Spilling
from extproc.planning.trace import Batch
from extproc.planning.workload import NO_CAP
from extproc.routing.spillover import Server

START_ROWS = 4096
MOST_PLACES = 20_000_000
"""Sequences of all instances together: 160 MB of row numbers."""


@dataclass(frozen=True)
class SimulatedPool:
    """A pool to simulate: `instances` of `engine`."""

    name: str
    engine: Engine
    instances: int

    @property
    def routed_to(self) -> Pool:
        """The pool as the router knows it."""
        return Pool(name=self.name, capacity=self.engine.max_model_len)


class Machines:
    """The instances of all pools and the requests in them: a thin, growing wrapper around the kernel's tables.

    Times in seconds, prompts and targets (output) in tokens.
    """

    def __init__(self, pools: list[SimulatedPool]) -> None:
        """Raises `PlanError` for more sequences than fit in memory."""
        places = sum(p.instances * max(1, p.engine.slots) for p in pools)
        if places > MOST_PLACES:
            raise PlanError(
                f"{places} sequences at once: at most {MOST_PLACES} can be simulated; lower --rate or --instances"
            )
        self.instances = rows.instance_table([p.engine for p in pools], [p.instances for p in pools])
        edges = np.cumsum([0, *(p.instances for p in pools)]).tolist()
        self.ranges = list(itertools.pairwise(edges))
        self.slots = np.zeros((len(self.instances), int(self.instances["seqs"].max())), np.int64)
        self.counts = np.array([START_ROWS, 0])
        self.free_rows = np.arange(START_ROWS)[::-1].copy()
        self.requests = np.zeros(START_ROWS, rows.REQUEST)
        self.finished = np.zeros(2 * START_ROWS, rows.FINISHED)  # room for those not taken and all in flight

    def advance(self, time: float) -> int:
        """Run to `time`; return how many finished requests wait to be taken."""
        count: int = kernel.advance(
            time, self.instances, self.slots, self.requests, self.counts, self.free_rows, self.finished
        )
        return count

    def submit(self, time: float, pool: int, serial: int, prompt: int, target: int) -> None:
        """Queue a request in `pool`, in a longer table when all rows are in use."""
        if self.counts[rows.FREE_ROWS] == 0:
            self._grow()
        first, last = self.ranges[pool]
        kernel.submit(
            time,
            first,
            last,
            serial,
            prompt,
            target,
            self.instances,
            self.slots,
            self.requests,
            self.counts,
            self.free_rows,
        )

    def servers(self, pool: int) -> list[Server]:
        """Return the state of the instances of `pool`, as vLLM's metrics would tell it."""
        first, last = self.ranges[pool]
        table = self.instances[first:last]
        kv_use = 1 - table["free"] / table["blocks"]
        columns = (table["waiting"].tolist(), table["running"].tolist(), kv_use.tolist())
        return [Server(*row) for row in zip(*columns, strict=True)]

    def take(self) -> np.ndarray[Any, Any]:
        """Return a copy of the finished requests and forget them."""
        taken = self.finished[: self.counts[rows.FINISHED_ROWS]].copy()
        self.counts[rows.FINISHED_ROWS] = 0
        return taken

    def _grow(self) -> None:
        size = len(self.requests)
        self.requests = np.concatenate([self.requests, np.zeros(size, rows.REQUEST)])
        self.finished = np.concatenate([self.finished, np.zeros(2 * size, rows.FINISHED)])
        self.free_rows = np.concatenate([np.arange(size, 2 * size), np.zeros(size, np.int64)])
        self.counts[rows.FREE_ROWS] = size


class Simulation:
    """One run of one policy over one stream of arrivals.

    `ttft`: objective for the time to first token, s. `spillover`: settings of it, None: requests stay.
    """

    def __init__(
        self,
        pools: list[SimulatedPool],
        policy: Policy,
        *,
        ttft: float = math.inf,
        spillover: Spillover | None = None,
    ) -> None:
        """Raises `PlanError` for pools that vLLM would not start with, or that are too many to simulate."""
        for pool in pools:
            if not pool.engine.fits:
                raise PlanError(
                    f"pool {pool.name}: max_model_len {pool.engine.max_model_len} does not fit its KV cache of "
                    f"{pool.engine.kv_tokens} tokens"
                )
        self.pools, self._policy = pools, policy
        self._capacities = [p.engine.max_model_len for p in pools]
        self.machines = Machines(pools)
        known = [pool.routed_to for pool in pools]
        self._spilling = Spilling(known, spillover, self.machines.servers) if spillover else None
        self.by_pool = [Measures(ttft) for _ in pools]
        self.fleet = Measures(ttft)
        self.retried = self.rejected = self.truncated = self.spilled = self.arrived = 0
        self.refused = [0] * len(pools)
        self._cut: set[int] = set()
        self._seen = 0
        self.time = self.span = 0.0

    def run(self, batches: Iterator[Batch], progress: Callable[[int], None] = lambda _done: None) -> None:
        """Simulate every request of `batches` until the last has finished. `span`: when the last one arrived."""
        for batch in batches:
            requests = zip(*(column.tolist() for column in batch), strict=True)
            for time, prompt, output, cap, size in requests:
                self._advance(time)
                self._arrive(time, prompt, max(1, output), cap, size)
            progress(self.arrived)
        self.span = self.time
        self._drain()

    def _advance(self, time: float) -> None:
        self.time = time
        count = self.machines.advance(time)
        if count > self._seen:
            self._hear(count)

    def _hear(self, count: int) -> None:
        """Tell the policy of requests that ended since, in the order they did; file them when there are many."""
        ended = self.machines.finished[self._seen : count][["end", "serial", "generated"]].tolist()
        ended.sort(key=operator.itemgetter(0))
        for _, serial, generated in ended:
            outcome: Outcome = "completed"
            if serial in self._cut:
                self._cut.remove(serial)
                outcome = "truncated"
            self._policy.ended(serial, generated, outcome)
        self._seen = count
        if count >= START_ROWS // 2:
            self._file()

    def _file(self) -> None:
        taken = self.machines.take()
        self._seen = 0
        self.fleet.take(taken)
        for place, measures in enumerate(self.by_pool):
            measures.take(taken[taken["pool"] == place])

    def _arrive(self, time: float, prompt: int, output: int, cap: int, size: int) -> None:
        serial = self.arrived
        self.arrived += 1
        place = self._policy.choose(serial, prompt, output, cap, size)
        last = len(self.pools) - 1
        if self._spilling is not None:
            chosen, place = place, self._spilling.place(time, place)
            self.spilled += place != chosen
        least = prompt + (1 if cap == NO_CAP else cap)
        if least > self._capacities[place] and place < last:
            self.refused[place] += 1
            self.retried += 1
            place = last
        if least > self._capacities[place]:
            self.refused[place] += 1
            self.rejected += 1
            self._policy.ended(serial, 0, "rejected")
            return
        room = self._capacities[place] - prompt
        if output > room:
            self.truncated += 1
            self._cut.add(serial)
        self.machines.submit(time, place, serial, prompt, min(output, room))

    def _drain(self) -> None:
        """Let every instance run until it is idle."""
        ends = self.machines.instances["end"]
        while len(busy := ends[np.isfinite(ends)]):
            self._advance(float(busy.max()))
        self._file()
