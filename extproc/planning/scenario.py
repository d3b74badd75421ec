"""What is planned for: a workload, an instance, what is asked of a fleet, and who is sent where."""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from extproc.config import Config
from extproc.planning.engine import Concurrency, Engine
from extproc.planning.estimates import Reserves, exact
from extproc.planning.sizing import Objective
from extproc.planning.throughput import Measured, Throughput, estimate, measured
from extproc.planning.workload import NO_CAP, Floats, Ints, Workload

LENGTHS = tuple(1024 * n for n in (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 24, 32, 48, 64, 96, 128))
"""Values of max_model_len tried when none are given."""


class Missent(NamedTuple):
    """Shares of all requests: `refused` by the pool they are sent to (the largest serves them), `cut` short at its
    context, for they state no cap, and `cautious`, sent to a larger pool than they need."""

    refused: float
    cut: float
    cautious: float


@dataclass(frozen=True)
class Scenario:
    """A workload, an instance, and what is asked of a fleet.

    `engine`: at full context. `lengths`: allowed values of max_model_len below it. `threshold`: the only one of a
    short pool that is looked at, where it is given. `estimated`: distribution of estimate over truth,
    `estimates.exact` or `Estimates.below`. `config`: of the service, for what it sets aside for requests without a
    cap. `rates`: measured throughputs by max_model_len. `poisson`: size for Poisson arrivals at the mean rate, not
    for the busiest minute.
    """

    workload: Workload
    engine: Engine
    objective: Objective
    lengths: tuple[int, ...] = LENGTHS
    threshold: int | None = None
    estimated: Callable[[Floats], Floats] = exact
    config: Config = field(default_factory=Config)
    rates: Mapping[int, Measured] = field(default_factory=dict)
    poisson: bool = False

    @property
    def other_concurrency(self) -> "Scenario":
        """The same under the other concurrency assumption."""
        other: Concurrency = "paged" if self.engine.concurrency == "reserved" else "reserved"
        return replace(self, engine=replace(self.engine, concurrency=other))

    @cached_property
    def needs(self) -> Ints:
        """Tokens of context each request takes: its prompt and its cap, or the output it has without one."""
        return self.workload.budgets(self.workload.outputs)

    @cached_property
    def _least(self) -> Ints:
        """Tokens of context below which vLLM refuses a request: its prompt and its cap, or one token more."""
        return self.workload.budgets(1)

    @cached_property
    def refused(self) -> float:
        """Share of requests that every pool refuses: they are longer than full context, and no fleet has them."""
        return self.workload.share(self._least > self.full)

    @cached_property
    def served(self) -> float:
        """Share of the others, added up as that of a pool is: a pool that has them all has this share exactly."""
        return self.workload.mean(self.within(self.full, 0))

    @cached_property
    def _reserves(self) -> Reserves:
        return Reserves(self.config, self.workload)

    def reserve(self, smallest: int) -> int:
        """Output tokens set aside for requests without a cap by a service whose smallest pool holds `smallest`."""
        return self._reserves.tokens(smallest)

    def within(self, capacity: int, reserve: int) -> Floats:
        """Chance of each request to be served by a pool of `capacity` or a smaller one.

        It must fit (else it is rejected and served by the largest) and be estimated to fit with `reserve` output
        tokens, where it has no cap. Everything that fits full context is served there.
        """
        if capacity >= self.full:
            return np.asarray(self._least <= self.full, np.float64)
        return np.where(self._least <= capacity, self._sent_to(capacity, reserve), 0.0)

    def _sent_to(self, capacity: int, reserve: int) -> Floats:
        """Chance of each request to be estimated to fit a pool of `capacity`, rightly or not."""
        caps = self.workload.caps
        room = capacity - np.where(caps == NO_CAP, reserve, caps)
        return self.estimated(np.maximum(room, 0) / self.workload.inputs)

    def missent(self, thresholds: tuple[int, ...]) -> Missent:
        """Count who is not sent to the smallest pool that holds them, of a fleet cut at `thresholds`."""
        reserve, mean = self.reserve(thresholds[0]), self.workload.mean
        refused = cut = cautious = 0.0
        for low, high in itertools.pairwise((0, *thresholds)):
            sent = self._sent_to(high, reserve)
            here = sent - self._sent_to(low, reserve)
            refused += mean(np.where(self._least > high, here, 0.0))
            cut += mean(np.where((self._least <= high) & (self.needs > high), here, 0.0))
            cautious += mean(np.where((low < self.needs) & (self.needs <= high), 1.0 - sent, 0.0))
        return Missent(refused, cut, cautious)

    @cached_property
    def load(self) -> float:
        """Requests/s the fleet is sized for: the busiest minute, or the mean of a Poisson process."""
        arrivals = self.workload.needs_rate()
        return arrivals.rate if self.poisson else arrivals.peak

    @property
    def full(self) -> int:
        """max_model_len at full context."""
        return self.engine.max_model_len

    def throughput(self, part: Workload, engine: Engine) -> Throughput:
        """Requests/s of an instance on `part`: measured at this max_model_len, else estimated."""
        given = self.rates.get(engine.max_model_len)
        return estimate(part, engine) if given is None else measured(given, part, engine)
