"""A request's token budget: the estimate of its prompt and the tokens reserved for its answer."""

import heapq

import msgspec

from extproc.body.facts import Item, PromptFacts
from extproc.body.fields import BATCH_APIS, LARGEST_CAP
from extproc.budget.category import content_class
from extproc.budget.estimate import Estimate, Estimator, Reserve
from extproc.budget.features import features
from extproc.budget.observation import Basis, Observation
from extproc.budget.output import OutputReserve
from extproc.config import Categories, Estimation, Pool

CANDIDATES = 8
"""Items of a batch that are estimated one by one, largest first: enough to find the longest in tokens."""

MODEL_BYTES = 256
"""Models with a longer name have no figures of their own: names are stored as keys and travel as metadata."""


class Budget(msgspec.Struct, frozen=True):
    """The budget of one request.

    `estimate`: of the longest prompt, which must fit a context. `expected`: tokens of all prompts together, which
    is what usage reports. `features`: of all prompts together, laid out as `extproc.budget.features.NAMES`.
    `teaches`: whether usage will say something certain about those features.
    """

    model: str
    category: str
    basis: Basis
    features: tuple[float, ...]
    estimate: Estimate
    expected: int
    reserve: Reserve
    teaches: bool

    @property
    def tokens(self) -> int:
        """Upper prompt tokens plus reserve: the number compared with a pool's capacity."""
        return self.estimate.upper + self.reserve.tokens

    def sent_to(self, pool: Pool, facts: PromptFacts, largest: bool) -> Observation:
        """Return what the learner needs to know of the request, sent to `pool`. `largest`: no pool is larger."""
        return Observation(
            model=self.model,
            category=self.category,
            basis=self.basis,
            features=self.features,
            estimate=self.expected,
            cap=facts.cap,
            prompts=0 if self.basis == "raw" and facts.api in BATCH_APIS else len(facts.items),
            choices=min(facts.choices * len(facts.items), LARGEST_CAP),
            teaches=self.teaches,
            pool=pool.name,
            capacity=pool.capacity,
            largest=largest,
        )


class Budgeter:
    """Turns facts into budgets, by an estimator and an output reserve that go on learning."""

    def __init__(
        self, estimator: Estimator, output: OutputReserve, categories: Categories, estimation: Estimation
    ) -> None:
        self._estimator = estimator
        self._output = output
        self._by_model = "model" in categories.sources
        self._by_content = "content" in categories.sources
        self._by_header = "header" in categories.sources
        self._allowed = frozenset(categories.allowed)
        self._tokens_per_media = estimation.tokens_per_media

    def budget(
        self, facts: PromptFacts, named: str = "", route_category: str = "", default_output: int | None = None
    ) -> Budget:
        """Return the budget of a request.

        `named`: the category that a header asks for, used only when allowed. `route_category`: the route's, for
        requests whose header names none. `default_output`: the route's, in place of the configured one.
        """
        whole = merged(facts.items)
        vector = features(whole)
        model = _key_of(facts.model) if self._by_model else ""
        basis = _basis(whole)
        category = self._category(named, route_category, whole, vector)
        estimate, expected = self._estimates(facts, model, category, whole, vector)
        return Budget(
            model=model,
            category=category,
            basis=basis,
            features=vector,
            estimate=estimate,
            expected=expected,
            reserve=self._output.reserve(model, category, facts.cap, default_output),
            # Usage counts media and token ids too, and may leave reasoning out.
            teaches=facts.teaches and whole.media == 0 and not whole.reasoning and whole.tokens is None,
        )

    def _category(self, named: str, route_category: str, whole: Item, vector: tuple[float, ...]) -> str:
        category = named if self._by_header and named in self._allowed else route_category
        if category:
            return category
        if whole.raw is not None or not self._by_content:
            return "all"
        return content_class(vector, whole.size)

    def _estimates(
        self, facts: PromptFacts, model: str, category: str, whole: Item, vector: tuple[float, ...]
    ) -> tuple[Estimate, int]:
        """Return the estimate of the longest prompt, and the expected tokens of all prompts together."""
        if facts.truncated_to is not None and facts.truncated_to > 0:
            # Also where the prompt is shorter: vLLM refuses to cut at more tokens than its context holds.
            estimate = Estimate(facts.truncated_to, facts.truncated_to, "exact")
            return estimate, min(facts.truncated_to * len(facts.items), LARGEST_CAP)
        together = self._estimate(model, category, whole, vector)
        if len(facts.items) == 1:
            return together, together.tokens
        largest = heapq.nlargest(CANDIDATES, facts.items, key=self._size)
        parts = [self._estimate(model, category, item, features(item)) for item in largest]
        return max(parts, key=lambda part: part.upper), together.tokens

    def _size(self, item: Item) -> float:
        """Return an item's size, about in bytes, to find the largest of a batch."""
        return item.size + 4 * ((item.tokens or 0) + item.media * self._tokens_per_media)

    def _estimate(self, model: str, category: str, item: Item, vector: tuple[float, ...]) -> Estimate:
        exact = (item.tokens or 0) + item.media * self._tokens_per_media
        basis = _basis(item)
        if basis == "tokens":
            return Estimate(exact, exact, "exact")
        estimate = self._estimator.estimate(model, category, basis, vector)
        if not exact:
            return estimate
        return Estimate(estimate.tokens + exact, estimate.upper + exact, estimate.source)


def _key_of(model: str) -> str:
    """Return the name under which figures of `model` are kept, "" where its UTF-8 is longer than `MODEL_BYTES`."""
    return model if len(model.encode()) <= MODEL_BYTES else ""


def _basis(item: Item) -> Basis:
    if item.raw is not None:
        return "raw"
    return "tokens" if item.tokens is not None and not item.text else "text"


def merged(items: tuple[Item, ...]) -> Item:
    """Return all prompts of a batch as one."""
    if len(items) == 1:
        return items[0]
    ids = [item.tokens for item in items if item.tokens is not None]
    return Item(
        text=b"".join(item.text for item in items),
        tools=b"".join(item.tools for item in items),
        messages=sum(item.messages for item in items),
        tokens=sum(ids) if ids else None,
        media=sum(item.media for item in items),
        reasoning=any(item.reasoning for item in items),
    )
