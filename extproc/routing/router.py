"""The decision: one request to one pool. Plain synchronous code; the caller does the I/O."""

import hashlib
import zlib
from collections.abc import Iterable, Mapping
from types import MappingProxyType

import msgspec

from extproc.body.bounds import LARGEST_BODY
from extproc.body.facts import Api, PromptFacts, Unreadable
from extproc.body.fields import BATCH_APIS
from extproc.body.lifted import Lifted, lifted_conversation, read_lifted
from extproc.body.paths import api_of
from extproc.body.request import read_conversation, read_model, read_request
from extproc.budget.bounded import Bounded
from extproc.budget.budget import Budget, Budgeter
from extproc.budget.estimate import fits
from extproc.budget.ratio import MOST_RATIO
from extproc.config import DEFAULT_POOL_SET, Config, Pool
from extproc.routing.decision import Decision, Reason
from extproc.routing.settings import NO_SETTINGS, RouteSettings
from extproc.routing.spillover import Board, spill

STICKY_CONVERSATIONS = 65_536
"""Conversations remembered as long; the least recently used one is forgotten."""

PoolSet = tuple[Pool, ...]
Sticky = Bounded[tuple[str, bytes], bool]
"""Conversations that have gone long, by the name of the pool and a hash of their key."""


def new_sticky() -> Sticky:
    """Return an empty memory of conversations."""
    return Bounded(STICKY_CONVERSATIONS)


class Head(msgspec.Struct, frozen=True):
    """What the request headers say. `category` and `conversation` are the values of the configured headers."""

    method: str
    path: str
    category: str = ""
    conversation: str = ""
    request_id: str = ""


class Router:
    """Chooses pools under one configuration; a new configuration takes a new one.

    `board`: how full the pools are; by default nothing is known, and nothing spills. `sticky`: conversations that
    have gone long, also under earlier configurations.
    """

    def __init__(
        self, config: Config, budgeter: Budgeter, board: Board | None = None, sticky: Sticky | None = None
    ) -> None:
        self._budgeter = budgeter
        self._board = board or Board()
        self._routing = config.routing
        self._sets: dict[str, PoolSet] = config.pools
        self._models = config.models
        self._sticky = new_sticky() if sticky is None else sticky
        self._oversize = oversize(self._sets.values())

    def default_pool(self, settings: RouteSettings = NO_SETTINGS) -> Pool:
        """Return the pool for everything not understood: the largest of the route's set or the default set."""
        return self.pools_of("", settings)[-1]

    def unread(self, reason: Reason, settings: RouteSettings = NO_SETTINGS, model: str = "") -> Decision:
        """Send a request whose body was not read to the largest pool of its model; "" where that is unknown."""
        pool = self.pools_of(model, settings)[-1]
        return Decision(pool=pool, chosen=pool, reason=reason)

    def decide(self, head: Head, body: bytes, whole: bool, settings: RouteSettings = NO_SETTINGS) -> Decision:
        """Choose the pool of a request. `whole`: the body is complete, not cut at Envoy's buffer limit."""
        api = _api(head)
        if api is None:
            return self._not_ours(head, settings)
        if not whole:
            return self._too_large("cut", head.conversation, settings, "")
        if not body:
            return self.unread("no_body", settings)
        if len(body) > LARGEST_BODY or (self._oversized(api, len(body)) and not _may_be_shorter(body)):
            conversation = head.conversation or self._conversation(body)
            return self._too_large("oversized", conversation, settings, self._model(body))
        facts = read_request(api, body)
        if isinstance(facts, Unreadable):
            return self.unread(facts.reason, settings, self._model(body))
        return self._route(head, facts, settings)

    def decide_by_size(
        self, head: Head, lifted: Lifted, size: int | None, settings: RouteSettings = NO_SETTINGS
    ) -> Decision:
        """Choose the pool of a request whose body stays in Envoy, by its size and the fields lifted from it."""
        api = _api(head)
        if api is None:
            return self._not_ours(head, settings)
        if not size:
            return self.unread("no_length" if size is None else "no_body", settings)
        oversized = self._oversized(api, size)
        conversation = head.conversation or lifted_conversation(lifted)
        if oversized and self._has_one_set(settings):
            return self._too_large("oversized", conversation, settings, "")
        facts = read_lifted(api, lifted, size)
        if isinstance(facts, Unreadable):
            model = lifted.get("model")
            return self.unread(facts.reason, settings, model if isinstance(model, str) else "")
        if oversized:
            return self._too_large("oversized", conversation, settings, facts.model)
        return self._route(head, facts, settings)

    def decide_early(self, head: Head, size: int, settings: RouteSettings = NO_SETTINGS) -> Decision | None:
        """Choose the pool at the headers, where a body of `size` bytes cannot change it; else return None."""
        api = _api(head)
        if api is None:
            return self._not_ours(head, settings)
        if size > LARGEST_BODY and self._has_one_set(settings):
            return self._too_large("oversized", head.conversation, settings, "")
        return None

    def _has_one_set(self, settings: RouteSettings) -> bool:
        """Whether all models have the same pools on this route."""
        return bool(settings.pools) or not self._models

    def _not_ours(self, head: Head, settings: RouteSettings) -> Decision:
        return self.unread("unknown_path" if api_of(head.path) is None else "not_post", settings)

    def _oversized(self, api: Api, size: int) -> bool:
        return size > (LARGEST_BODY if api in BATCH_APIS else self._oversize)

    def _too_large(self, reason: Reason, conversation: str, settings: RouteSettings, model: str) -> Decision:
        """Do as `unread` for a request that is too long to be read, and remember its conversation."""
        self._remember_long(self.pools_of(model, settings), conversation)
        return self.unread(reason, settings, model)

    def _model(self, body: bytes) -> str:
        """Return the model of a body that is not read otherwise; "" where all models have the same pools."""
        return read_model(body) if self._models else ""

    def _conversation(self, body: bytes) -> str:
        """Return what names the conversation of such a body; "" where nothing is remembered of it."""
        return read_conversation(body) if self._routing.sticky_long else ""

    def pools_of(self, model: str, settings: RouteSettings = NO_SETTINGS) -> PoolSet:
        """Return the set that serves `model`: the route's, else the model's own, else the default set."""
        return self._sets[settings.pools or self._models.get(model, DEFAULT_POOL_SET)]

    def _route(self, head: Head, facts: PromptFacts, settings: RouteSettings) -> Decision:
        pools = self.pools_of(facts.model, settings)
        budget = self._budgeter.budget(facts, head.category, settings.category, settings.default_output)
        chosen, reason = smallest_fit(pools, budget, settings.thresholds)
        conversation = head.conversation or facts.conversation
        spilled = self._spill(pools, chosen, budget, settings) if reason == "fits" else None
        pool, reason = self._adjust(pools, chosen, reason, conversation, head.request_id, settings)
        if spilled is not None and reason == "fits":
            pool, reason = spilled, "spillover"
        return Decision(
            pool=pool,
            chosen=chosen,
            reason=reason,
            spilled=spilled if reason in ("spillover", "shadow") else None,
            estimate=budget.estimate,
            reserve=budget.reserve,
            budget=budget.tokens,
            observation=budget.sent_to(pool, facts, pool is pools[-1]),
        )

    def _spill(self, pools: PoolSet, chosen: Pool, budget: Budget, settings: RouteSettings) -> Pool | None:
        return spill(pools, chosen, self._board.levels, lambda pool: holds(pool, budget, settings.thresholds))

    def _adjust(
        self,
        pools: PoolSet,
        chosen: Pool,
        reason: Reason,
        conversation: str,
        request_id: str,
        settings: RouteSettings,
    ) -> tuple[Pool, Reason]:
        """Apply what overrules the budget, always for the largest pool: shadow mode, roll-out, stickiness."""
        largest = pools[-1]
        routing = self._routing
        if routing.shadow if settings.shadow is None else settings.shadow:
            return largest, "shadow"
        percent = routing.rollout_percent if settings.rollout_percent is None else settings.rollout_percent
        if not in_rollout(conversation or request_id, percent):
            return largest, "rollout"
        if chosen is largest:
            self._remember_long(pools, conversation)
        elif self._has_gone_long(pools, conversation):
            return largest, "sticky"
        return chosen, reason

    def _remember_long(self, pools: PoolSet, conversation: str) -> None:
        if self._routing.sticky_long and conversation:
            self._sticky.use(_sticky_key(pools, conversation), lambda: True)

    def _has_gone_long(self, pools: PoolSet, conversation: str) -> bool:
        if not (self._routing.sticky_long and conversation):
            return False
        return self._sticky.get(_sticky_key(pools, conversation)) is not None


