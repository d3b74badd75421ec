"""What the least squares learn, forget and refuse."""

import random

import numpy as np
import pytest
from msgspec.structs import astuple

from extproc.body.facts import Item
from extproc.budget.features import NAMES, features
from extproc.budget.least_squares import Fit, inputs
from extproc.budget.moments import WIDTH
from extproc.budget.prior import CONVERSATION, DEVIATION, LEAST, MOST, PRIOR, TOOLS, WEIGHTS
from tests.unit.budget.figures import figure

LOWER, DIGIT, MESSAGES = NAMES.index("lower"), NAMES.index("digit"), NAMES.index("messages")


def document(draw: random.Random) -> tuple[float, ...]:
    """A prompt of letters, digits, words and messages in some mixture."""
    values = [0.0] * len(NAMES)
    values[LOWER] = draw.uniform(500, 20_000)
    values[DIGIT] = draw.uniform(0, 3000)
    values[NAMES.index("word")] = values[LOWER] / draw.uniform(4, 7)
    values[MESSAGES] = draw.randrange(1, 20)
    return tuple(values)


def truth(weights: np.ndarray[tuple[int], np.dtype[np.float64]], x: tuple[float, ...]) -> float:
    return max(1.0, float(weights.dot(inputs(x))))


def test_it_starts_from_the_prior() -> None:
    """Before anything is seen the estimate is what the prior says, and its deviation that of the prior."""
    x = inputs(document(random.Random(1)))
    found = Fit().estimate(x)
    assert found.tokens == pytest.approx(float(PRIOR.dot(x)))
    assert 0.1 < found.deviation < 0.4


def test_it_finds_other_weights() -> None:
    """A tokenizer that charges otherwise is learned to within 1 % from 200 prompts."""
    draw, true = random.Random(2), PRIOR * 1.3
    true[DIGIT] = 0.35
    fit = Fit()
    for _ in range(200):
        x = document(draw)
        fit.learn(inputs(x), truth(true, x))
    x = document(draw)
    found = fit.estimate(inputs(x))
    assert found.tokens == pytest.approx(truth(true, x), rel=0.01)
    assert found.deviation < 0.05


def test_one_absurd_report_does_little() -> None:
    """A report ten times off moves a settled estimate by a few per cent and is an outlier."""
    draw, fit = random.Random(3), Fit()
    for _ in range(300):
        x = document(draw)
        assert not fit.learn(inputs(x), truth(PRIOR, x) * draw.uniform(0.95, 1.05))
    x = document(draw)
    before = fit.estimate(inputs(x)).tokens
    outlier = fit.learn(inputs(x), 10 * truth(PRIOR, x))
    fit._solve()
    assert outlier
    assert fit.estimate(inputs(x)).tokens == pytest.approx(before, rel=0.03)


def test_one_absurd_report_does_not_replace_a_model() -> None:
    """What was learned before it keeps its weight."""
    draw, fit = random.Random(3), Fit()
    for _ in range(300):
        x = document(draw)
        fit.learn(inputs(x), truth(PRIOR, x) * draw.uniform(0.9, 1.1))
    before = fit.sums().values[-2]
    x = document(draw)
    fit.learn(inputs(x), 10 * truth(PRIOR, x))
    assert fit.sums().values[-2] == pytest.approx(before, abs=1.0)


def test_a_replaced_model_is_learned_anew() -> None:
    """When another tokenizer goes by the name, 200 prompts are enough, though 3,000 had been seen."""
    draw, fit = random.Random(4), Fit()
    for step in range(3200):
        x = document(draw)
        scale = 1.0 if step < 3000 else 1.5
        fit.learn(inputs(x), truth(PRIOR, x) * scale * draw.uniform(0.97, 1.03))
    x = document(draw)
    assert fit.estimate(inputs(x)).tokens == pytest.approx(1.5 * truth(PRIOR, x), rel=0.05)


