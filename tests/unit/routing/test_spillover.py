"""Rules of `extproc.routing.spillover`, and what the router makes of it."""

from typing import Any

import pytest

from extproc.config import Pool, Spillover
from extproc.routing.router import Router
from extproc.routing.settings import NO_SETTINGS, RouteSettings
from extproc.routing.spillover import (
    UNKNOWN,
    Board,
    Level,
    Reading,
    Server,
    by_requests,
    by_servers,
    judge,
    spill,
)
from tests.unit.routing.test_router import CHAT, body, router, where

MARKS = Spillover(waiting=4, kv_use=0.8)
FULL = Level(saturated=True, pressure=1.5, source="vllm")
ROOM = Level(saturated=False, pressure=0.2, source="vllm")


@pytest.mark.parametrize(
    ("server", "pressure"),
    [
        (Server(waiting=0), 0.0),
        (Server(waiting=2, running=100), 0.5),
        (Server(waiting=4), 1.0),
        (Server(waiting=1, kv_use=0.8), 1.0),
        (Server(waiting=8, kv_use=0.4), 2.0),
    ],
)
def test_a_server_is_as_full_as_its_fullest_figure(server: Server, pressure: float) -> None:
    """Queue and KV cache have a mark each; the requests that run have none."""
    reading = by_servers([server], MARKS)
    assert reading is not None
    assert reading.pressure == pytest.approx(pressure)


@pytest.mark.parametrize(
    ("waiting", "pressure"), [([400, 0, 0], 0.0), ([400, 0], 0.0), ([400, 400], 100.0), ([8, 8, 0], 2.0)]
)
def test_a_pool_is_as_full_as_its_median_server(waiting: list[int], pressure: float) -> None:
    """One server that is stuck does not saturate a pool, nor does an idle one give it room."""
    reading = by_servers([Server(waiting=w) for w in waiting], MARKS)
    assert reading is not None
    assert reading.pressure == pressure
    assert (reading.figures["servers"], reading.figures["waiting"]) == (len(waiting), sum(waiting))


def test_without_servers_nothing_is_known() -> None:
    """No server that answers is not a pool with room."""
    assert by_servers([], MARKS) is None


def test_the_first_source_that_knows_is_believed() -> None:
    """vLLM before Envoy before our own count."""
    vllm, envoy, own = Reading(0.1), Reading(0.2), Reading(0.3)
    assert judge(UNKNOWN, {"in_flight": own, "envoy": envoy, "vllm": vllm}, 0.5).source == "vllm"
    assert judge(UNKNOWN, {"in_flight": own, "envoy": envoy}, 0.5).source == "envoy"
    assert judge(UNKNOWN, {"in_flight": own}, 0.5).pressure == 0.3
    assert judge(FULL, {}, 0.5) == UNKNOWN
    assert not UNKNOWN.has_room


def test_between_the_marks_a_pool_stays_what_it_was() -> None:
    """It is saturated from 1 on, until it has fallen to `leave`."""
    seen = []
    level = UNKNOWN
    for pressure in (0.9, 1.0, 0.76, 0.99, 0.75, 0.99, 1.2, 0.3):
        level = judge(level, {"vllm": Reading(pressure)}, 0.75)
        seen.append(level.saturated)
    assert seen == [False, True, True, True, False, False, True, False]


def test_what_is_unknown_is_forgotten() -> None:
    """A pool that nobody has heard of for a while begins again as one that is not saturated."""
    assert not judge(judge(FULL, {}, 0.5), {"vllm": Reading(0.9)}, 0.5).saturated


def test_requests_are_counted_against_their_mark() -> None:
    """Where nobody knows the queue, the number of requests at once has to do."""
    assert by_requests(96, 128) == Reading(0.75, {"requests": 96, "mark": 128})


POOLS = tuple(Pool(name=n, capacity=c) for n, c in (("s", 100), ("m", 1000), ("l", 10_000)))


@pytest.mark.parametrize(
    ("levels", "to"),
    [
        ({}, None),
        ({"s": ROOM, "m": ROOM}, None),
        ({"s": FULL, "m": ROOM}, "m"),
        ({"s": FULL, "m": FULL, "l": ROOM}, None),
        ({"s": FULL, "l": ROOM}, None),
        ({"s": FULL, "m": UNKNOWN, "l": ROOM}, None),
        ({"m": FULL, "l": ROOM}, None),
    ],
)
def test_the_next_larger_pool_takes_it_if_it_is_known_to_have_room(
    levels: dict[str, Level], to: str | None
) -> None:
    """No other than the next, and nobody of whom nothing is known."""
    spilled = spill(POOLS, POOLS[0], levels, lambda _: True)
    assert (spilled and spilled.name) == to