def _sticky_key(pools: PoolSet, conversation: str) -> tuple[str, bytes]:
    """Return a key of fixed size, however long the client's name for the conversation is."""
    key = conversation.encode("utf-8", "surrogateescape")
    return pools[-1].name, hashlib.blake2b(key, digest_size=16).digest()


def _may_be_shorter(body: bytes) -> bool:
    """Whether the text of a body may be much shorter than the body, because of images or escapes in it."""
    return b"base64" in body or b"\\u" in body


def oversize(sets: Iterable[PoolSet]) -> float:
    """Return the size (bytes) beyond which a body of text fits no pool but the largest of its set."""
    smaller = max(p.capacity for pools in sets for p in pools[:-1] or pools)
    return min(MOST_RATIO * smaller, LARGEST_BODY)


def _api(head: Head) -> Api | None:
    return api_of(head.path) if head.method == "POST" else None


def smallest_fit(
    pools: PoolSet, budget: Budget, thresholds: Mapping[str, int] = MappingProxyType({})
) -> tuple[Pool, Reason]:
    """Return the smallest pool that holds `budget`, else the largest.

    `thresholds`: by pool name, the largest budget (tokens) it is used for, where that is less than its capacity.
    """
    if budget.reserve.source == "unknown":
        return pools[-1], "no_output_cap"
    for pool in pools:
        if holds(pool, budget, thresholds):
            return pool, "fits"
    return pools[-1], "too_long"


def holds(pool: Pool, budget: Budget, thresholds: Mapping[str, int]) -> bool:
    """Whether `budget` fits `pool`, or its threshold (tokens) where that is less."""
    limit = min(pool.capacity, thresholds.get(pool.name, pool.capacity))
    return fits(budget.estimate, budget.reserve.tokens, limit)


def in_rollout(key: str, percent: float) -> bool:
    """Whether the conversation `key` is in the first `percent` of all: the same on every replica and at every turn.

    CRC-32 of the key is cut into 10,000 steps, so `percent` counts to two decimals. A request without a key is in
    only at 100 percent.
    """
    if percent >= 100 or not key:
        return percent >= 100
    return zlib.crc32(key.encode("utf-8", "surrogateescape")) % 10_000 < percent * 100
