"""Rules of `extproc.budget.budget`."""

from typing import Any

import pytest

from extproc.body.facts import Item, PromptFacts
from extproc.body.fields import LARGEST_CAP
from extproc.budget.budget import MODEL_BYTES, Budget, Budgeter, merged
from extproc.budget.estimate import Estimate, Reserve, fits
from extproc.budget.features import text_bytes
from extproc.budget.output import OutputReserve
from extproc.budget.ratio import RatioEstimator
from extproc.config import Categories, Estimation, Output, Pool

ESTIMATION = Estimation(prior_bytes_per_token=2, tokens_per_message=0, tokens_per_media=1000)


def budget(*items: Item, named: str = "", sources: tuple[str, ...] = ("model", "content"), **facts: Any) -> Budget:
    categories = Categories.model_validate({"sources": sources, "allowed": ("agents",)})
    estimator = RatioEstimator(ESTIMATION, categories.limit)
    budgeter = Budgeter(estimator, OutputReserve(Output(), 16), categories, ESTIMATION)
    return budgeter.budget(PromptFacts(**{"api": "chat", "model": "m", "items": items, "cap": 10, **facts}), named)


def test_prompt_and_cap() -> None:
    """The budget is the upper estimate of the prompt plus the cap."""
    got = budget(Item(text=b"x" * 100))
    assert (got.estimate, got.reserve, got.tokens) == (Estimate(50, 50, "prior"), Reserve(10, "cap"), 60)


def test_token_ids_are_exact_and_teach_by_themselves() -> None:
    """A prompt given as ids needs no estimate."""
    got = budget(Item(tokens=77))
    assert (got.estimate, got.basis, got.expected) == (Estimate(77, 77, "exact"), "tokens", 77)


def test_media_adds_its_tokens_and_does_not_teach() -> None:
    """An image costs what the configuration says; its usage says nothing about text."""
    got = budget(Item(text=b"x" * 100, media=2))
    assert (got.estimate.tokens, got.teaches) == (2050, False)


def test_a_prompt_that_is_cut_costs_what_it_is_cut_to() -> None:
    """The server refuses to cut at more than its context holds, so a pool must hold that."""
    got = budget(Item(text=b"x" * 100_000), Item(text=b"x"), truncated_to=600, teaches=False)
    assert (got.estimate, got.expected, got.teaches) == (Estimate(600, 600, "exact"), 1200, False)
    for uncut in (-1, 0):
        assert budget(Item(text=b"x" * 100), truncated_to=uncut).estimate.tokens == 50


def test_a_batch_must_fit_item_by_item_and_is_learned_as_a_sum() -> None:
    """The estimate is the longest prompt's, features and expectation are those of all."""
    got = budget(Item(text=b"x" * 100), Item(text=b"y" * 300), Item(text=b"z" * 200))
    assert (got.estimate.tokens, got.expected) == (150, 300)
    assert text_bytes(got.features) == 600


def test_the_longest_of_a_large_batch_is_found() -> None:
    """However many prompts there are, the longest decides."""
    got = budget(*(Item(text=b"x" * (n % 97)) for n in range(2000)), Item(text=b"x" * 1000))
    assert got.estimate.tokens == 500


def test_text_and_token_ids_in_one_batch_do_not_teach() -> None:
    """A usage that sums text and ids says nothing certain about the text."""
    got = budget(Item(text=b"x" * 10), Item(tokens=100))
    assert (got.teaches, got.basis, got.estimate.tokens, got.expected) == (False, "text", 100, 105)


@pytest.mark.parametrize(
    ("named", "sources", "category", "model"),
    [
        ("agents", ("header", "model", "content"), "agents", "m"),
        ("free-text", ("header", "model", "content"), "latin", "m"),
        ("agents", ("model", "content"), "latin", "m"),
        ("agents", ("header",), "agents", ""),
        ("", ("model",), "all", "m"),
        ("", (), "all", ""),
    ],
)
def test_category_sources(named: str, sources: tuple[str, ...], category: str, model: str) -> None:
    """A header names a category only when switched on and allowed; else the content class; each can be left out."""
    got = budget(Item(text=b"hello"), named=named, sources=sources)
    assert (got.category, got.model) == (category, model)


