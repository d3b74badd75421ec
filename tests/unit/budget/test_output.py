"""Rules of `extproc.budget.output`."""

import random

import msgspec
import pytest

from extproc.body.usage import Usage
from extproc.budget.estimate import Reserve
from extproc.budget.learner import new_output
from extproc.budget.output import WINDOW, Lengths, OutputReserve, bucket_of
from extproc.config import Config, Output
from tests.unit.budget.test_ratio import observation


def reserve(*lengths: int, choices: int = 1, prompts: int = 1, default: int | None = None) -> OutputReserve:
    output = OutputReserve(Output(quantile=0.9, min_samples=10, default=default), limit=16)
    for tokens in lengths:
        output.learn(observation(None, usage=Usage(1, tokens), choices=choices, prompts=prompts))
    return output


def test_completions_under_a_cap_teach_nothing() -> None:
    """However many clients ask for one token, those that state no cap get what such requests need."""
    output = reserve(*[900] * 20)
    for _ in range(10_000):
        output.learn(observation(None, usage=Usage(1, 1), cap=1))
    assert output.reserve("m", "latin", None).tokens >= 900


def test_a_cap_is_the_reserve() -> None:
    """What the client allows is what is set aside, learned or not."""
    assert reserve(*[50] * 20).reserve("m", "latin", 7) == Reserve(7, "cap")


def test_unknown_until_enough_is_seen() -> None:
    """Nine completions are not ten; a configured default takes their place."""
    assert reserve(*[50] * 9).reserve("m", "latin", None) == Reserve(0, "unknown")
    assert reserve(*[50] * 9, default=300).reserve("m", "latin", None) == Reserve(300, "default")


def test_quantile_is_on_the_safe_side_by_one_bucket() -> None:
    """The 90 % quantile of 1 to 1,000 is 900; the bucket's upper edge lies at most 19 % above."""
    output = reserve(*range(1, 1001))
    got = output.reserve("m", "latin", None)
    assert got.source == "learned"
    assert 900 <= got.tokens <= 900 * 2**0.25 + 1


def test_falls_back_to_the_model_and_to_all() -> None:
    """A category not seen takes the model's quantile, a model not seen that of all."""
    output = reserve(*[64] * 20)
    assert output.reserve("m", "cjk", None) == Reserve(64, "learned")
    assert output.reserve("other", "cjk", None) == Reserve(64, "learned")


def test_several_choices_share_the_completion_tokens() -> None:
    """Four choices of 256 tokens in all are 64 each."""
    assert reserve(*[256] * 20, choices=4).reserve("m", "latin", None).tokens == 64


def test_answers_to_prompts_of_unknown_number_teach_nothing() -> None:
    """Their sum may be of one or of hundreds, so it is no length, and possible whatever the context."""
    assert reserve(*[256] * 20, prompts=0).reserve("m", "latin", None).source == "unknown"
    seen = observation(None, cap=None, capacity=1000, prompts=0, usage=Usage(100, 9000))
    assert OutputReserve.is_possible(seen)
    assert not OutputReserve.is_possible(msgspec.structs.replace(seen, prompts=1))


@pytest.mark.parametrize("tokens", [0, -5])
def test_impossible_lengths_are_ignored(tokens: int) -> None:
    """No completion is empty or negative."""
    assert reserve(*[tokens] * 20).reserve("m", "latin", None).source == "unknown"


def test_what_was_long_ago_fades() -> None:
    """After a few windows of short completions the long ones no longer set the quantile."""
    lengths = Lengths()
    for _ in range(WINDOW):
        lengths.add(bucket_of(4000))
    for _ in range(4 * WINDOW):
        lengths.add(bucket_of(100))
    assert lengths.quantile(0.9) <= 128
    assert sum(lengths.counts) <= 2 * WINDOW


def test_the_longest_lengths_share_a_bucket() -> None:
    """A quantile beyond the last edge is the last edge."""
    lengths = Lengths()
    lengths.add(bucket_of(10**12))
    assert lengths.quantile(0.99) > 10**7


