"""Rules of `extproc.routing.router`."""

import json
from typing import Any

import msgspec
import pytest

from extproc.body.bounds import LARGEST_BODY
from extproc.body.lifted import Lifted
from extproc.budget.learner import new_budgeter, new_learner
from extproc.budget.observation import Observation
from extproc.config import Config
from extproc.routing.decision import Decision
from extproc.routing.router import Head, Router, in_rollout
from extproc.routing.spillover import Board

POOLS = {
    "default": [{"name": "short", "capacity": 1000}, {"name": "long", "capacity": 10_000}],
    "three": [{"name": n, "capacity": c} for n, c in (("s", 100), ("m", 1000), ("l", 10_000))],
}
CHAT = Head(method="POST", path="/v1/chat/completions", request_id="r1")


def router(board: Board | None = None, **sections: Any) -> Router:
    config = Config.model_validate(
        {
            "pools": POOLS,
            "models": {"tiny": "three"},
            "estimation": {"estimator": "ratio", "prior_bytes_per_token": 2, "tokens_per_message": 0},
            **sections,
        }
    )
    return Router(config, new_budgeter(config, new_learner(config)), board)


def body(tokens: int, cap: int | None = 10, **more: Any) -> bytes:
    fields = {"model": "m", "messages": [{"role": "user", "content": "x" * (2 * tokens)}], **more}
    return json.dumps(fields if cap is None else {**fields, "max_tokens": cap}).encode()


def where(decision: Decision) -> tuple[str, str, str]:
    return decision.pool.name, decision.chosen.name, decision.reason


@pytest.mark.parametrize(
    ("tokens", "cap", "pool", "reason"),
    [
        (500, 10, "short", "fits"),
        (990, 10, "short", "fits"),
        (991, 10, "long", "fits"),
        (10, 990, "short", "fits"),
        (10, 991, "long", "fits"),
        (10, 9_991, "long", "too_long"),
    ],
)
def test_smallest_pool_that_holds_prompt_and_cap(tokens: int, cap: int, pool: str, reason: str) -> None:
    """The boundary is the pool's capacity, to the token."""
    decision = router(pools={"default": POOLS["default"]}, models={}).decide(CHAT, body(tokens, cap), whole=True)
    assert (decision.pool.name, decision.reason) == (pool, reason)
    assert decision.budget == tokens + cap


@pytest.mark.parametrize(("tokens", "pool"), [(50, "s"), (500, "m"), (5000, "l")])
def test_a_model_has_its_own_pools(tokens: int, pool: str) -> None:
    """Any number of pools; the set is the model's."""
    decision = router().decide(CHAT, body(tokens, model="tiny"), whole=True)
    assert decision.pool.name == pool


def test_no_cap_goes_long_until_the_reserve_is_known() -> None:
    """Without a cap and without a learned reserve nothing is certain; a configured default settles it."""
    assert where(router().decide(CHAT, body(10, cap=None), whole=True)) == ("long", "long", "no_output_cap")
    known = router(output={"default": 100})
    assert where(known.decide(CHAT, body(10, cap=None), whole=True)) == ("short", "short", "fits")


@pytest.mark.parametrize(
    ("head", "content", "whole", "reason"),
    [
        (Head("POST", "/v1/unknown"), body(1), True, "unknown_path"),
        (Head("GET", "/v1/models"), b"", True, "unknown_path"),
        (Head("PUT", "/v1/chat/completions"), body(1), True, "not_post"),
        (CHAT, body(1), False, "cut"),
        (CHAT, b"", True, "no_body"),
        (CHAT, b"{", True, "not_json"),
        (CHAT, b"[]", True, "wrong_type"),
        (CHAT, b"{}", True, "no_prompt"),
        (CHAT, b"x" * 200_000, True, "oversized"),
    ],
)
def test_what_is_not_understood_goes_to_the_largest_pool(
    head: Head, content: bytes, whole: bool, reason: str
) -> None:
    """Whatever the reason, the largest pool of the default set takes it, and nothing is learned from it."""
    decision = router().decide(head, content, whole)
    assert where(decision) == ("long", "long", reason)
    assert decision.observation is None


def test_an_oversized_body_goes_to_the_largest_pool_of_its_model() -> None:
    """Only the model is read of a body that no smaller pool could hold."""
    assert where(router().decide(CHAT, body(200_000, model="tiny"), whole=True)) == ("l", "l", "oversized")


PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 150_000}}


