"""What reports that lie can do: little each, and nothing that makes a request fail."""

import random

import pytest

from extproc.body.usage import Usage
from extproc.budget.estimate import Estimator
from extproc.budget.learner import new_estimator, new_learner, new_output
from extproc.config import Config, Estimation
from tests.property.test_linear import WORDS, document, size
from tests.unit.budget.test_ratio import observation

pytestmark = pytest.mark.no_cover  # thousands of inputs: tracing each line would double the time

Document = list[tuple[bytes, int]]

TRUE = 3.0
ABSURD = (0.52, 15.5)
"""Bytes per token: the truth, and what is just possible."""

ESTIMATORS = ("linear", "ratio")
SETTLED = 300


def documents(draw: random.Random, count: int) -> list[Document]:
    return [[(draw.choice(WORDS), draw.randint(60, 300)) for _ in range(draw.randint(1, 6))] for _ in range(count)]


def teach(estimator: Estimator, document_: Document, ratio: float) -> str:
    usage = Usage(max(1, round(size(document_) / ratio)) + 8, 1)
    return estimator.learn(observation(None, features=document(document_), usage=usage))


def settled(name: str, draw: random.Random) -> Estimator:
    estimator = new_estimator(Estimation.model_validate({"estimator": name}), 16)
    for each in documents(draw, SETTLED):
        teach(estimator, each, TRUE * draw.uniform(0.9, 1.1))
    return estimator


def estimates(estimator: Estimator, asked: list[Document]) -> list[tuple[float, float]]:
    """Expected and upper tokens of each, over the truth."""
    found = [(estimator.estimate("m", "any", "text", document(each)), size(each) / TRUE + 8) for each in asked]
    return [(estimate.tokens / truth, estimate.upper / truth) for estimate, truth in found]


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("wrong", ABSURD)
@pytest.mark.parametrize("seed", range(5))
def test_one_lie_moves_a_settled_estimate_little(name: str, wrong: float, seed: int) -> None:
    """By less than 5 %, also when the figures have been worked out anew; the upper one by less than 30 % up."""
    draw = random.Random(seed)
    honest, lied_to = settled(name, random.Random(seed)), settled(name, random.Random(seed))
    asked, (told, *more) = documents(draw, 20), documents(draw, 33)
    teach(honest, told, TRUE)
    assert teach(lied_to, told, wrong) == "outlier"
    for estimator in (honest, lied_to):
        for each in more:
            teach(estimator, each, TRUE)
    pairs = zip(estimates(honest, asked), estimates(lied_to, asked), strict=True)
    for (expected, upper), (moved, moved_upper) in pairs:
        assert abs(moved / expected - 1) < 0.05
        assert 0.95 < moved_upper / upper < 1.3


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("wrong", ABSURD)
def test_a_server_that_lies_every_other_time_sends_requests_long(name: str, wrong: float) -> None:
    """What is reported half of the time is believed by half; the margin grows, so that requests still fit."""
    draw = random.Random(7)
    estimator = settled(name, draw)
    verdicts = [teach(estimator, each, (TRUE, wrong)[turn % 2]) for turn, each in enumerate(documents(draw, 400))]
    assert verdicts.count("outlier") >= 5
    assert all(upper > 1 for _, upper in estimates(estimator, documents(draw, 20)))


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("wrong", [0.3, 40.0])
def test_what_is_not_possible_moves_nothing(name: str, wrong: float) -> None:
    """However often it is said; and it is counted as what it is."""
    draw = random.Random(3)
    estimator = settled(name, draw)
    before = estimator.export()
    answers = {teach(estimator, [(b"the word ", 500)], wrong) for _ in range(200)}
    assert answers == {"implausible"}
    assert estimator.export() == before


def test_an_answer_longer_than_its_context_is_not_believed() -> None:
    """Neither about its own length nor about its prompt's."""
    learner = new_learner(Config())
    told = observation(None, cap=None, usage=Usage(600, 10**9), features=document([(b"the word ", 200)]))
    before = learner.export()
    assert learner.learn(told) == "implausible"
    assert learner.export() == before


@pytest.mark.parametrize("tokens", [1, 131_072])
def test_one_lie_moves_a_settled_reserve_by_a_step(tokens: int) -> None:
    """An answer without end, or none: a step of the histogram, 19 %, is the most."""
    output = new_output(Config())
    draw = random.Random(5)
    for _ in range(2000):
        output.learn(observation(None, cap=None, usage=Usage(10, round(draw.lognormvariate(5, 0.7)) + 1)))
    before = output.reserve("m", "latin", None).tokens
    output.learn(observation(None, cap=None, usage=Usage(10, tokens)))
    assert before / 1.2 <= output.reserve("m", "latin", None).tokens <= 1.2 * before + 1


@pytest.mark.parametrize("name", ESTIMATORS)
def test_made_up_models_are_bounded_in_number(name: str) -> None:
    """Whatever clients call them, what is kept of them all is bounded, and one in use is not forgotten."""
    limit = 8
    config = Config.model_validate({"estimation": {"estimator": name}, "categories": {"limit": limit}})
    learner = new_learner(config, ("file",))
    text = document([(b"the word ", 200)])
    for turn in range(500):
        learner.learn(observation(None, model=f"made-up-{turn}", features=text, usage=Usage(600, 5), cap=None))
        if turn % 2 == 0:
            learner.learn(observation(None, model="real", features=text, usage=Usage(600, 5), cap=None))
    table = learner.export()
    assert len(table) <= 4 * limit
    assert any("real" in key for key in table)
    assert len(learner.offer("file").pending) <= 4 * limit