def test_a_long_model_name_is_no_key() -> None:
    """A name of a megabyte is not kept."""
    fitting = "é" * (MODEL_BYTES // 2)
    assert budget(Item(text=b"x"), model=fitting).model == fitting
    assert budget(Item(text=b"x"), model=fitting + "e").model == ""


@pytest.mark.parametrize(("cap", "good"), [(40, True), (41, False)])
def test_fits_adds_the_cap_to_the_upper_estimate(cap: int, good: bool) -> None:
    """The margin is on the estimate, never on the cap."""
    assert fits(Estimate(50, 60, "learned"), cap, 100) is good


def test_the_longest_of_a_large_batch_of_token_ids_is_found() -> None:
    """As of texts."""
    got = budget(*(Item(tokens=1 + n % 97) for n in range(2000)), Item(tokens=1000))
    assert got.estimate.tokens == 1000


def test_the_item_with_most_pictures_is_found() -> None:
    """They are tokens, where text is hardly any."""
    texts = [Item(text=b"x" * 40) for _ in range(50)]
    assert budget(*texts, Item(text=b"x", media=3)).estimate.tokens > 3000


@pytest.mark.parametrize(
    ("asked", "prompts", "choices"), [(1, 1, 1), (4, 1, 4), (1, 3, 3), (4, 3, 12), (LARGEST_CAP, 2, LARGEST_CAP)]
)
def test_usage_is_that_of_every_choice_of_every_prompt(asked: int, prompts: int, choices: int) -> None:
    """By so many are completion tokens divided; the number stays one that can be read again."""
    items = (Item(text=b"x"),) * prompts
    facts = PromptFacts(api="completions", model="m", items=items, choices=asked)
    sent = budget(*items, choices=asked).sent_to(Pool(name="short", capacity=1000), facts, largest=False)
    assert (sent.prompts, sent.choices) == (prompts, choices)


class Unsure(RatioEstimator):
    """Expects 50 tokens of any text, and 80 at most."""

    def estimate(self, *_: Any, **__: Any) -> Estimate:
        return Estimate(50, 80, "learned")


def test_the_longest_of_a_batch_is_the_one_that_may_be_longest() -> None:
    """A text that may have 80 tokens needs more room than 60 token ids, though fewer are expected of it."""
    items = (Item(text=b"x"), Item(tokens=60))
    budgeter = Budgeter(Unsure(ESTIMATION, 16), OutputReserve(Output(), 16), Categories(), ESTIMATION)
    got = budgeter.budget(PromptFacts(api="completions", model="m", items=items, cap=10))
    assert got.estimate == Estimate(50, 80, "learned")


@pytest.mark.parametrize("others", [0, 3])
def test_reasoning_of_earlier_turns_does_not_teach(others: int) -> None:
    """A template may leave it out: usage then counts less than the text. One prompt of a batch is enough."""
    plain = Item(text=b"x" * 100)
    assert budget(*[plain] * (others + 1)).teaches
    assert not budget(*[plain] * others, Item(text=b"x" * 100, reasoning=True)).teaches


def test_a_batch_is_all_that_its_prompts_are() -> None:
    """Usage is of all of them, so what is learned from is their sum, and one of any kind makes it of that kind."""
    one, other = Item(text=b"a", tools=b"b", messages=2), Item(text=b"c", messages=3, media=1, reasoning=True)
    assert merged((one, other, Item(tokens=7), Item(tokens=8))) == Item(
        text=b"ac", tools=b"b", messages=5, tokens=15, media=1, reasoning=True
    )
