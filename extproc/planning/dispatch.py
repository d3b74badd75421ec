"""Policies: which pool a request is sent to, by the router and estimators of this project."""

from typing import Protocol

import msgspec

from extproc.body.facts import Item, PromptFacts
from extproc.body.usage import Usage
from extproc.budget.budget import Budget
from extproc.budget.estimate import Estimate, fits
from extproc.budget.features import text_bytes
from extproc.budget.learner import Learner
from extproc.budget.observation import Observation, Outcome
from extproc.config import Pool
from extproc.planning.text import TextModel, Texts
from extproc.planning.workload import NO_CAP
from extproc.routing.router import smallest_fit

SETTLED, SETTLED_STEP = 10_000, 32
"""After the first `SETTLED` answers one in `SETTLED_STEP` is learned from, as a service that reads a share of the
response bodies does: by then the averages only follow drift, which a simulated text does not have."""

Pools = tuple[Pool, ...]


class Policy(Protocol):
    """Chooses a pool (its index, smallest first) for each arrival and hears how requests ended."""

    def choose(self, serial: int, prompt: int, output: int, cap: int, size: int = 0) -> int:
        """Choose for a request of `prompt` and `output` true tokens, an output cap (or `NO_CAP`), and `size` bytes
        of prompt text, 0 where they are unknown and have to be made up."""
        ...

    def ended(self, serial: int, generated: int, outcome: Outcome) -> None:
        """Hear that a request ended after `generated` tokens (0 when it was rejected)."""
        ...


class Oracle:
    """Knows true lengths: the smallest pool that holds prompt and output (and the cap, which vLLM checks)."""

    def __init__(self, pools: Pools) -> None:
        self._capacities = [pool.capacity for pool in pools]

    def choose(self, serial: int, prompt: int, output: int, cap: int, size: int = 0) -> int:  # noqa: ARG002 - the protocol's
        """Choose by the true total."""
        total = prompt + max(output, cap)
        return next((i for i, c in enumerate(self._capacities) if total <= c), len(self._capacities) - 1)

    def ended(self, serial: int, generated: int, outcome: Outcome) -> None:
        """Nothing is learned."""


class Learned:
    """The service's own decision: the real estimator estimates the bytes of a prompt, the real router compares with
    the pools, and the real learner hears of the answers. Bytes that are unknown are made up (see `text`).
    """

    def __init__(self, learner: Learner, pools: Pools, text: TextModel, seed: int) -> None:
        """`learner`: what the service knows when the simulation begins."""
        self._pools = pools
        self._learner = learner
        self._texts = Texts(text, seed)
        self._flying: dict[int, tuple[Observation, int]] = {}
        self._heard = 0

    def choose(self, serial: int, prompt: int, output: int, cap: int, size: int = 0) -> int:  # noqa: ARG002 - the protocol's
        """Choose by the estimate of the text, made up to have `prompt` tokens where its bytes are unknown."""
        category, features = self._texts.draw(prompt, size)
        limit = None if cap == NO_CAP else cap
        estimate = self._learner.estimator.estimate("", category, "text", features)
        reserve = self._learner.output.reserve("", category, limit)
        budget = Budget("", category, "text", features, estimate, estimate.tokens, reserve, teaches=True)
        pool, _ = smallest_fit(self._pools, budget)
        place = self._pools.index(pool)
        facts = PromptFacts("chat", "", (Item(),), limit)
        sent = budget.sent_to(pool, facts, largest=place == len(self._pools) - 1)
        self._flying[serial] = (sent, prompt)
        return place

    def ended(self, serial: int, generated: int, outcome: Outcome) -> None:
        """Learn from the usage of an answer; a rejection carries none."""
        sent, prompt = self._flying.pop(serial)
        self._heard += 1
        if outcome == "rejected" or (self._heard > SETTLED and self._heard % SETTLED_STEP):
            return
        usage = Usage(prompt_tokens=prompt, completion_tokens=generated)
        finish = "length" if outcome == "truncated" else "stop"
        self._learner.learn(msgspec.structs.replace(sent, usage=usage, finish_reason=finish, outcome=outcome))


class Static:
    """A fixed ratio of bytes to a token, without a margin and without learning."""

    def __init__(self, pools: Pools, text: TextModel, seed: int, ratio: float, reserve: int) -> None:
        self._pools, self._ratio, self._reserve = pools, ratio, reserve
        self._texts = Texts(text, seed)

    def choose(self, serial: int, prompt: int, output: int, cap: int, size: int = 0) -> int:  # noqa: ARG002 - the protocol's
        """Choose by bytes over the fixed ratio."""
        _, features = self._texts.draw(prompt, size)
        tokens = int(text_bytes(features) / self._ratio)
        estimate = Estimate(tokens, tokens, "prior")
        limit = self._reserve if cap == NO_CAP else cap
        return next(
            (i for i, p in enumerate(self._pools) if fits(estimate, limit, p.capacity)), len(self._pools) - 1
        )

    def ended(self, serial: int, generated: int, outcome: Outcome) -> None:
        """Nothing is learned."""
