"""The loop of the fuzzer: so many inputs over all targets, every failure kept."""

import random
import time
from dataclasses import dataclass, field

from tests.fuzz.mutate import mutated
from tests.fuzz.targets import Target, shapes, targets

DECISION_SECONDS = 0.05
"""Thread CPU time that no decision may take."""


@dataclass
class Outcome:
    """`slowest`: thread CPU seconds of the slowest decision. `failures`: target, input and exception."""

    inputs: int = 0
    slowest: float = 0.0
    slow: int = 0
    failures: list[tuple[str, bytes, str]] = field(default_factory=list)


def fuzz(inputs: int, seed: int) -> Outcome:
    """Feed `inputs` mutated inputs, shared out over the targets; the same `seed` gives the same inputs."""
    outcome = Outcome()
    source = random.Random(seed)
    for target in targets():
        for _ in range(round(inputs * target.share)):
            _feed(target, mutated(target.seeds, source), source, outcome)
        if target.decides:
            for body in shapes():
                _feed(target, body, source, outcome)
    return outcome


def _feed(target: Target, data: bytes, source: random.Random, outcome: Outcome) -> None:
    outcome.inputs += 1
    state = source.getstate() if len(data) > 4096 else None
    spent = _run(target, data, source, outcome)
    if target.decides and spent > DECISION_SECONDS and state is not None:
        source.setstate(state)  # once more: the first time may have paid for a garbage collection of others
        spent = min(spent, _run(target, data, source, outcome))
    if target.decides:
        outcome.slowest = max(outcome.slowest, spent)
        outcome.slow += spent > DECISION_SECONDS


def _run(target: Target, data: bytes, source: random.Random, outcome: Outcome) -> float:
    started = time.thread_time()
    try:
        target.run(data, source)
    except Exception as error:
        outcome.failures.append((target.name, data[:200], repr(error)))
    return time.thread_time() - started
