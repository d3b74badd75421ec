"""The linear estimator, as the learner and the budget use it."""

import random
from typing import Any

import pytest

from extproc.body.facts import Item
from extproc.body.usage import Usage
from extproc.budget.estimate import Estimator
from extproc.budget.features import features
from extproc.budget.learner import new_estimator
from extproc.budget.least_squares import Fit
from extproc.budget.linear import LinearEstimator
from extproc.budget.observation import Basis
from extproc.budget.ratio import YOUNG_SAMPLES
from extproc.config import Estimation
from extproc.state.codec import decode, encode
from tests.unit.budget.test_ratio import observation

PROSE = b"The service never rejects a request, whatever it is made of. " * 60
TABLE = b"2026-11-24,1043,88.12,0.0031,7731\n" * 100
TEXTS = (PROSE, TABLE, PROSE + TABLE, TABLE * 2)


def facts(text: bytes) -> tuple[float, ...]:
    return features(Item(text=text, messages=1))


def teach(estimator: LinearEstimator, times: int, model: str = "m", scale: float = 1.0) -> None:
    """Report a tokenizer that needs a token for six bytes of prose and for two of the table."""
    for turn in range(times):
        text = TEXTS[turn % len(TEXTS)]
        tokens = scale * (text.count(PROSE) * len(PROSE) / 6 + text.count(TABLE) * len(TABLE) / 2) + 8
        seen = observation(None, model=model, features=facts(text), usage=Usage(round(tokens), 10))
        estimator.learn(seen)


def guess(estimator: Estimator, text: bytes, model: str = "m", basis: Basis = "text") -> Any:
    return estimator.estimate(model, "any", basis, facts(text))


def test_it_tells_kinds_of_text_apart_without_a_category() -> None:
    """Prose and tables of one model, six bytes a token and two, are both estimated to within 3 %."""
    estimator = LinearEstimator(Estimation(), 16)
    teach(estimator, 200)
    assert guess(estimator, PROSE * 3).tokens == pytest.approx(len(PROSE) * 3 / 6, rel=0.03)
    assert guess(estimator, TABLE * 3).tokens == pytest.approx(len(TABLE) * 3 / 2, rel=0.03)


@pytest.mark.parametrize("template", [20, 600, 3000])
def test_a_template_may_print_a_long_system_prompt(template: int) -> None:
    """What comes to every conversation is learned, of short chats too, and no upper estimate is without it."""
    estimator = LinearEstimator(Estimation(), 16)
    draw = random.Random(2)
    for _ in range(300):
        text = PROSE[: draw.choice((50, 400, 3000))]
        seen = observation(None, features=facts(text), usage=Usage(round(len(text) / 6 + template), 10))
        assert estimator.learn(seen) in ("used", "outlier")
    assert guess(estimator, PROSE[:300]).upper >= 50 + template


def test_an_estimate_says_where_it_comes_from() -> None:
    """Prior before `min_samples` observations, learned after; the upper figure is never below the expected one."""
    estimator = LinearEstimator(Estimation(min_samples=10), 16)
    teach(estimator, 9)
    assert guess(estimator, PROSE).source == "prior"
    teach(estimator, 1)
    learned = guess(estimator, PROSE)
    assert learned.source == "learned"
    assert learned.upper >= learned.tokens


def test_an_unknown_model_starts_from_what_others_taught() -> None:
    """A model that was never seen is estimated by the first observations of those that were."""
    estimator = LinearEstimator(Estimation(), 16)
    teach(estimator, 60, model="other", scale=1.4)
    known, new, prior = (
        guess(e, PROSE, model=m).tokens
        for e, m in ((estimator, "other"), (estimator, "new"), (LinearEstimator(Estimation(), 16), "new"))
    )
    assert new == pytest.approx(known, rel=0.01)
    assert prior != pytest.approx(known, rel=0.05)


def test_one_busy_model_does_not_speak_for_all() -> None:
    """Only the first observations of each model teach the figures for unknown ones."""
    estimator = LinearEstimator(Estimation(), 16)
    teach(estimator, 3 * YOUNG_SAMPLES)
    entries = estimator.snapshot()["linear"]
    assert {entry["model"]: entry["samples"] for entry in entries} == {"m": 3 * YOUNG_SAMPLES, "": YOUNG_SAMPLES}


