"""Spillover does not flap, whatever the pressure does."""

from hypothesis import given
from hypothesis import strategies as st

from extproc.config import Pool
from extproc.routing.in_flight import InFlight, standing
from extproc.routing.spillover import UNKNOWN, Level, Reading, judge, spill

LEAVE = st.floats(0.05, 0.95)
PRESSURES = st.lists(st.floats(0, 3), max_size=60)


def levels(pressures: list[float], leave: float) -> list[Level]:
    """Judge one pressure after the other."""
    level = UNKNOWN
    seen = []
    for pressure in pressures:
        level = judge(level, {"vllm": Reading(pressure)}, leave)
        seen.append(level)
    return seen


@given(PRESSURES, LEAVE)
def test_every_change_takes_a_pressure_across_the_whole_band(pressures: list[float], leave: float) -> None:
    """A pool is saturated from 1 on, and until `leave`: between two changes lies the whole of the band."""
    before = False
    for pressure, level in zip(pressures, levels(pressures, leave), strict=True):
        if level.saturated and not before:
            assert pressure >= 1
        elif before and not level.saturated:
            assert pressure <= leave
        before = level.saturated


@given(LEAVE, st.floats(0, 3), st.lists(st.floats(0.001, 0.999), max_size=60))
def test_a_pressure_that_stays_between_the_marks_changes_nothing(
    leave: float, first: float, within: list[float]
) -> None:
    """However it wavers there, all stays as it was."""
    band = [leave + (1 - leave) * share for share in within]
    start, *rest = levels([first, *(p for p in band if leave < p < 1)], leave)
    assert {level.saturated for level in rest} <= {start.saturated}


@given(
    st.permutations(["s", "m", "l"]), st.lists(st.sampled_from(["full", "room", "unknown"]), min_size=3, max_size=3)
)
def test_nothing_is_ever_sent_to_a_smaller_or_a_full_pool(order: list[str], states: list[str]) -> None:
    """Whatever is known: where a request spills to is larger, holds it, and has room."""
    pools = [Pool(name=name, capacity=100 * 10**i) for i, name in enumerate(order)]
    known = {
        "full": Level(saturated=True, pressure=2.0, source="vllm"),
        "room": Level(pressure=0.5, source="vllm"),
        "unknown": UNKNOWN,
    }
    board = {pool.name: known[state] for pool, state in zip(pools, states, strict=True)}
    for chosen in pools:
        for held in ({"s"}, {"m", "l"}, {"s", "m", "l"}):
            found = spill(pools, chosen, board, lambda pool, held=held: pool.name in held)  # type: ignore[misc]
            if found is not None:
                assert board[chosen.name].saturated
                assert found.capacity > chosen.capacity
                assert found.name in held
                assert board[found.name].has_room


@given(st.lists(st.tuples(st.integers(0, 2), st.floats(0, 30), st.booleans()), max_size=200))
def test_the_count_is_that_of_requests_that_have_not_ended(events: list[tuple[int, float, bool]]) -> None:
    """Spread over three workers at random, none lost: exact, at every moment."""
    now = [0.0]
    workers = [InFlight("a", lambda: now[0]) for _ in range(3)]
    open_: list[str] = [workers[0].begin("p")]
    workers[1].end("p", open_.pop())  # the log has spoken
    for worker, seconds, begins in events:
        now[0] += seconds / 10
        if begins or not open_:
            open_.append(workers[worker].begin("p"))
        else:
            workers[worker].end("p", open_.pop(0))
        found = standing([w.tally(3600) for w in workers], now[0], 3600)
        assert (found or {})["p"] == len(open_)
