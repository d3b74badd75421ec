"""The compiled part of the simulator: instances of continuous batching, advanced from arrival to arrival.

Each iteration of an instance is scheduled as vLLM's V1 scheduler does it: running sequences first, in order of
admission, each with as many tokens as it still has to compute and the token budget allows (one when it decodes);
when blocks run out the sequence admitted last is preempted, loses its blocks and is computed again later; then, if
nobody was preempted, waiting requests are admitted in order of arrival. Requests are rows of a reused table.
"""

from typing import Any

import numba
import numpy as np

from extproc.planning.engine import BLOCK
from extproc.planning.rows import FINISHED_ROWS, FREE_ROWS, NOBODY, Rows


def compiled(function: Any) -> Any:
    """Compile `function` once for all runs; in each, where it can be kept neither beside this file nor at home."""
    try:
        return numba.njit(cache=True)(function)
    except RuntimeError:  # "no locator available"
        return numba.njit(function)


@compiled
def _preempt(instance: Any, row: int, requests: Rows) -> None:
    """Take the blocks of a running request and put it at the head of the queue."""
    request = requests[row]
    instance.free += request.blocks
    request.blocks = 0
    request.done = 0
    request.chunk = 0
    request.preempted += 1
    request.behind = instance.head
    instance.head = row
    if instance.tail == NOBODY:
        instance.tail = row
    instance.waiting += 1
    instance.running -= 1
    instance.preemptions += 1


@compiled
def _schedule_running(instance: Any, slots: Rows, requests: Rows, budget: int) -> int:
    """Give running requests their tokens, preempting from the end when blocks run out; return the budget left."""
    place = 0
    while place < instance.running:
        request = requests[slots[place]]
        tokens = min(request.input + request.generated - request.done, budget)
        request.chunk = tokens
        if tokens > 0 and instance.reserve == 0:
            needed = (request.done + tokens + BLOCK - 1) // BLOCK - request.blocks
            while needed > instance.free and instance.running > place + 1:
                _preempt(instance, slots[instance.running - 1], requests)
            if needed > instance.free:
                _preempt(instance, slots[place], requests)
                return budget
            instance.free -= needed
            request.blocks += needed
        budget -= tokens
        place += 1
    return budget


@compiled
def _admit(instance: Any, slots: Rows, requests: Rows, budget: int) -> None:
    """Admit waiting requests while there are tokens, places and blocks."""
    while budget > 0 and instance.running < instance.seqs and instance.head != NOBODY:
        row = instance.head
        request = requests[row]
        tokens = min(request.input + request.generated, budget)
        needed = instance.reserve if instance.reserve > 0 else (tokens + BLOCK - 1) // BLOCK
        if needed > instance.free:
            return
        instance.head = request.behind
        if instance.head == NOBODY:
            instance.tail = NOBODY
        instance.waiting -= 1
        instance.free -= needed
        request.blocks = needed
        request.done = 0
        request.chunk = tokens
        slots[instance.running] = row
        instance.running += 1
        budget -= tokens


@compiled
def _begin(instance: Any, slots: Rows, requests: Rows, time: float) -> None:
    """Schedule an iteration at `time` and set when it ends."""
    preemptions = instance.preemptions
    budget = _schedule_running(instance, slots, requests, instance.budget)
    if instance.preemptions == preemptions:
        _admit(instance, slots, requests, budget)
    tokens = context = 0
    pairs = 0.0
    for place in range(instance.running):
        request = requests[slots[place]]
        if request.chunk > 0:
            tokens += request.chunk
            context += request.done + request.chunk
            if request.chunk > 1:
                pairs += request.chunk * (request.done + 0.5 * request.chunk)
    if tokens == 0:
        instance.end = np.inf
        return
    length = instance.weights_time + instance.token_time * tokens + instance.kv_time * context
    length += instance.pair_time * pairs
    instance.end = time + length
    instance.busy += length
    instance.slot_time += length * instance.running
    instance.block_time += length * (instance.blocks - instance.free)


@compiled
def _complete(instance: Any, slots: Rows, requests: Rows, counts: Rows, free_rows: Rows, finished: Rows) -> None:
    """Apply the iteration that ends now: new tokens, first tokens, finished requests."""
    time = instance.end
    kept = 0
    for place in range(instance.running):
        row = slots[place]
        request = requests[row]
        request.done += request.chunk
        if request.chunk > 0 and request.done == request.input + request.generated:
            request.generated += 1
            if request.first < 0:
                request.first = time
        if request.generated < request.target:
            slots[kept] = row
            kept += 1
            continue
        instance.free += request.blocks
        out = finished[counts[FINISHED_ROWS]]
        counts[FINISHED_ROWS] += 1
        out.serial = request.serial
        out.pool = instance.pool
        out.arrival = request.arrival
        out.first = request.first
        out.end = time
        out.generated = request.generated
        out.preempted = request.preempted
        free_rows[counts[FREE_ROWS]] = row
        counts[FREE_ROWS] += 1
    instance.running = kept


@compiled
def advance(
    until: float, instances: Rows, slots: Rows, requests: Rows, counts: Rows, free_rows: Rows, finished: Rows
) -> int:
    """Run every instance up to `until` (s) and return the number of requests finished and not yet taken.

    `instances`, `requests`, `finished`: tables of the dtypes in `rows`. `slots[i]`: rows running on instance i, in
    order of admission. `finished` is twice as long as `requests`; the caller leaves less than half of it filled.
    """
    for i in range(len(instances)):
        instance = instances[i]
        while instance.end <= until and instance.end < np.inf:
            _complete(instance, slots[i], requests, counts, free_rows, finished)
            _begin(instance, slots[i], requests, instance.end)
    finished_rows: int = counts[FINISHED_ROWS]
    return finished_rows


@compiled
def submit(
    time: float,
    first: int,
    last: int,
    serial: int,
    prompt: int,
    target: int,
    instances: Rows,
    slots: Rows,
    requests: Rows,
    counts: Rows,
    free_rows: Rows,
) -> None:
    """Queue a request on that instance of `first` to `last` (excluded) with the fewest; start it if idle.

    `time`: now, s. `prompt`: its tokens. `target`: output tokens it will produce. Tables as of `advance`.
    """
    best = first
    least = instances[first].running + instances[first].waiting
    for i in range(first + 1, last):
        present = instances[i].running + instances[i].waiting
        if present < least:
            best, least = i, present
    counts[FREE_ROWS] -= 1
    row = free_rows[counts[FREE_ROWS]]
    request = requests[row]
    request.serial = serial
    request.arrival = time
    request.first = -1.0
    request.input = prompt
    request.target = target
    request.generated = request.done = request.chunk = request.blocks = request.preempted = 0
    request.behind = NOBODY
    instance = instances[best]
    if instance.tail == NOBODY:
        instance.head = row
    else:
        requests[instance.tail].behind = row
    instance.tail = row
    instance.waiting += 1
    if instance.end == np.inf:
        _begin(instance, slots[best], requests, time)