@pytest.mark.parametrize(
    "content", [[{"type": "text", "text": "What is this?"}, PICTURE], "\u043f" * 4000], ids=["image", "escapes"]
)
def test_a_body_that_is_not_mostly_text_is_read_however_long(content: Any) -> None:
    """An image is a few tokens, and an escape is six bytes for a character of two."""
    whole = json.dumps({"model": "tiny", "messages": [{"content": content}], "max_tokens": 1, "n": 1}).encode()
    wide = router(
        pools={"default": [{"name": "short", "capacity": 1500}, {"name": "long", "capacity": 10_000_000}]},
        models={},
        estimation={"estimator": "ratio", "tokens_per_media": 1000, "prior_bytes_per_token": 8.0},
    )
    assert len(whole) > 16 * 1500
    assert where(wide.decide(CHAT, whole, whole=True)) == ("short", "short", "fits")


@pytest.mark.parametrize(
    ("content", "whole"), [(body(200_000), True), (body(9000), False)], ids=["oversized", "cut"]
)
def test_a_conversation_that_was_too_long_to_be_read_stays_long(content: bytes, whole: bool) -> None:
    """Where a header names it."""
    sticky = router(routing={"sticky_long": True})
    head = Head("POST", "/v1/chat/completions", conversation="c")
    assert sticky.decide(head, content, whole).pool.name == "long"
    assert sticky.decide(head, body(10), whole=True).reason == "sticky"


@pytest.mark.parametrize("field", ["user", "prompt_cache_key"])
def test_an_oversized_body_names_its_conversation(field: str) -> None:
    """It is searched for that alone, and another conversation is none the wiser."""
    sticky = router(routing={"sticky_long": True})
    ours: dict[str, Any] = {field: "c"}
    another: dict[str, Any] = {field: "d"}
    assert sticky.decide(CHAT, body(200_000, **ours), whole=True).reason == "oversized"
    assert sticky.decide(CHAT, body(10, **ours), whole=True).reason == "sticky"
    assert sticky.decide(CHAT, body(10, **another), whole=True).reason == "fits"


@pytest.mark.parametrize("models", [{}, {"tiny": "three"}], ids=["one set", "several"])
def test_an_oversized_body_that_stays_in_the_proxy_names_its_conversation(models: dict[str, str]) -> None:
    """By what was lifted from it."""
    sticky = router(routing={"sticky_long": True}, models=models)
    lifted: Lifted = {"json": True, "model": "m", "max_tokens": 10.0, "user": "c"}
    assert sticky.decide_by_size(CHAT, lifted, 200_000).reason == "oversized"
    assert sticky.decide_by_size(CHAT, lifted, 200).reason == "sticky"


@pytest.mark.parametrize("fields", [{"max_tokens": 10.5}, {"max_tokens": "many"}, {"messages": []}])
def test_an_unreadable_body_goes_to_the_largest_pool_of_its_model(fields: dict[str, Any]) -> None:
    """Another model's pool could only answer that it does not know the model."""
    content = json.dumps({"model": "tiny", "messages": [{"content": "x"}], **fields}).encode()
    assert router().decide(CHAT, content, whole=True).pool.name == "l"


def test_shadow_decides_and_does_not_act() -> None:
    """In shadow mode everything goes to the largest pool, and the choice is reported."""
    decision = router(routing={"shadow": True}).decide(CHAT, body(10), whole=True)
    assert where(decision) == ("long", "short", "shadow")
    assert decision.observation is not None
    assert decision.observation.pool == "long"


def test_rollout_is_by_conversation() -> None:
    """A conversation is in or out as a whole: header, prompt_cache_key, user, else the request id."""
    half = router(routing={"rollout_percent": 50})
    for i in range(50):
        head = Head("POST", CHAT.path, conversation=f"c{i}", request_id="same")
        pool = half.decide(head, body(10), whole=True).pool.name
        by_key = half.decide(Head("POST", CHAT.path, request_id=f"r{i}"), body(10, user=f"c{i}"), whole=True)
        assert by_key.pool.name == pool
        assert pool == ("short" if in_rollout(f"c{i}", 50) else "long")
        assert half.decide(Head("POST", CHAT.path, request_id=f"c{i}"), body(10), whole=True).pool.name == pool


@pytest.mark.parametrize("percent", [0.0, 1.0, 12.5, 50.0, 99.0, 100.0])
def test_rollout_share(percent: float) -> None:
    """The share of conversations rolled out is the share configured."""
    hits = sum(in_rollout(f"conversation {i}", percent) for i in range(20_000))
    assert hits / 200 == pytest.approx(percent, abs=1.0)


def test_what_has_no_key_is_rolled_out_last() -> None:
    """Nothing tells such requests apart: a first percent would be all of them."""
    assert [in_rollout("", percent) for percent in (0.0, 1.0, 99.9, 100.0)] == [False, False, False, True]


def test_sticky_conversations_stay_long() -> None:
    """With sticky_long a conversation that has gone long does not come back; others are not affected."""
    sticky = router(routing={"sticky_long": True})
    assert where(sticky.decide(CHAT, body(10, user="u"), whole=True)) == ("short", "short", "fits")
    sticky.decide(CHAT, body(5000, user="u"), whole=True)
    assert where(sticky.decide(CHAT, body(10, user="u"), whole=True)) == ("long", "short", "sticky")
    assert where(sticky.decide(CHAT, body(10, user="v"), whole=True)) == ("short", "short", "fits")
    assert where(sticky.decide(CHAT, body(10), whole=True)) == ("short", "short", "fits")


