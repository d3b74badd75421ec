"""Sums for least squares: adding many at once is adding one by one, and nothing is taken twice."""

import random

import numpy as np
import pytest

from extproc.budget.moments import WIDTH, Moments
from extproc.budget.prior import WEIGHTS
from extproc.budget.sums import Sums
from tests.unit.budget.figures import figure


def noted(draw: random.Random, moments: Moments) -> Sums:
    """Note an observation, and return it as the sums that the definition says."""
    x, tokens = np.array([draw.uniform(0, 100) for _ in range(WEIGHTS)]), draw.uniform(10, 1000)
    keep, weight, error, kappa = (draw.uniform(0.1, 1) for _ in range(4))
    moments.add(x, tokens, keep, weight, error, kappa)
    u = np.append(x / tokens, 1.0)
    triangle = kappa * np.outer(u, u)[np.triu_indices(len(u))]
    return figure(1, keep, (*triangle.tolist(), weight, error))


@pytest.mark.parametrize("block", [1, 2, 7, 50])
def test_a_block_adds_what_its_observations_add(block: int) -> None:
    """However many are pending when the sums are asked for; weight and error are known at once."""
    draw, moments = random.Random(block), Moments()
    one_by_one = figure(0, 1.0, (0.0,) * WIDTH)
    for number in range(1, 51):
        one_by_one = one_by_one.then(noted(draw, moments))
        assert (moments.weight, moments.error) == pytest.approx(one_by_one.values[-2:])
        if number % block == 0:
            assert moments.values == pytest.approx(one_by_one.values)
    upper = moments.matrix[np.triu_indices(WEIGHTS + 1)]
    assert upper.tolist() == pytest.approx(list(one_by_one.values[:-2]))


def test_what_is_new_is_taken_once() -> None:
    """Runs that were taken one after the other make up the whole; restored sums are not new."""
    draw, moments = random.Random(1), Moments()
    taken = figure(0, 1.0, (0.0,) * WIDTH)
    for size in (3, 1, 5):
        for _ in range(size):
            noted(draw, moments)
        run = moments.take()
        assert run is not None
        assert run.samples == size
        taken = taken.then(run)
    assert moments.take() is None
    assert taken.values == pytest.approx(moments.values)
    other = Moments()
    noted(draw, other)
    other.restore(moments.values)
    assert other.values.tolist() == moments.values.tolist()
    assert other.weight == pytest.approx(moments.weight)
    assert other.take() is None
