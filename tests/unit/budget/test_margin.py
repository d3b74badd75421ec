"""The margin follows from the errors seen, and from how many requests are near a threshold."""

import math
import random

import pytest

from extproc.budget.margin import Errors, cell_of

RATE = 0.001
DEVIATION = 0.05


def errors(draw: random.Random, samples: int, tokens: float = 3000.0, spread: float = 1.0) -> Errors:
    """Errors whose standardised logarithm is normal with deviation `spread`."""
    found = Errors()
    for _ in range(samples):
        found.add(cell_of(tokens, draw.gauss(0.0, spread)))
    return found


def excess(margin: float, spread: float) -> float:
    """E[max(t − margin, 0)] of a normal t, in closed form."""
    z = margin / spread
    density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    return spread * (density - z * 0.5 * math.erfc(z / math.sqrt(2)))


def test_it_keeps_the_rate_that_was_accepted() -> None:
    """With all requests of one size the expected misroutes at the margin are at the rate, and not far below it."""
    found = errors(random.Random(1), 5000)
    margin = found.margin(3000.0, DEVIATION, RATE) / DEVIATION
    misrouted = DEVIATION / math.log(2) * excess(margin, 1.0)  # all in one factor of two
    assert RATE / 4 < misrouted < RATE


def test_only_errors_below_the_truth_count() -> None:
    """Estimates that are always too high need almost no margin."""
    found = Errors()
    for _ in range(1000):
        found.add(cell_of(3000.0, -2.0))
    assert found.margin(3000.0, DEVIATION, RATE) < 0.5 * errors(random.Random(1), 1000).margin(
        3000.0, DEVIATION, RATE
    )


def test_a_lower_rate_takes_a_higher_margin() -> None:
    """Accepting fewer misroutes costs margin."""
    found = errors(random.Random(2), 1000)
    assert found.margin(3000.0, DEVIATION, 1e-4) > found.margin(3000.0, DEVIATION, 1e-2)


def test_sizes_without_requests_need_less() -> None:
    """Where few requests are, few can be misrouted."""
    found = errors(random.Random(3), 2000, tokens=100.0)
    assert found.margin(50_000.0, DEVIATION, RATE) < found.margin(100.0, DEVIATION, RATE)


def test_errors_of_half_and_twice_the_size_count() -> None:
    """A size of which nothing was seen has the margin of its neighbours in size."""
    found = errors(random.Random(6), 1000, tokens=3000.0)
    margin = found.margin(3000.0, DEVIATION, RATE)
    assert found.margin(1500.0, DEVIATION, RATE) == margin == found.margin(6000.0, DEVIATION, RATE)


def test_it_is_careful_while_young() -> None:
    """A few good errors do not bring the margin down to that of many."""
    few, many = errors(random.Random(4), 5, spread=0.5), errors(random.Random(4), 2000, spread=0.5)
    nothing = Errors().margin(3000.0, DEVIATION, RATE)
    assert nothing > 0
    assert few.margin(3000.0, DEVIATION, RATE) > many.margin(3000.0, DEVIATION, RATE)


def test_before_any_error_it_is_that_of_a_laplace_distribution() -> None:
    """Its excess over k is b/2 · exp(−k/b) with b = 1/√2, and the density of requests is 0.5."""
    scale = 1 / math.sqrt(2)
    expected = -scale * math.log(RATE / (0.5 * DEVIATION * scale / 2))
    assert Errors().margin(3000.0, DEVIATION, RATE) / DEVIATION == pytest.approx(expected, rel=0.01)


def test_a_hopeless_rate_is_answered_by_the_largest_step() -> None:
    """There is a margin for any rate, however small."""
    found = errors(random.Random(5), 100)
    assert 0 < found.margin(3000.0, 1.0, 1e-12) < 40


@pytest.mark.parametrize("tokens", [1.0, 63.0, 1e9])
def test_the_smallest_and_the_largest_sizes_have_a_margin(tokens: float) -> None:
    """They have a neighbour on one side only."""
    assert Errors().margin(tokens, 0.05, 0.001) > 0


def test_whoever_is_given_the_counts_has_the_same_margin() -> None:
    """Margins are computed again after some errors only, but then after those that are shared too."""
    found = errors(random.Random(7), 70)
    found.margin(3000.0, DEVIATION, RATE)
    for _ in range(5):
        found.add(cell_of(3000.0, 4.0))
    given = Errors(found.sums())
    assert found.margin(3000.0, DEVIATION, RATE) == given.margin(3000.0, DEVIATION, RATE)


def test_a_rate_that_accepts_everything_takes_no_margin() -> None:
    """There is nothing to be careful about."""
    assert Errors().margin(3000.0, DEVIATION, 1.0) == 0.0


def test_errors_of_long_ago_fade() -> None:
    """Once estimates are good, the margin is almost that of a model that was never bad."""
    found, good = Errors(), Errors()
    for error, times in ((5.0, 200), (0.5, 20_000)):
        for _ in range(times):
            found.add(cell_of(3000.0, error))
            good.add(cell_of(3000.0, 0.5))
    margins = [each.margin(3000.0, DEVIATION, RATE) for each in (found, good)]
    assert margins[0] == pytest.approx(margins[1], rel=0.05)
    assert margins[1] > 0


def test_the_smallest_sizes_share_a_row_and_so_do_the_largest() -> None:
    """None counts where another size does."""
    assert cell_of(1.0, 0.0) == cell_of(63.0, 0.0) < cell_of(64.0, 0.0)
    assert cell_of(1e6, 0.0) == cell_of(1e9, 0.0) > cell_of(1000.0, 0.0)
