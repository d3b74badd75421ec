"""Rules of `extproc.planning.workload`."""

import numpy as np
import pytest

from extproc.planning.errors import PlanError
from extproc.planning.workload import NO_CAP, Arrivals, merge, superpose, with_caps
from tests.unit.planning.conftest import make_workload


def test_budget_is_input_plus_cap_or_reserve() -> None:
    """A request without a cap is budgeted with the reserve."""
    assert make_workload((100, 5, 50), (100, 5, NO_CAP)).budgets(30).tolist() == [150, 130]


def test_quantile_is_an_element_with_enough_weight_below() -> None:
    """A quantile is the smallest value that holds the share asked for."""
    workload = make_workload((1, 0, 0), (2, 0, 0), (3, 0, 0), (4, 0, 0))
    assert [workload.quantile(workload.inputs, q) for q in (0.25, 0.5, 0.51, 1.0)] == [1, 2, 3, 4]


def test_subset_takes_its_share_of_the_rate() -> None:
    """Half the requests come at half the rate."""
    workload = make_workload((1, 1, 1), (2, 1, 1), rate=10)
    part = workload.part(np.array([0.0, 1.0]))
    assert part is not None
    assert part.needs_rate().rate == 5


@pytest.mark.parametrize(
    ("law", "caps"),
    [
        ("as logged", [7, NO_CAP]),
        ("none", [NO_CAP, NO_CAP]),
        ("exact", [5, 300]),
        ("round", [256, 512]),
        ("64", [64, 300]),
    ],
)
def test_cap_laws(law: str, caps: list[int]) -> None:
    """Each law sets the caps it names."""
    assert with_caps(make_workload((1, 5, 7), (1, 300, NO_CAP)), law).caps.tolist() == caps


def test_unknown_cap_law() -> None:
    """An unknown law is an error that names those there are."""
    with pytest.raises(PlanError, match="--caps: 'most': must be one of"):
        with_caps(make_workload((1, 1, 1)), "most")


@pytest.mark.parametrize("law", ["0", "99999999999999999999", "9" * 5000])
def test_caps_that_are_no_count_of_tokens(law: str) -> None:
    """A cap beyond any context is an error that says how large one may be."""
    with pytest.raises(PlanError, match="or a number of tokens up to 100000000"):
        with_caps(make_workload((1, 1, 1)), law)


def test_rate_must_be_positive() -> None:
    """A rate of 0 is an error."""
    with pytest.raises(PlanError, match="--rate: 0"):
        make_workload((1, 1, 1)).with_rate(0)


def test_rate_is_needed() -> None:
    """A workload without timestamps asks for a rate."""
    with pytest.raises(PlanError, match="give the arrival rate with --rate"):
        make_workload((1, 1, 1), rate=None).needs_rate()


def test_a_short_recording_counts_for_its_requests() -> None:
    """Traces of an hour and of five minutes: the mean is all requests over the hour, the peak while both come."""
    hour = Arrivals(10.0, 10.0, 1.0, 3600.0, (10.0,) * 60)
    minutes = Arrivals(10.0, 10.0, 1.0, 300.0, (10.0,) * 5)
    both = superpose([hour, minutes])
    assert both.rate == pytest.approx(39_000 / 3600)
    assert both.cv == pytest.approx(1.0)
    assert (both.peak, both.seconds) == (20.0, 3600.0)


def test_merged_rates_add_up() -> None:
    """Two workloads together come at the sum of their rates."""
    both = merge([make_workload((1, 1, 1), rate=2), make_workload((2, 1, 1), rate=3)])
    assert both.needs_rate().rate == 5
    assert both.inputs.tolist() == [1, 2]
