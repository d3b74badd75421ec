"""The loop of the fuzzer: so many inputs over all targets, every failure kept."""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.fuzz.corpus import kept
from tests.fuzz.mutate import mutated
from tests.fuzz.targets import Target, shapes, targets

DECISION_SECONDS = 0.05
"""Thread CPU time that no decision may take."""

MORE_TRIES = 20
"""Times that a slow decision is tried once more: a try may have paid for a start, for a garbage collection of
others, or for a host that took the CPU away, which a guest counts as time of the thread."""

REPLAYS = 8
"""Times that a kept input is tried: what else a target draws, a path or how a stream is cut, differs."""


@dataclass
class Outcome:
    """`slowest`: thread CPU seconds of the slowest decision. `failures`: target, input and what was wrong."""

    inputs: int = 0
    slowest: float = 0.0
    slow: int = 0
    failures: list[tuple[str, bytes, str]] = field(default_factory=list)


def fuzz(inputs: int, seed: int, these: Sequence[Target] | None = None) -> Outcome:
    """Replay what is kept and feed `inputs` mutated inputs, shared out over the targets; by default over all.

    The same `seed` gives the same inputs.
    """
    outcome = Outcome()
    source = random.Random(seed)
    for target in targets() if these is None else these:
        found = kept(target.name)
        for data in found * REPLAYS:
            _feed(target, data, source, outcome)
        seeds = [*target.seeds, *found]
        for _ in range(round(inputs * target.share)):
            _feed(target, mutated(seeds, source), source, outcome)
        if target.decides:
            for body in shapes():
                _feed(target, body, source, outcome)
    return outcome


def _feed(target: Target, data: bytes, source: random.Random, outcome: Outcome) -> None:
    outcome.inputs += 1
    state = source.getstate() if target.decides else None
    spent = _run(target, data, source, outcome)
    for _ in range(MORE_TRIES):
        if state is None or spent <= DECISION_SECONDS:
            break
        source.setstate(state)
        spent = min(spent, _run(target, data, source, outcome))
    if target.decides:
        outcome.slowest = max(outcome.slowest, spent)
        if spent > DECISION_SECONDS:
            outcome.slow += 1
            outcome.failures.append((target.name, data, f"{spent * 1e3:.0f} ms"))


def _run(target: Target, data: bytes, source: random.Random, outcome: Outcome) -> float:
    started = time.thread_time()
    try:
        target.run(data, source)
    except Exception as error:
        outcome.failures.append((target.name, data, repr(error)))
    return time.thread_time() - started