@pytest.mark.no_cover  # tracing each line would double the time
def test_it_is_stable_over_a_million_updates() -> None:
    """The variance of each weight stays positive and within the prior's; weights stay possible and right."""
    draw, fit = random.Random(5), Fit()
    seen = [(inputs(x), truth(PRIOR, x)) for x in (document(draw) for _ in range(1000))]
    for turn in range(1_000_000):
        fit.learn(*seen[turn % len(seen)])
    fit._solve()
    assert fit.samples == 1_000_000
    variances = (fit._root**2).sum(axis=0)  # the diagonal of P
    assert ((variances > 0) & (variances <= DEVIATION**2 * 1.000001)).all()
    assert ((fit.weights >= LEAST) & (fit.weights <= MOST)).all()
    for asked, tokens in seen[:20]:
        assert fit.estimate(asked).tokens == pytest.approx(tokens, rel=0.01)


def test_weights_stay_possible() -> None:
    """Reports that no tokenizer gives pull weights to their bounds, not beyond."""
    draw, fit = random.Random(6), Fit()
    for _ in range(300):
        x = document(draw)
        fit.learn(inputs(x), 2 * sum(x))
    assert ((fit.weights >= LEAST) & (fit.weights <= MOST)).all()


def test_sums_restore_the_same_fit() -> None:
    """What is kept is all there is to it, and what is impossible is refused."""
    draw, fit = random.Random(7), Fit()
    for _ in range(100):
        x = document(draw)
        fit.learn(inputs(x), 1.2 * truth(PRIOR, x))
    fit._solve()
    other = Fit()
    assert other.restore(fit.sums(), None)
    asked = inputs(document(draw))
    assert astuple(other.estimate(asked)) == pytest.approx(astuple(fit.estimate(asked)))
    nothing = (0.0,) * (WIDTH - 2)
    for values in (
        (1.0, 2.0),
        (float("nan"),) * WIDTH,
        (*(-1.0,) * (WIDTH - 2), 50.0, 2.0),
        (*nothing, -1.0, 2.0),
        (*nothing, 50.0, -2.0),
    ):
        assert not Fit().restore(figure(5, 1.0, values), None)


def test_there_is_a_weight_for_every_input() -> None:
    """Prior, deviation and bounds are of one length and in order."""
    assert len(PRIOR) == len(DEVIATION) == len(LEAST) == len(MOST) == WEIGHTS == len(NAMES) + 2
    assert ((LEAST <= PRIOR) & (PRIOR <= MOST)).all()


@pytest.mark.parametrize(
    ("messages", "tools", "seen"), [(0, b"", (0, 0)), (1, b"{}", (1, 1)), (7, b"[{}]", (1, 1))]
)
def test_a_conversation_and_tools_count_once(messages: int, tools: bytes, seen: tuple[int, int]) -> None:
    """However many messages there are, and however long the tools: what they cost by number is counted besides."""
    x = inputs(features(Item(text=b"a", tools=tools, messages=messages)))
    assert (x[CONVERSATION], x[TOOLS]) == seen


def test_sums_with_other_errors_are_of_another_fit() -> None:
    """As many observations of the same prompts, and not the same answers."""
    x, one, other = inputs(document(random.Random(8))), Fit(), Fit()
    tokens = one.estimate(x).tokens
    one.learn(x, 1.05 * tokens)
    other.learn(x, 1.1 * tokens)
    assert one.has(one.sums())
    assert not one.has(other.sums())


@pytest.mark.parametrize(("tokens", "weight"), [(51.2, 0.1), (512.0, 1.0), (51_200.0, 1.0)])
def test_a_short_prompt_teaches_less(tokens: float, weight: float) -> None:
    """Much of it is template: it counts for as much as it is long."""
    fit = Fit()
    fit.learn(inputs(document(random.Random(8))), tokens)
    assert fit.sums().values[-2] == pytest.approx(weight)
