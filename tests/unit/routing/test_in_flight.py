"""Rules of `extproc.routing.in_flight`."""

import copy
from collections.abc import Iterator

import pytest

from extproc.config import Spillover
from extproc.routing.in_flight import BUCKET_SECONDS, ENOUGH, MOST_POOLS, InFlight, standing

LONGEST = 60.0


class Clock:
    """A clock that stands still until told."""

    def __init__(self) -> None:
        self.now = 200 * BUCKET_SECONDS

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def present(clock: Clock, *counts: InFlight) -> dict[str, int] | None:
    found = standing([c.tally(LONGEST) for c in counts], clock.now, LONGEST)
    return None if found is None else dict(found)


def test_decisions_less_ends(clock: Clock) -> None:
    """Each pool by itself, whatever order they end in."""
    count = InFlight("a", clock)
    tickets = [count.begin("short") for _ in range(3)]
    other = count.begin("long")
    count.end("short", tickets[2])
    clock.now += 2 * BUCKET_SECONDS
    count.begin("short")
    count.end("short", tickets[0])
    assert present(clock, count) == {"short": 2, "long": 1}
    count.end("long", other)
    assert present(clock, count) == {"short": 2, "long": 0}


def test_nothing_is_known_before_the_log_speaks(clock: Clock) -> None:
    """Without an access log every decision would seem to be there for ever."""
    count = InFlight("a", clock)
    ticket = count.begin("short")
    count.begin("short")
    assert present(clock, count) is None
    count.end("short", ticket)
    assert present(clock, count) == {"short": 1}


def test_a_lost_entry_is_forgotten(clock: Clock) -> None:
    """A request that has not ended after the longest time is not in the pool any more."""
    count = InFlight("a", clock)
    for ticket in [count.begin("short") for _ in range(ENOUGH)]:
        count.end("short", ticket)
    count.begin("short")
    assert present(clock, count) == {"short": 1}
    clock.now += LONGEST + BUCKET_SECONDS
    count.end("short", count.begin("short"))
    assert present(clock, count) == {"short": 0}


def test_a_log_that_loses_much_is_not_believed(clock: Clock) -> None:
    """Entries that go elsewhere, to another replica, must not look like a pool that fills up."""
    count = InFlight("a", clock)
    for number in range(2 * ENOUGH):
        ticket = count.begin("short")
        if number % 2:
            count.end("short", ticket)
    assert present(clock, count) == {"short": ENOUGH}
    clock.now += LONGEST + BUCKET_SECONDS
    assert present(clock, count) is None


def test_a_log_that_loses_much_is_never_believed(clock: Clock) -> None:
    """Also where the longest request is shorter than a bucket: there is always one to judge the log by."""
    count, longest = InFlight("a", clock), 10.0
    for second in range(300):
        for number in range(10):
            ticket = count.begin("short")
            if number % 2:
                count.end("short", ticket)
        clock.now += 1
        believed = standing([count.tally(longest)], clock(), longest) is not None
        assert believed == (second < BUCKET_SECONDS + longest - 1)