def test_a_pool_that_does_not_hold_it_is_passed_over() -> None:
    """The next larger pool is the next that holds the request."""
    spilled = spill(POOLS, POOLS[0], {"s": FULL, "m": ROOM, "l": ROOM}, lambda pool: pool.name == "l")
    assert spilled is POOLS[2]
    assert spill(POOLS, POOLS[2], {"l": FULL}, lambda _: True) is None


# What the router makes of it.


def spilling(levels: dict[str, Level], **sections: Any) -> Router:
    board = Board()
    board.levels = levels
    return router(board, **sections)


def test_the_router_spills_and_says_so() -> None:
    """The observation is of the pool it was sent to: that is where it may turn out not to fit."""
    decision = spilling({"short": FULL, "long": ROOM}).decide(CHAT, body(10), whole=True)
    assert where(decision) == ("long", "short", "spillover")
    assert decision.spilled is decision.pool
    assert decision.observation is not None
    assert (decision.observation.pool, decision.observation.largest) == ("long", True)


def test_the_router_reads_the_board_at_every_request() -> None:
    """A pool that has drained is used again, by the next request."""
    board = Board()
    service = router(board)
    assert where(service.decide(CHAT, body(10), whole=True)) == ("short", "short", "fits")
    board.levels = {"short": FULL, "long": ROOM}
    assert where(service.decide(CHAT, body(10), whole=True)) == ("long", "short", "spillover")
    board.levels = {"short": ROOM, "long": ROOM}
    assert where(service.decide(CHAT, body(10), whole=True)) == ("short", "short", "fits")


@pytest.mark.parametrize(
    ("tokens", "cap", "expected"),
    [
        (5000, 10, ("long", "long", "fits")),
        (10, 50_000, ("long", "long", "too_long")),
        (10, None, ("long", "long", "no_output_cap")),
    ],
)
def test_what_goes_to_the_largest_pool_anyway_is_not_affected(
    tokens: int, cap: int | None, expected: tuple[str, str, str]
) -> None:
    """There is nothing larger to spill to, and the reason says why it went there."""
    decision = spilling({"short": FULL, "long": FULL}).decide(CHAT, body(tokens, cap), whole=True)
    assert where(decision) == expected
    assert decision.spilled is None


def test_shadow_mode_counts_and_does_not_act() -> None:
    """The decision says where it would have spilled to."""
    service = spilling({"s": FULL, "m": ROOM}, routing={"shadow": True})
    decision = service.decide(CHAT, body(50, model="tiny"), whole=True)
    assert where(decision) == ("l", "s", "shadow")
    assert decision.spilled is not None
    assert decision.spilled.name == "m"


def test_roll_out_and_stickiness_win() -> None:
    """A conversation outside the roll-out, or kept long, does not spill: it is in the largest pool already."""
    out = spilling({"s": FULL, "m": ROOM}, routing={"rollout_percent": 0})
    decision = out.decide(CHAT, body(50, model="tiny"), whole=True)
    assert (where(decision), decision.spilled) == (("l", "s", "rollout"), None)
    sticky = spilling({"s": FULL, "m": ROOM}, routing={"sticky_long": True})
    sticky.decide(CHAT, body(5000, model="tiny", user="u"), whole=True)
    decision = sticky.decide(CHAT, body(50, model="tiny", user="u"), whole=True)
    assert (where(decision), decision.spilled) == (("l", "s", "sticky"), None)


def test_a_conversation_that_spilled_does_not_stick() -> None:
    """It was not too long, and comes back when the pool has drained."""
    board = Board()
    board.levels = {"short": FULL, "long": ROOM}
    service = router(board, routing={"sticky_long": True})
    assert where(service.decide(CHAT, body(10, user="u"), whole=True)) == ("long", "short", "spillover")
    board.levels = {}
    assert where(service.decide(CHAT, body(10, user="u"), whole=True)) == ("short", "short", "fits")


@pytest.mark.parametrize(("settings", "pool"), [(NO_SETTINGS, "m"), (RouteSettings(thresholds={"m": 55}), "l")])
def test_a_threshold_of_the_route_is_a_capacity(settings: RouteSettings, pool: str) -> None:
    """A pool that may not hold so much on this route is no pool to spill to."""
    service = spilling({"s": FULL, "m": ROOM, "l": ROOM})
    assert service.decide(CHAT, body(50, model="tiny"), True, settings).pool.name == pool
