"""Rules of `extproc.budget.ratio`."""

from typing import Any

import pytest

from extproc.body.facts import Item
from extproc.body.usage import Usage
from extproc.budget.features import features
from extproc.budget.observation import Observation
from extproc.budget.ratio import YOUNG_SAMPLES, RatioEstimator, from_sums
from extproc.config import Estimation
from tests.unit.budget.figures import figure

SETTINGS = Estimation(prior_bytes_per_token=3, smoothing=0.05, deviations=2, min_samples=5, tokens_per_message=4)
FEATURES = features(Item(text=b"a" * 1000, messages=1))


def observation(tokens: int | None, **changes: Any) -> Observation:
    values: dict[str, Any] = {
        "model": "m",
        "category": "latin",
        "basis": "text",
        "features": FEATURES,
        "estimate": 0,
        "cap": None,
        "prompts": 1,
        "choices": 1,
        "teaches": True,
        "pool": "short",
        "capacity": 8192,
        "largest": False,
        "usage": None if tokens is None else Usage(tokens, 1),
    }
    return Observation(**{**values, **changes})


def learned(*tokens: int, **changes: Any) -> RatioEstimator:
    estimator = RatioEstimator(SETTINGS, limit=16)
    for count in tokens:
        estimator.learn(observation(count, **changes))
    return estimator


def estimate(estimator: RatioEstimator, model: str = "m", category: str = "latin") -> tuple[int, int, str]:
    got = estimator.estimate(model, category, "text", FEATURES)
    return got.tokens, got.upper, got.source


def test_prior_before_anything_is_learned() -> None:
    """1,000 bytes at 3 bytes per token, and 4 tokens for the message."""
    assert estimate(learned()) == (338, 338, "prior")


def test_learned_ratio_is_bytes_per_token_less_the_template() -> None:
    """204 tokens, 4 of them template, are 5 bytes per token; without spread there is no margin."""
    assert estimate(learned(*[204] * 5)) == (204, 204, "learned")


def test_too_few_samples_leave_the_prior() -> None:
    """Four observations are not yet five."""
    assert estimate(learned(*[204] * 4))[2] == "prior"


def test_falls_back_from_category_to_model_to_global() -> None:
    """A category not seen takes the model's figure, a model not seen the global one."""
    estimator = learned(*[204] * 5)
    assert estimate(estimator, "m", "cjk") == (204, 204, "learned")
    assert estimate(estimator, "other", "cjk") == (204, 204, "learned")


def test_margin_follows_the_spread() -> None:
    """The upper figure divides by the mean less two standard deviations."""
    estimator = learned(204, 304, 204, 304, 204, 304)
    entry = estimator.snapshot()["ratios"]
    mean, deviation = entry[-1]["bytes_per_token"], entry[-1]["deviation"]
    tokens, upper, _ = estimate(estimator)
    assert tokens == pytest.approx(1000 / mean + 4, abs=1)
    assert upper == pytest.approx(1000 / (mean - 2 * deviation) + 4, abs=1)


@pytest.mark.parametrize("tokens", [0, -5, 3, 100_000, 10**18])
def test_impossible_usage_moves_nothing(tokens: int) -> None:
    """Fewer than half a byte or more than 16 bytes per token is not tokenisation."""
    estimator = learned(*[204] * 5)
    before = estimator.snapshot()
    assert estimator.learn(observation(tokens)) == "implausible"
    assert estimator.snapshot() == before


def test_one_outlier_moves_a_ratio_by_a_bounded_step() -> None:
    """After many equal observations of 5 bytes per token, one of 1 moves the mean by less than 1 %."""
    estimator = learned(*[204] * 50)
    assert estimator.learn(observation(1004)) == "outlier"
    tokens, _, _ = estimate(estimator)
    assert 204 <= tokens <= 206


def test_missing_usage_is_said() -> None:
    """An answer without usage teaches nothing."""
    estimator = learned()
    assert estimator.learn(observation(None)) == "no_usage"
    assert estimator.snapshot() == {"ratios": []}


def test_bases_are_kept_apart() -> None:
    """What raw body bytes cost says nothing of what text costs."""
    estimator = learned(*[204] * 5, basis="raw")
    assert estimate(estimator)[2] == "prior"
    assert estimator.estimate("m", "latin", "raw", FEATURES).source == "learned"


def test_keys_are_bounded() -> None:
    """However many models clients name, at most `limit` ratios are kept."""
    estimator = RatioEstimator(SETTINGS, limit=8)
    for i in range(1000):
        estimator.learn(observation(204, model=f"model-{i}"))
    entries = estimator.snapshot()["ratios"]
    assert len(entries) == 8


def test_one_busy_category_does_not_speak_for_all() -> None:
    """Only the first observations of each category teach the figures for others."""
    estimator = RatioEstimator(SETTINGS, limit=16)
    for _ in range(2 * YOUNG_SAMPLES):
        estimator.learn(observation(204))
    assert {key[2:]: sums.samples for key, sums in estimator.export().items()} == {
        ("m", "latin"): 2 * YOUNG_SAMPLES,
        ("m", ""): YOUNG_SAMPLES,
        ("", ""): YOUNG_SAMPLES,
    }


def test_a_short_prompt_teaches_less() -> None:
    """Much of what it costs is template: a tenth of the bytes that count in full moves a mean by a tenth."""
    moved = []
    for size in (258, 24):
        estimator = RatioEstimator(SETTINGS, limit=16)
        for _ in range(20):
            estimator.learn(observation(204))
        short = features(Item(text=b"a" * size))
        estimator.learn(observation(round(size / 6), features=short))
        entry = next(e for e in estimator.snapshot()["ratios"] if e["category"] == "latin")
        moved.append(abs(entry["bytes_per_token"] - 5.0))
    assert moved[1] < 0.2 * moved[0]


def test_a_variance_that_rounding_made_negative_is_none() -> None:
    """Equal observations have no spread, whatever their sums have come to."""
    ratio = from_sums(figure(10, 0.5, (10.0, 40.0, 159.9999999)))
    assert ratio is not None
    assert (ratio.mean, ratio.deviation) == (4.0, 0.0)


def test_state_names_each_ratio() -> None:
    """By basis, model and category, with its spread and how many answers it rests on."""
    assert learned(*[204] * 5).snapshot()["ratios"][-1] == {
        "basis": "text",
        "model": "m",
        "category": "latin",
        "bytes_per_token": pytest.approx(5.0),
        "deviation": pytest.approx(0.0),
        "samples": 5,
    }
