"""Properties of the ratio estimator."""

from hypothesis import given
from hypothesis import strategies as st

from extproc.body.facts import Item
from extproc.body.usage import Usage
from extproc.budget.features import features
from extproc.budget.ratio import LEAST_RATIO, MOST_RATIO, RatioEstimator
from extproc.config import Estimation
from tests.unit.budget.test_ratio import observation

SETTINGS = Estimation(tokens_per_message=4, min_samples=20)
SIZES = st.integers(300, 50_000)


def prompt(size: int) -> tuple[float, ...]:
    return features(Item(text=b"a" * size, messages=1))


def teach(estimator: RatioEstimator, size: int, ratio: float) -> None:
    usage = Usage(round(size / ratio) + 4, 1)
    estimator.learn(observation(None, features=prompt(size), usage=usage))


def guess(estimator: RatioEstimator, size: int) -> tuple[int, int]:
    estimate = estimator.estimate("m", "latin", "text", prompt(size))
    return estimate.tokens, estimate.upper


@given(ratio=st.floats(1.0, 8.0), sizes=st.lists(SIZES, min_size=60, max_size=60))
def test_converges_to_a_constant_ratio(ratio: float, sizes: list[int]) -> None:
    """When every prompt costs the same per byte, the estimate is within 3 % after 60 of them."""
    estimator = RatioEstimator(SETTINGS, 16)
    for size in sizes:
        teach(estimator, size, ratio)
    assert abs(guess(estimator, 20_000)[0] / (20_000 / ratio + 4) - 1) < 0.03


@given(ratio=st.floats(2.0, 6.0), wrong=st.sampled_from([0.6, 15.0]))
def test_recovers_from_a_burst_of_outliers(ratio: float, wrong: float) -> None:
    """Ten absurd reports in a row are forgotten after a hundred good ones."""
    estimator = RatioEstimator(SETTINGS, 16)
    for value in [ratio] * 50 + [wrong] * 10 + [ratio] * 100:
        teach(estimator, 10_000, value)
    assert abs(guess(estimator, 20_000)[0] / (20_000 / ratio + 4) - 1) < 0.05


@given(
    ratios=st.lists(st.floats(0.5, 16.0), max_size=40),
    sizes=st.lists(st.integers(0, 10**6), min_size=2, max_size=2),
)
def test_monotone_in_bytes_and_within_bounds(ratios: list[float], sizes: list[int]) -> None:
    """More text is never fewer tokens, the upper figure is never below the expected, both are possible."""
    estimator = RatioEstimator(SETTINGS, 16)
    for ratio in ratios:
        teach(estimator, 5_000, ratio)
    (less, less_upper), (more, more_upper) = (guess(estimator, size) for size in sorted(sizes))
    assert less <= more
    assert less_upper <= more_upper
    assert more <= more_upper
    size = max(sizes)
    assert size / MOST_RATIO <= more_upper <= size / LEAST_RATIO + 5


@given(tokens=st.integers(), completion=st.integers(), size=st.integers(0, 10**4))
def test_learning_never_raises(tokens: int, completion: int, size: int) -> None:
    """Whatever a server reports, it is learned or refused."""
    estimator = RatioEstimator(SETTINGS, 16)
    verdict = estimator.learn(observation(None, features=prompt(size), usage=Usage(tokens, completion)))
    assert verdict in ("used", "implausible")
