"""The decision: one request to one pool. Plain synchronous code; the caller does the I/O."""

import zlib

import msgspec

from extproc.body.facts import Api, PromptFacts, Unreadable
from extproc.body.request import api_of, read_model, read_request
from extproc.budget.bounded import Bounded
from extproc.budget.budget import Budget, Budgeter
from extproc.budget.estimate import fits
from extproc.budget.observation import Observation
from extproc.budget.ratio import MOST_RATIO
from extproc.config import DEFAULT_POOL_SET, Config, Pool
from extproc.routing.decision import Decision, Reason

STICKY_CONVERSATIONS = 65_536
"""Conversations remembered as long; the least recently used is forgotten."""

_BATCH_APIS: frozenset[Api] = frozenset({"completions", "embeddings", "score"})
"""A body of these may hold many short prompts, so its size alone says nothing."""

PoolSet = tuple[Pool, ...]


class Head(msgspec.Struct, frozen=True):
    """What the request headers say. `category` and `conversation` are the values of the configured headers."""

    method: str
    path: str
    category: str = ""
    conversation: str = ""
    request_id: str = ""


class Router:
    """Chooses pools under one configuration. Build a new one for a new configuration."""

    def __init__(self, config: Config, budgeter: Budgeter) -> None:
        self._budgeter = budgeter
        self._routing = config.routing
        self._sets: dict[str, PoolSet] = {model: config.pools[name] for model, name in config.models.items()}
        self._default_set: PoolSet = config.pools[DEFAULT_POOL_SET]
        self._sticky: Bounded[tuple[PoolSet, str], bool] = Bounded(STICKY_CONVERSATIONS)
        every = [self._default_set, *self._sets.values()]
        self._oversize = MOST_RATIO * max(p.capacity for pools in every for p in pools[:-1] or pools)

    @property
    def default_pool(self) -> Pool:
        """The largest pool of the default set: where everything goes that is not understood."""
        return self._default_set[-1]

    def unread(self, reason: Reason) -> Decision:
        """Send a request to the default pool without looking at a body."""
        return Decision(pool=self.default_pool, chosen=self.default_pool, reason=reason)

    def decide(self, head: Head, body: bytes, whole: bool) -> Decision:
        """Choose the pool of a request. `whole`: the body is complete, not cut at Envoy's buffer limit."""
        api = api_of(head.path)
        if api is None:
            return self.unread("unknown_path")
        if head.method != "POST":
            return self.unread("not_post")
        if not whole:
            return self.unread("cut")
        if not body:
            return self.unread("no_body")
        if len(body) > self._oversize and api not in _BATCH_APIS:
            largest = self._pools(read_model(body) if self._sets else "")[-1]
            return Decision(pool=largest, chosen=largest, reason="oversized")
        facts = read_request(api, body)
        if isinstance(facts, Unreadable):
            return self.unread(facts.reason)
        return self._route(head, facts)

    def _pools(self, model: str) -> PoolSet:
        return self._sets.get(model, self._default_set)

    def _route(self, head: Head, facts: PromptFacts) -> Decision:
        pools = self._pools(facts.model)
        budget = self._budgeter.budget(facts, head.category)
        chosen, reason = smallest_fit(pools, budget)
        conversation = head.conversation or facts.conversation
        pool, reason = self._adjust(pools, chosen, reason, conversation, head.request_id)
        return Decision(
            pool=pool,
            chosen=chosen,
            reason=reason,
            estimate=budget.estimate,
            reserve=budget.reserve,
            budget=budget.tokens,
            observation=Observation(
                model=budget.model,
                category=budget.category,
                basis=budget.basis,
                features=budget.features,
                estimate=budget.expected,
                cap=facts.cap,
                prompts=len(facts.items),
                choices=facts.choices * len(facts.items),
                teaches=budget.teaches,
                pool=pool.name,
                capacity=pool.capacity,
                largest=pool is pools[-1],
            ),
        )

    def _adjust(
        self, pools: PoolSet, chosen: Pool, reason: Reason, conversation: str, request_id: str
    ) -> tuple[Pool, Reason]:
        """Apply what may overrule a choice, always towards the largest pool."""
        largest = pools[-1]
        if self._routing.shadow:
            return largest, "shadow"
        if not in_rollout(conversation or request_id, self._routing.rollout_percent):
            return largest, "rollout"
        if self._routing.sticky_long and conversation:
            key = (pools, conversation)
            if chosen is largest:
                self._sticky.use(key, lambda: True)
            elif self._sticky.get(key):
                return largest, "sticky"
        return chosen, reason


def smallest_fit(pools: PoolSet, budget: Budget) -> tuple[Pool, Reason]:
    """Return the smallest pool that holds `budget`, else the largest there is."""
    if budget.reserve.source == "unknown":
        return pools[-1], "no_output_cap"
    for pool in pools:
        if fits(budget.estimate, budget.reserve.tokens, pool.capacity):
            return pool, "fits"
    return pools[-1], "too_long"


def in_rollout(key: str, percent: float) -> bool:
    """Whether the conversation `key` is in the first `percent` of all: the same answer everywhere, at every turn.

    CRC-32 of the key spreads over 10,000 steps, so `percent` is honoured to two decimals.
    """
    return percent >= 100 or zlib.crc32(key.encode("utf-8", "replace")) % 10_000 < percent * 100
