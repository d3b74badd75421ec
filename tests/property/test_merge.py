"""The one merge, for any figures."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.budget.sums import Recent, Sums, Table, merge, surest
from tests.unit.budget.figures import figure

pytestmark = pytest.mark.no_cover  # thousands of inputs: tracing each line would double the time

KEEP = 0.95

observations = st.lists(st.floats(0.5, 16), min_size=1, max_size=40)


def run(values: list[float]) -> Sums:
    recent = Recent(1)
    for x in values:
        recent.add(("k",), KEEP, (1.0, x))
    return recent.take()["k",]


def mean(sums: Sums) -> float:
    return float(sums.values[1] / sums.values[0])


def close(a: float, b: float) -> bool:
    return abs(a - b) <= 1e-9 * max(1.0, abs(a), abs(b))


@given(observations, observations)
def test_merging_is_learning_one_run_after_the_other(first: list[float], second: list[float]) -> None:
    """The merge of two runs is the run of both, figure by figure."""
    merged, whole = run(first).then(run(second)), run(first + second)
    assert merged.samples == whole.samples
    assert close(merged.keep, whole.keep)
    assert all(close(a, b) for a, b in zip(merged.values, whole.values, strict=True))


@given(observations, observations, observations)
def test_merging_is_associative(a: list[float], b: list[float], c: list[float]) -> None:
    """It does not matter where runs that follow each other are first put together."""
    left, right = run(a).then(run(b)).then(run(c)), run(a).then(run(b).then(run(c)))
    assert close(mean(left), mean(right))


@given(observations, observations, observations)
def test_order_matters_within_the_stated_bound(before: list[float], a: list[float], b: list[float]) -> None:
    """Two runs in either order: the means differ by no more than what fades times what they disagree by."""
    base, one, other = run(before), run(a), run(b)
    difference = abs(mean(base.then(one).then(other)) - mean(base.then(other).then(one)))
    spread = max(abs(mean(x) - mean(y)) for x in (base, one, other) for y in (base, one, other))
    assert difference <= max(1 - one.keep, 1 - other.keep) * spread + 1e-9


@given(observations, observations)
def test_where_nothing_fades_order_does_not_matter(a: list[float], b: list[float]) -> None:
    """Plain sums merge the same way round and round."""
    one, other = (figure(len(v), 1.0, (float(len(v)), sum(v))) for v in (a, b))
    assert close(mean(one.then(other)), mean(other.then(one)))


@given(st.lists(st.integers(0, 3), min_size=1, max_size=200), st.sampled_from([1e-9, 0.5, 0.999, 1.0]))
def test_counting_is_adding_a_one(positions: list[int], keep: float) -> None:
    """The quick way to count into a histogram gives the sums of the plain one, however much fades."""
    counted, added = Recent(1), Recent(1)
    for position in positions:
        one = [0.0] * 4
        one[position] = 1.0
        counted.count(("k",), keep, 4, position)
        added.add(("k",), keep, one)
    quick, plain = (recent.take()["k",] for recent in (counted, added))
    assert quick.samples == plain.samples
    assert quick.keep == plain.keep
    assert quick.values == pytest.approx(plain.values)


tables = st.dictionaries(
    st.tuples(st.sampled_from(["ratio", "output"]), st.text(max_size=3)),
    st.builds(run, observations),
    max_size=6,
)


@given(tables, tables, st.integers(1, 8))
def test_a_merged_table_is_bounded_and_holds_what_is_newest(older: Table, newer: Table, limit: int) -> None:
    """Never more than the limit, and every newer key before any older one is dropped."""
    merged = merge(older, newer, limit)
    assert len(merged) == min(limit, len({*older, *newer}))
    assert set(newer) <= set(merged) or len(newer) > limit


def counted(samples: dict[str, int]) -> Table:
    return {(key,): figure(number, 1.0, (float(number),)) for key, number in samples.items()}


any_counts = st.dictionaries(st.sampled_from("abcde"), st.integers(1, 9)).map(counted)


@given(any_counts, any_counts, any_counts)
def test_the_surest_of_several_tables_does_not_depend_on_the_order(a: Table, b: Table, c: Table) -> None:
    """Whoever gives back first what a store has lost, all ends with what has seen most."""
    first = surest(surest(a, b, 9), c, 9)
    assert first == surest(c, surest(b, a, 9), 9)
    assert all(first[key].samples == max(t[key].samples for t in (a, b, c) if key in t) for key in {*a, *b, *c})


@given(any_counts, any_counts)
def test_what_is_known_of_nobody_else_stays_when_there_is_no_room(a: Table, b: Table) -> None:
    """Figures that only the other side has are dropped first."""
    assert set(surest(a, b, len(a))) == set(a)
