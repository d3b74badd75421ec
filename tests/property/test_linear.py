"""Properties of the linear estimator."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extproc.body.facts import Item
from extproc.body.usage import Usage
from extproc.budget.features import MESSAGES, features
from extproc.budget.linear import LinearEstimator
from extproc.budget.prior import CONVERSATION, MOST
from extproc.budget.ratio import LEAST_RATIO, MOST_RATIO
from extproc.budget.sums import merge
from extproc.config import Estimation
from tests.unit.budget.test_ratio import observation

pytestmark = pytest.mark.no_cover  # thousands of inputs: tracing each line would double the time

WORDS = (b"the word ", b"1234,", b"x_y = f(z);\n", "日本".encode(), "привет ".encode())
DOCUMENTS = st.lists(st.tuples(st.sampled_from(WORDS), st.integers(60, 300)), min_size=1, max_size=6)


def document(parts: list[tuple[bytes, int]]) -> tuple[float, ...]:
    return features(Item(text=b"".join(word * times for word, times in parts), messages=1))


def size(parts: list[tuple[bytes, int]]) -> int:
    return sum(len(word) * times for word, times in parts)


def teach(estimator: LinearEstimator, parts: list[tuple[bytes, int]], ratio: float) -> None:
    usage = Usage(max(1, round(size(parts) / ratio)) + 8, 1)
    estimator.learn(observation(None, features=document(parts), usage=usage))


TEMPLATE = MOST[MESSAGES] + MOST[CONVERSATION]
"""The longest that a template may be found to be, of one message."""


def guess(estimator: LinearEstimator, parts: list[tuple[bytes, int]]) -> tuple[int, int]:
    estimate = estimator.estimate("m", "any", "text", document(parts))
    return estimate.tokens, estimate.upper


@settings(deadline=None, max_examples=25)
@given(ratio=st.floats(1.5, 6.0), seen=st.lists(DOCUMENTS, min_size=60, max_size=60))
def test_converges_to_a_constant_ratio(ratio: float, seen: list[list[tuple[bytes, int]]]) -> None:
    """When every byte costs the same, prompts like those seen are within 10 % after 60 of them."""
    estimator = LinearEstimator(Estimation(), 16)
    for parts in seen:
        teach(estimator, parts, ratio)
    parts = max(seen, key=size)
    assert abs(guess(estimator, parts)[0] / (size(parts) / ratio + 8) - 1) < 0.1


@settings(deadline=None, max_examples=25)
@given(seen=st.lists(st.tuples(DOCUMENTS, st.floats(0.4, 20.0)), max_size=30), asked=DOCUMENTS)
def test_estimates_are_possible(
    seen: list[tuple[list[tuple[bytes, int]], float]], asked: list[tuple[bytes, int]]
) -> None:
    """Whatever was reported, an estimate is what some tokenizer could give, and the upper one is not below it."""
    estimator = LinearEstimator(Estimation(), 16)
    for parts, ratio in seen:
        teach(estimator, parts, ratio)
    tokens, upper = guess(estimator, asked)
    assert size(asked) / MOST_RATIO <= tokens <= upper <= size(asked) / LEAST_RATIO + TEMPLATE + 1


@settings(deadline=None, max_examples=25)
@given(seen=st.lists(DOCUMENTS, min_size=40, max_size=40), wrong=st.sampled_from([0.6, 15.0]))
def test_recovers_from_a_burst_of_outliers(seen: list[list[tuple[bytes, int]]], wrong: float) -> None:
    """Ten absurd reports in a row are forgotten after two hundred good ones."""
    estimator = LinearEstimator(Estimation(), 16)
    for ratio, documents in ((3.0, seen), (wrong, seen[:10]), (3.0, seen * 5)):
        for parts in documents:
            teach(estimator, parts, ratio)
    parts = max(seen, key=size)
    assert abs(guess(estimator, parts)[0] / (size(parts) / 3.0 + 8) - 1) < 0.15


@settings(deadline=None, max_examples=25)
@given(first=st.lists(DOCUMENTS, min_size=5, max_size=30), second=st.lists(DOCUMENTS, min_size=5, max_size=30))
def test_two_processes_learn_as_one(
    first: list[list[tuple[bytes, int]]], second: list[list[tuple[bytes, int]]]
) -> None:
    """Merged in either order, what two have learned gives the same estimates to within 5 %."""
    learners = LinearEstimator(Estimation(), 16), LinearEstimator(Estimation(), 16)
    for estimator, documents in zip(learners, (first, second), strict=True):
        for parts in documents:
            teach(estimator, parts, 3.0)
    one, other = (estimator.export() for estimator in learners)
    forwards, backwards = LinearEstimator(Estimation(), 16), LinearEstimator(Estimation(), 16)
    forwards.restore(merge(one, other, 64))
    backwards.restore(merge(other, one, 64))
    for parts in (*first, *second):
        a, b = guess(forwards, parts)[0], guess(backwards, parts)[0]
        assert abs(a - b) <= 0.05 * max(a, b) + 1


@given(tokens=st.integers(), completion=st.integers(), times=st.integers(0, 1000))
def test_learning_never_raises(tokens: int, completion: int, times: int) -> None:
    """Whatever a server reports, it is learned or refused."""
    estimator = LinearEstimator(Estimation(), 16)
    seen = observation(None, features=document([(b"word ", times)]), usage=Usage(tokens, completion))
    assert estimator.learn(seen) in ("used", "outlier", "implausible")