def test_the_reserve_follows_from_what_may_be_exceeded() -> None:
    """Without a quantile it is the least that completions exceed by no more than was accepted, on average."""
    lengths = Lengths()
    for tokens in range(1, 1001):
        lengths.add(bucket_of(tokens))
    reserve = lengths.bounding_excess(5.0, room=1e6)
    excess = sum(max(tokens - reserve, 0) for tokens in range(1, 1001)) / 1000
    assert excess <= 5.0
    smaller = reserve / 2 ** (2 / 4)  # two buckets less
    assert sum(max(tokens - smaller, 0) for tokens in range(1, 1001)) / 1000 > 5.0
    assert lengths.bounding_excess(1000.0, room=1e6) == 1


def test_a_lower_rate_of_misroutes_reserves_more() -> None:
    """The rate that is accepted sets the reserve as it sets the margin."""
    reserves = []
    for percent in (0.01, 1.0):
        output = new_output(Config.model_validate({"estimation": {"misroute_percent": percent}}))
        for tokens in range(1, 1001):
            output.learn(observation(None, cap=None, usage=Usage(10, tokens)))
        reserves.append(output.reserve("m", "latin", None).tokens)
    assert reserves[0] > reserves[1] > 0


def test_an_answer_without_end_counts_for_no_more_than_the_pool() -> None:
    """One runaway among a thousand must not send every request without a cap to the long pool."""
    output = new_output(Config())  # short: 8,192 tokens
    for turn in range(4000):
        output.learn(observation(None, cap=None, usage=Usage(10, 120_000 if turn % 2000 == 999 else 300)))
    assert 300 <= output.reserve("m", "latin", None).tokens <= 2 * 300


def test_an_excess_is_counted_up_to_the_room() -> None:
    """By definition: the mean of min(max(length - reserve, 0), room), for any lengths."""
    draw = random.Random(1)
    for room in (100.0, 1000.0, 1e6):
        lengths, seen = Lengths(), [round(draw.lognormvariate(5, 1.5)) + 1 for _ in range(3000)]
        for tokens in seen:
            lengths.add(bucket_of(tokens))
        reserve = lengths.bounding_excess(5.0, room)
        assert sum(min(max(tokens - reserve, 0), room) for tokens in seen) / len(seen) <= 5.0
        less = reserve / 2 ** (3 / 4)
        assert sum(min(max(tokens - less, 0), room) for tokens in seen) / len(seen) > 5.0


@pytest.mark.parametrize("quantile", [None, 0.5])
def test_a_reserve_is_worked_out_anew_after_each_completion(quantile: float | None) -> None:
    """What was asked for before does not stay."""
    output = OutputReserve(Output(quantile=quantile, min_samples=1), limit=8, accepted=1.0, room=1e6)
    seen = []
    for tokens in (10, 1000, 1000, 1000):
        output.learn(observation(None, usage=Usage(100, tokens)))
        seen.append(output.reserve("m", "c", None).tokens)
    again = OutputReserve(Output(quantile=quantile, min_samples=1), limit=8, accepted=1.0, room=1e6)
    again.restore(output.export())
    assert seen[0] < seen[-1] == again.reserve("m", "c", None).tokens


def test_the_smallest_pool_of_all_sets_bounds_what_is_exceeded() -> None:
    """A set of larger pools beside it leaves the reserve as it is."""
    small = [{"name": "short", "capacity": 2000}, {"name": "long", "capacity": 100_000}]
    large = [{"name": "wide", "capacity": 64_000}, {"name": "vast", "capacity": 256_000}]
    reserves = []
    for sets in ({"default": small}, {"default": large, "other": small}, {"default": large}):
        output = new_output(Config.model_validate({"pools": sets}))
        for tokens in range(1, 1001):
            output.learn(observation(None, cap=None, usage=Usage(10, tokens)))
        reserves.append(output.reserve("m", "latin", None).tokens)
    assert reserves[0] == reserves[1] > reserves[2]


def test_state_names_each_figure() -> None:
    """By model and category, with the reserve and how many completions it rests on."""
    entries = reserve(*[64] * 20).snapshot()
    assert entries[0] == {"model": "m", "category": "latin", "tokens": 64, "samples": 20}
    assert [(entry["model"], entry["category"]) for entry in entries[1:]] == [("m", ""), ("", "")]