def test_raw_bodies_have_the_margin_of_their_own_errors() -> None:
    """The careful ratio is below the mean by what raw bodies taught, more for fewer misroutes."""
    draw = random.Random(1)
    tight, loose, equal = (LinearEstimator(Estimation(misroute_percent=p), 16) for p in (0.1, 1.0, 0.1))
    for _ in range(1000):
        size = draw.lognormvariate(9.0, 1.0)
        raw, tokens = features(Item(raw=round(size))), size / draw.uniform(3.0, 5.0)
        for estimator in (tight, loose):
            estimator.learn(observation(None, basis="raw", features=raw, usage=Usage(round(tokens), 1)))
        equal.learn(observation(None, basis="raw", features=raw, usage=Usage(round(size / 4), 1)))
    careful = [estimator.raw("m", "all").careful / 4 for estimator in (tight, loose, equal)]
    assert 0.6 < careful[0] < careful[1] < 0.95 < careful[2] <= 1.01
    again = LinearEstimator(Estimation(), 16)
    again.restore(tight.export())
    assert again.raw("m", "all").careful == pytest.approx(tight.raw("m", "all").careful)


def test_raw_bodies_have_a_ratio() -> None:
    """Of a body that stays in Envoy only the size is known: bytes per token, learned apart from text."""
    estimator = LinearEstimator(Estimation(min_samples=5), 16)
    raw = features(Item(raw=8000))
    for _ in range(10):
        estimator.learn(observation(None, basis="raw", features=raw, usage=Usage(2000, 1)))
    assert estimator.estimate("m", "all", "raw", raw).tokens == pytest.approx(2000, rel=0.02)
    assert estimator.raw_keys() == {("m", "latin"), ("m", ""), ("", "")}
    assert guess(estimator, PROSE).source == "prior"


@pytest.mark.parametrize("tokens", [0, 1, 10**9])
def test_impossible_reports_teach_nothing(tokens: int) -> None:
    """More tokens than bytes allow, or fewer, are refused."""
    estimator = LinearEstimator(Estimation(), 16)
    verdict = estimator.learn(observation(None, features=facts(PROSE), usage=Usage(tokens, 1)))
    assert (verdict, estimator.export()) == ("implausible", {})


def test_what_is_exported_restores_the_same_estimates() -> None:
    """Weights and margin are as they were, after a restart or in another process."""
    one, two = LinearEstimator(Estimation(), 16), LinearEstimator(Estimation(), 16)
    teach(one, 64)
    two.restore(one.export())
    for text in TEXTS:
        assert guess(two, text) == guess(one, text)


def test_a_lower_rate_of_misroutes_takes_a_higher_margin() -> None:
    """The configuration states the rate; the margin follows."""
    careful, bold = (LinearEstimator(Estimation(misroute_percent=percent), 16) for percent in (0.01, 5.0))
    for estimator in (careful, bold):
        teach(estimator, 100)
    assert guess(careful, PROSE).upper > guess(bold, PROSE).upper


def test_the_margin_follows_the_errors_that_were_seen() -> None:
    """A model whose errors stay within ten per cent needs less than one of which only their mean is known."""
    seen, unseen = LinearEstimator(Estimation(), 16), LinearEstimator(Estimation(), 16)
    for _ in range(50):
        for scale in (0.9, 1.1):
            teach(seen, len(TEXTS), scale=scale)
    unseen.restore({key: sums for key, sums in seen.export().items() if key[0] == "linear"})
    known, guessed = guess(seen, PROSE * 10), guess(unseen, PROSE * 10)
    assert known.tokens == guessed.tokens
    assert 1.05 * known.tokens < known.upper < 0.97 * guessed.upper


def test_an_answer_that_does_not_say_how_long_its_prompt_was_teaches_nothing() -> None:
    """Some report completion tokens alone."""
    estimator = LinearEstimator(Estimation(), 16)
    assert estimator.learn(observation(None, features=facts(PROSE), usage=Usage(None, 5))) == "no_usage"
    assert estimator.export() == {}


def test_the_margin_of_raw_bodies_of_a_new_model_is_that_of_others() -> None:
    """The first errors of each model are those of all, until a model has its own."""
    estimator = LinearEstimator(Estimation(min_samples=5), 16)
    raw = features(Item(raw=8000))
    for turn in range(60):
        tokens = 2400 if turn % 2 else 1600
        estimator.learn(observation(None, basis="raw", features=raw, usage=Usage(tokens, 1)))
    assert estimator.export()["raw-errors", ""].samples == 60
    new, known = estimator.raw("new", "all"), estimator.raw("m", "all")
    assert new.careful == pytest.approx(known.careful)
    assert new.careful < new.mean


