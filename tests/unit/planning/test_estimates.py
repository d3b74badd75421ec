"""Rules of the reserve in `extproc.planning.estimates`."""

import math

from extproc.budget.output import OutputReserve, bucket_of
from extproc.config import Config, Output
from extproc.planning.estimates import Reserves, taught
from extproc.planning.text import MEASURED
from extproc.planning.workload import MOST_TOKENS, NO_CAP
from tests.unit.planning.conftest import make_workload

UNCAPPED = make_workload(*[(500, 10 * n, NO_CAP) for n in range(1, 101)])
"""Answers of up to 1,000 tokens, all equally likely."""


def bucket_above(tokens: int) -> float:
    """What a histogram of the service says of a quantile of `tokens`."""
    return float(2 ** (bucket_of(tokens) / 4))


def test_reserve_is_what_the_service_sets_aside() -> None:
    """Answers exceed the reserve by no more tokens on average than misroutes of the smallest pool are accepted."""
    reserves = Reserves(Config(), UNCAPPED)
    small, large = reserves.tokens(2_000), reserves.tokens(64_000)
    assert small == math.ceil(bucket_above(1_000))
    excess = sum(max(0, 10 * n - large) for n in range(1, 101)) / 100
    assert excess < 0.001 * 64_000 < small


def test_reserve_is_the_configured_quantile() -> None:
    """A quantile in the configuration of the service is that of the closed form, whatever the pool."""
    reserves = Reserves(Config(output=Output(quantile=0.5)), UNCAPPED)
    assert reserves.tokens(2_000) == reserves.tokens(64_000)
    assert 500 <= reserves.tokens(2_000) <= bucket_above(520) + 1


def test_nothing_is_set_aside_where_every_request_has_a_cap() -> None:
    """A cap is its own reserve."""
    assert Reserves(Config(), make_workload((500, 10, 20))).tokens(2_000) == 0


def test_unknown_reserve_fits_no_pool() -> None:
    """A service that wants more answers than it has seen sends requests without a cap long."""
    assert Reserves(Config(output=Output(min_samples=10_000)), UNCAPPED).tokens(2_000) == MOST_TOKENS


def test_a_simulated_service_begins_with_what_answers_without_a_cap_have_taught() -> None:
    """Only those say how long answers are."""

    def output(cap: int) -> OutputReserve:
        return taught(Config(), MEASURED, make_workload((500, 100, cap))).output

    assert output(NO_CAP).reserve("", "", None).source == "learned"
    assert output(200).reserve("", "", None).source == "unknown"
