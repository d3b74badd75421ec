"""What estimators learn, as sums that fade."""

import numpy as np
import pytest

from extproc.budget.sums import Fading, Recent, are_counts, merge
from tests.unit.budget.figures import figure


def test_a_run_fades_what_was_before_it() -> None:
    """The newer run keeps its share of the older sums and adds its own."""
    assert figure(3, 0.5, (4.0, 8.0)).then(figure(2, 0.25, (1.0, 1.0))) == figure(5, 0.125, (2.0, 3.0))


def test_sums_of_another_layout_are_not_added() -> None:
    """After a change of layout the newer figures stand alone."""
    newer = figure(2, 0.5, (1.0, 2.0, 3.0))
    assert figure(3, 0.5, (4.0, 8.0)).then(newer) == newer


def test_runs_are_equal_where_everything_is() -> None:
    """By it a store sees that nothing is new, and an estimator which figures to keep."""
    one = figure(3, 0.5, (4.0, 8.0))
    assert one == figure(3, 0.5, (4.0, 8.0))
    others = [(2, 0.5, (4.0, 8.0)), (3, 0.4, (4.0, 8.0)), (3, 0.5, (4.0, 9.0)), (3, 0.5, (4.0,))]
    assert all(one != figure(*other) for other in others)


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf"), -float("inf")])
def test_counts_are_finite_and_not_negative(bad: float) -> None:
    """Wherever a bad one stands."""
    assert are_counts(np.array([0.0, 2.5]))
    assert are_counts(np.array([]))
    for position in range(3):
        values = [1.0, 1.0]
        values.insert(position, bad)
        assert not are_counts(np.array(values))


def test_merging_keeps_the_keys_learned_last() -> None:
    """A table never holds more than its limit; the least recently learned go first."""
    one = figure(1, 1.0, (1.0,))
    merged = merge({("a",): one, ("b",): one, ("c",): one}, {("a",): one, ("d",): one}, limit=3)
    assert list(merged) == [("c",), ("a",), ("d",)]
    assert merged["a",].samples == 2


def test_what_was_taken_is_not_given_twice() -> None:
    """`take` returns what was added since the last one."""
    recent = Recent(4)
    recent.add(("a",), 0.5, (2.0,))
    recent.add(("a",), 0.5, (2.0,))
    assert recent.take() == {("a",): figure(2, 0.25, (3.0,))}
    assert recent.take() == {}


def test_recent_keys_are_bounded() -> None:
    """However many keys are learned between two exchanges, only the last are kept."""
    recent = Recent(4)
    for number in range(100):
        recent.add((str(number),), 1.0, (1.0,))
    assert list(recent.take()) == [("96",), ("97",), ("98",), ("99",)]


def test_counts_fade_for_ever() -> None:
    """However large the scale becomes by which all of them are faded at once."""
    counts = Fading(np.zeros(2))
    for _ in range(3000):
        counts.count(1, 0.5)
    assert [value / counts.scale for value in counts.values] == pytest.approx([0.0, 2.0])