def test_it_does_not_drift(clock: Clock) -> None:
    """One entry in a hundred lost, for a day: what is held of it is what one longest request's time loses."""
    count = InFlight("a", clock)
    for number in range(24 * 3600 // 5):
        ticket = count.begin("short")
        if number % 100:
            count.end("short", ticket)
        clock.now += 5
    assert (present(clock, count) or {})["short"] <= 1
    assert sum(len(buckets) for buckets in count.tally(LONGEST).values()) <= 2 * LONGEST / BUCKET_SECONDS + 2


def test_a_busy_pool_is_few_counts(clock: Clock) -> None:
    """With hundreds of pools, going through all counts at every look must not hold up requests."""
    count, longest = InFlight("a", clock), Spillover().longest_request_seconds
    for _ in range(int(3 * longest)):
        count.end("short", count.begin("short"))
        clock.now += 1
    assert len(count.tally(longest)["short"]) < 50


@pytest.mark.parametrize(
    "ticket",
    ["", "a", "b.200", "a.", "a.x", "a.99999999999999999999", "a." + "9" * 5000, "a.201", "a.-1", "a.²"],
    ids=lambda ticket: ticket[:8],
)
def test_a_foreign_ticket_counts_nowhere(clock: Clock, ticket: str) -> None:
    """Of another service, an earlier start, the future, or none at all."""
    count = InFlight("a", clock)
    count.end("short", count.begin("short"))
    count.begin("short")
    before = copy.deepcopy(count.tally(LONGEST))
    count.end("short", ticket)
    assert count.tally(LONGEST) == before
    assert present(clock, count) == {"short": 1}


def test_an_end_counts_wherever_it_is_told(clock: Clock) -> None:
    """Of several workers one decides and another is told; together they know."""
    one, other = InFlight("a", clock), InFlight("a", clock)
    tickets = [one.begin("short") for _ in range(3)]
    other.end("short", tickets[0])
    assert present(clock, one, other) == {"short": 2}
    assert present(clock, other) == {"short": 0}


def test_a_successor_goes_on(clock: Clock) -> None:
    """A worker that is replaced takes over what its predecessor had decided."""
    first = InFlight("a", clock)
    tickets = [first.begin("short") for _ in range(3)]
    second = InFlight("a", clock, first.tally(LONGEST))
    second.end("short", tickets[0])
    second.begin("short")
    assert present(clock, second) == {"short": 3}


def test_names_are_bounded(clock: Clock) -> None:
    """Whoever sends access logs cannot fill the memory."""
    count = InFlight("a", clock)
    ticket = count.begin("short")
    names: Iterator[str] = (f"pool {i}" for i in range(2 * MOST_POOLS))
    for name in names:
        count.end(name, ticket)
    assert len(count.tally(LONGEST)) == MOST_POOLS


def test_a_full_memory_goes_on_counting_the_pools_it_knows(clock: Clock) -> None:
    """Names that came later are the ones left out."""
    count = InFlight("a", clock)
    ticket = count.begin("short")
    for number in range(MOST_POOLS):
        count.end(f"pool {number}", ticket)
    count.end("short", ticket)
    assert (present(clock, count) or {})["short"] == 0


def test_a_request_is_there_as_long_as_the_longest_lasts(clock: Clock) -> None:
    """Until then it is in its pool, and not lost."""
    count = InFlight("a", clock)
    for _ in range(ENOUGH):
        count.begin("short")
    count.end("long", count.begin("long"))
    clock.now += LONGEST
    assert present(clock, count) == {"short": ENOUGH, "long": 0}


def test_losses_are_remembered_for_as_long_again(clock: Clock) -> None:
    """A log that has lost much is not believed for the little that it tells since."""
    count = InFlight("a", clock)
    for _ in range(ENOUGH):
        count.begin("short")
    clock.now += 2 * LONGEST
    count.end("short", count.begin("short"))
    assert present(clock, count) is None
    clock.now += BUCKET_SECONDS
    count.end("short", count.begin("short"))
    assert present(clock, count) == {"short": 0}


def test_ends_of_unknown_decisions_make_up_for_no_loss(clock: Clock) -> None:
    """As of a worker that was killed with its count: what others lose is lost all the same."""
    count = InFlight("a", clock)
    ticket = count.begin("short")
    for _ in range(ENOUGH):
        count.end("short", ticket)
    clock.now += BUCKET_SECONDS
    for _ in range(ENOUGH):
        count.begin("short")
    clock.now += LONGEST + BUCKET_SECONDS
    assert present(clock, count) is None


@pytest.mark.parametrize(
    ("begun", "lost", "believed"),
    [(ENOUGH - 1, ENOUGH - 1, True), (ENOUGH, 1, True), (ENOUGH, 2, False)],
    ids=["too few to tell", "one in twenty", "more"],
)
def test_how_much_a_log_may_lose(clock: Clock, begun: int, lost: int, believed: bool) -> None:
    """One decision in twenty, of twenty and more."""
    count = InFlight("a", clock)
    for number, ticket in enumerate([count.begin("short") for _ in range(begun)]):
        if number >= lost:
            count.end("short", ticket)
    clock.now += LONGEST + BUCKET_SECONDS
    count.end("long", count.begin("long"))
    assert (present(clock, count) is not None) is believed
