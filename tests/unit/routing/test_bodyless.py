"""Rules of `extproc.routing.router` where the body does not come: by size, and early."""

from typing import Any

import pytest

from extproc.body.bounds import LARGEST_BODY
from extproc.routing.router import Head
from extproc.routing.settings import RouteSettings
from tests.unit.routing.test_router import CHAT, POOLS, router

SEEN: dict[str, Any] = {"json": True, "model": "m", "max_tokens": 10.0}
ONE_SET: dict[str, Any] = {"pools": {"default": POOLS["default"]}, "models": {}}


def where(lifted: dict[str, Any], size: int | None, head: Head = CHAT, **sections: Any) -> tuple[str, str]:
    decision = router(**{**ONE_SET, **sections}).decide_by_size(head, lifted, size)
    return decision.pool.name, decision.reason


@pytest.mark.parametrize(
    ("size", "pool", "reason"),
    [(1980, "short", "fits"), (1981, "long", "fits"), (16_001, "long", "oversized"), (0, "long", "no_body")],
)
def test_size_and_cap_decide(size: int, pool: str, reason: str) -> None:
    """Body bytes over the ratio plus the cap are compared with the capacity, to the token."""
    assert where(SEEN, size) == (pool, reason)


@pytest.mark.parametrize(
    ("lifted", "size", "reason"),
    [
        ({}, 100, "not_json"),
        (SEEN, None, "no_length"),
        ({**SEEN, "max_tokens": "many"}, 100, "wrong_type"),
        ({"json": True, "model": "m"}, 100, "no_output_cap"),
    ],
)
def test_what_is_not_known_goes_long(lifted: dict[str, Any], size: int | None, reason: str) -> None:
    """No JSON, no length, no sense, no cap: the long pool."""
    assert where(lifted, size) == ("long", reason)


@pytest.mark.parametrize(("model", "pool"), [(3.0, "long"), (True, "long"), (None, "long"), ("3.0", "big")])
def test_a_model_that_is_no_text_names_no_pool_set(model: Any, pool: str) -> None:
    """Whatever it would read as: the filter in the proxy, too, sends it to the default set."""
    sets = {**POOLS, "other": [{"name": "big", "capacity": 200_000}]}
    models = dict.fromkeys(("3.0", "True", "None"), "other")
    decision = router(pools=sets, models=models).decide_by_size(CHAT, {**SEEN, "model": model, "n": 0.0}, 100)
    assert (decision.pool.name, decision.reason) == (pool, "wrong_type")


@pytest.mark.parametrize(
    ("head", "reason"),
    [(Head("GET", "/v1/chat/completions"), "not_post"), (Head("POST", "/v1/audio"), "unknown_path")],
)
def test_other_requests(head: Head, reason: str) -> None:
    """Other methods and paths are left alone, as with a body."""
    assert where(SEEN, 100, head) == ("long", reason)


def test_models_have_their_pools() -> None:
    """The lifted model picks the pool set."""
    decision = router().decide_by_size(CHAT, {**SEEN, "model": "tiny"}, 100)
    assert decision.pool.name == "s"


def test_shadow() -> None:
    """Shadow mode decides and does not act."""
    assert where(SEEN, 100, routing={"shadow": True}) == ("long", "shadow")


def test_the_observation_is_of_raw_bytes() -> None:
    """Ratios of raw bytes are learned apart, without a content class, which nobody saw."""
    seen = router(**ONE_SET).decide_by_size(CHAT, SEEN, 700).observation
    assert seen is not None
    assert (seen.basis, seen.category, sum(seen.features), seen.teaches) == ("raw", "all", 700, True)


def test_early() -> None:
    """A body that is not read in any case is long before it comes."""
    found = router(**ONE_SET).decide_early(CHAT, LARGEST_BODY + 1)
    assert found is not None
    assert (found.pool.name, found.reason) == ("long", "oversized")


def test_not_early() -> None:
    """A body that may hold an image is waited for, and so is one whose model may have pools of its own."""
    assert router(**ONE_SET).decide_early(CHAT, LARGEST_BODY) is None
    assert router().decide_early(CHAT, LARGEST_BODY + 1) is None


def test_early_with_the_routes_own_pools() -> None:
    """Where the route names the pool set the model cannot."""
    found = router().decide_early(CHAT, LARGEST_BODY + 1, RouteSettings(pools="three"))
    assert found is not None
    assert found.pool.name == "l"


@pytest.mark.parametrize(
    ("fields", "size", "reason"), [({}, 200_000, "oversized"), ({"max_tokens": "many"}, 100, "wrong_type")]
)
def test_the_largest_pool_is_that_of_the_model(fields: dict[str, Any], size: int, reason: str) -> None:
    """Another model's pool could only answer that it does not know the model."""
    decision = router().decide_by_size(CHAT, {**SEEN, "model": "tiny", **fields}, size)
    assert (decision.pool.name, decision.reason) == ("l", reason)


@pytest.mark.parametrize(("more", "reason"), [(0, "fits"), (1, "oversized")])
def test_a_body_longer_than_is_ever_read_is_oversized_by_size_too(more: int, reason: str) -> None:
    """However much the smaller pools hold: the way to decide does not change what is decided."""
    wide = {"default": [{"name": "short", "capacity": 200_000}, {"name": "long", "capacity": 10_000_000}]}
    assert where(SEEN, LARGEST_BODY + more, pools=wide) == ("long", reason)