def test_the_margin_is_that_of_the_model() -> None:
    """One model's errors are not another's."""
    estimator = LinearEstimator(Estimation(), 16)
    for _ in range(50):
        teach(estimator, len(TEXTS), model="other")
    alone = LinearEstimator(Estimation(), 16)
    for model, to in (("m", estimator), ("m", alone)):
        for _ in range(25):
            for scale in (0.9, 1.1):
                teach(to, len(TEXTS), model=model, scale=scale)
    assert guess(estimator, PROSE * 10).upper == pytest.approx(guess(alone, PROSE * 10).upper, rel=0.01)


def test_a_model_that_is_not_yet_known_has_the_margin_of_others() -> None:
    """As it has their weights: its upper estimate is as careful as theirs."""
    estimator = LinearEstimator(Estimation(), 16)
    for _ in range(10):
        for scale in (0.7, 1.3):
            teach(estimator, len(TEXTS), scale=scale)
    assert guess(estimator, PROSE, model="new") == guess(estimator, PROSE)


def solving(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets the samples of every fit solved from now on."""
    solved: list[int] = []
    solve = Fit._solve

    def noted(fit: Fit) -> None:
        solved.append(fit.samples)
        solve(fit)

    monkeypatch.setattr(Fit, "_solve", noted)
    return solved


def test_only_what_has_changed_is_solved_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table comes back from its store every second: of hundreds of models one or two have something new."""
    one, other = LinearEstimator(Estimation(), 16), LinearEstimator(Estimation(), 16)
    for model in ("a", "b", "c"):
        teach(one, len(TEXTS), model=model)
    table = one.export()
    other.restore(table)
    teach(other, 1, model="b")
    solved = solving(monkeypatch)
    one.restore(decode(encode(table, 0.0)).table)
    assert solved == []
    one.restore(decode(encode(other.export(), 0.0)).table)
    assert sorted(solved) == [len(TEXTS) + 1, 3 * len(TEXTS) + 1]  # the model's, and that for models not yet known
    assert one.export() == other.export()


def test_what_is_ready_is_not_solved_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless it was learned meanwhile: its figures are others then."""
    one, other, late = (LinearEstimator(Estimation(), 16) for _ in range(3))
    for model in ("a", "b", "c"):
        teach(other, len(TEXTS), model=model)
    table = other.export()
    late.restore(table)
    teach(late, 1, model="b")
    assert len(list(one.ready(table))) == len(table)
    assert one.export() == {}
    solved = solving(monkeypatch)
    table["linear", "b"] = late.export()["linear", "b"]
    one.restore(table)
    assert solved == [len(TEXTS) + 1]
    assert one.export() == table


def test_an_estimator_that_replaces_another_does_not_solve_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reload changes the margin at most, and solving for thousands of models would hold up requests."""
    one = LinearEstimator(Estimation(misroute_percent=0.01), 16)
    teach(one, 100)
    solved = solving(monkeypatch)
    bold = new_estimator(Estimation(misroute_percent=5.0), 16, one)
    bold.restore(one.export())
    assert solved == []
    assert bold.export() == one.export()
    assert guess(bold, PROSE).tokens == guess(one, PROSE).tokens
    assert guess(bold, PROSE).upper < guess(one, PROSE).upper


def test_no_estimate_is_below_what_any_tokenizer_counts() -> None:
    """Sixteen bytes to a token at most, to the token: of a text of blanks too."""
    estimator = LinearEstimator(Estimation(), 16)
    for size in range(960, 1040):
        assert estimator.estimate("m", "all", "text", features(Item(text=b" " * size))).tokens >= size / 16


def test_no_estimate_is_above_what_any_tokenizer_counts() -> None:
    """Two tokens to a byte at most: of a text that costs more by the weights that another has taught, too."""
    estimator = LinearEstimator(Estimation(), 16)
    for _ in range(100):
        estimator.learn(observation(None, features=features(Item(text=PROSE)), usage=Usage(2 * len(PROSE), 1)))
    for text in (b"x" * 1000, b"a1" * 500):
        estimate = estimator.estimate("m", "all", "text", features(Item(text=text)))
        assert (estimate.tokens, estimate.upper) == (2000, 2000)