def test_one_pool_takes_everything() -> None:
    """A set of one pool is a set: bodies are still read, so that ratios are learned."""
    alone = router(pools={"default": [{"name": "only", "capacity": 1000}]}, models={})
    assert where(alone.decide(CHAT, body(10), whole=True)) == ("only", "only", "fits")


def test_other_paths_are_decided_before_their_body() -> None:
    """However long it is; a body that counts is waited for."""
    early = router().decide_early(Head("POST", "/v1/audio/transcriptions"), 10)
    assert early is not None
    assert where(early) == ("long", "long", "unknown_path")
    assert router().decide_early(CHAT, 10) is None


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/completions", {"prompt": ["x" * 100] * 2000, "max_tokens": 1}),
        ("/v1/embeddings", {"input": ["x" * 100] * 2000}),
        ("/v1/score", {"text_1": "q", "text_2": ["x" * 100] * 2000}),
        ("/v1/rerank", {"query": "q", "documents": ["x" * 100] * 2000}),
    ],
)
def test_a_large_batch_of_short_prompts_is_not_oversized(path: str, fields: dict[str, Any]) -> None:
    """A body of 200 kB may hold nothing but short texts."""
    decision = router().decide(Head("POST", path), json.dumps({"model": "m", **fields}).encode(), whole=True)
    assert where(decision) == ("short", "short", "fits")


def test_requests_of_no_conversation_do_not_stick_together() -> None:
    """One that went long says nothing of the next."""
    sticky = router(routing={"sticky_long": True})
    sticky.decide(CHAT, body(5000), whole=True)
    assert where(sticky.decide(CHAT, body(10), whole=True)) == ("short", "short", "fits")


def test_a_conversation_is_long_in_one_set_alone() -> None:
    """What was too long for one model's pools says nothing of another's."""
    sticky = router(routing={"sticky_long": True})
    sticky.decide(CHAT, body(5000, user="u"), whole=True)
    assert sticky.decide(CHAT, body(10, user="u", model="tiny"), whole=True).reason == "fits"


def test_the_header_names_the_conversation_before_the_body_does() -> None:
    """The operator has named the header; what clients write into bodies is their own affair."""
    half = router(routing={"rollout_percent": 50})
    for i in range(20):
        head = Head("POST", CHAT.path, conversation=f"c{i}")
        landed = half.decide(head, body(10, user="same"), whole=True).pool.name
        assert landed == ("short" if in_rollout(f"c{i}", 50) else "long")


@pytest.mark.parametrize("fields", [{"n": 2**31}, {"n": 10**400}, {"truncate_prompt_tokens": 10**400}])
def test_an_absurd_number_travels_with_the_request(fields: dict[str, Any]) -> None:
    """What is decided is what is said of it: nothing that comes back is too large to be read."""
    decision = router().decide(CHAT, body(10, **fields), whole=True)
    assert decision.observation is not None
    encoded = msgspec.json.encode(decision.observation)
    assert msgspec.json.decode(encoded, type=Observation) == decision.observation


def test_a_body_longer_than_is_ever_read_is_not_read_for_an_image() -> None:
    """It would hold up other requests, however little of it is text."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * LARGEST_BODY}}
    content = json.dumps({"model": "m", "messages": [{"content": [image]}], "max_tokens": 1}).encode()
    assert where(router().decide(CHAT, content, whole=True)) == ("long", "long", "oversized")


def test_what_goes_long_by_its_own_budget_is_not_called_sticky() -> None:
    """However often: only what would have been short stays long for the sake of its conversation."""
    sticky = router(routing={"sticky_long": True})
    assert [sticky.decide(CHAT, body(5000, user="u"), whole=True).reason for _ in range(2)] == ["fits", "fits"]


def test_a_conversation_may_have_a_name_that_is_no_text() -> None:
    """A header holds any bytes: such a name sticks, and is rolled out, as any other."""
    names = [b"\xff%d".__mod__(i).decode("utf-8", "surrogateescape") for i in range(1000)]
    assert sum(in_rollout(name, 50.0) for name in names) / 10 == pytest.approx(50.0, abs=5.0)
    sticky = router(routing={"sticky_long": True})
    head = Head("POST", CHAT.path, conversation=names[0])
    sticky.decide(head, body(5000), whole=True)
    assert sticky.decide(head, body(10), whole=True).reason == "sticky"


def test_at_zero_percent_nothing_is_rolled_out() -> None:
    """Not one conversation in ten thousand either."""
    assert not any(in_rollout(f"conversation {i}", 0.0) for i in range(100_000))
