"""The filter decides as the service does: same request, same figures, same answer, in Lua and in Python."""

from itertools import product
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lupa.luajit21 import LuaRuntime

from extproc.body.paths import SUFFIXES
from extproc.body.usage import Usage
from extproc.budget.learner import new_budgeter, new_learner
from extproc.budget.observation import Observation
from extproc.config import Config
from extproc.routing.decision import Decision
from extproc.routing.router import Head, Router
from extproc.service.in_proxy import figures, program

pytestmark = pytest.mark.no_cover  # thousands of inputs: tracing each line would double the time

SETS = {
    "default": [{"name": "short", "capacity": 8192}, {"name": "long", "capacity": 131_072}],
    "coder": [{"name": n, "capacity": c} for n, c in (("small", 2000), ("medium", 20_000), ("big", 200_000))],
}
BASE: dict[str, Any] = {
    "pools": SETS,
    "models": {"code": "coder", "模型": "coder"},
    "estimation": {"min_samples": 1},
}
LIMIT = 20
"""Figures of a kind in the variant that forgets."""

VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "ratio": {"estimation": {"min_samples": 1, "estimator": "ratio"}},
    "forgetful": {"categories": {"limit": LIMIT}},
    "shadow": {"routing": {"shadow": True}},
    "rollout": {"routing": {"rollout_percent": 37.5, "conversation_header": "x-chat"}},
    "one set": {"models": {}},
    "without models": {"categories": {"sources": ["content"]}, "output": {"default": 700}},
    "named": {"categories": {"sources": ["header", "model"], "allowed": ["docs", "agents"]}},
}
MODELS = ("m", "code", "", "nobody", 'q"uo\\te\n', "模型", "\0", "x" * 256, "x" * 257)
CATEGORIES = ("", "docs", "agents", "stolen")


class Both:
    """The service's router and the filter written from the same figures."""

    def __init__(self, sections: dict[str, Any]) -> None:
        config = Config.model_validate({**BASE, **sections})
        self.learner = new_learner(config)
        self.router = Router(config, new_budgeter(config, self.learner))
        self._teach()
        runtime = LuaRuntime(unpack_returned_tuples=True)
        runtime.execute(program(figures(config, self.learner)))
        self._lua = runtime
        self._decide = runtime.globals().decide

    def _teach(self) -> None:
        """Learn odd ratios, so that no division comes out even; more models than the forgetful one keeps."""
        for turn in range(150):
            for model, ratio in (("m", 3.7), ("code", 2.9), ("模型", 2.3), ("\0", 1.3)):
                self._learn(turn, model, ratio)
        for turn in range(LIMIT):
            self._learn(0, f"model {turn}", 3.1)

    def _learn(self, turn: int, model: str, ratio: float) -> None:
        """Report an answer of a tokenizer with `ratio` bytes per token; of `m` now and then of half as many."""
        size, category = 900 + 37 * turn, ("all", "docs")[turn % 2]
        seen = self.router.decide_by_size(
            Head("POST", "/v1/chat/completions", category=category), {"json": True, "model": model}, size
        ).observation
        assert seen is not None
        tokens = round(size / ratio) * (2 if model == "m" and turn % 9 == 8 else 1) + turn % 7
        self.learner.learn(msgspec.structs.replace(seen, usage=Usage(tokens, 50 + turn)))

    def lua(self, head: Head, lifted: dict[str, Any], size: int | None) -> dict[str, Any]:
        fields = self._lua.table_from({f: getattr(head, f).encode() for f in head.__struct_fields__})
        plain = {k: v.encode() if isinstance(v, str) else v for k, v in lifted.items()}
        known = None if size is None else float(size)
        return dict(self._decide(fields, known, lambda: known, lambda: self._lua.table_from(plain)))

    def python(self, head: Head, lifted: dict[str, Any], size: int | None) -> dict[str, Any]:
        return shown(self.router.decide_by_size(head, lifted, size))


BOTH = {name: Both(sections) for name, sections in VARIANTS.items()}


def shown(decision: Decision) -> dict[str, Any]:
    """What the service's metadata says of a decision."""
    said: dict[str, Any] = {"pool": decision.pool.name, "chosen": decision.chosen.name, "reason": decision.reason}
    if decision.estimate is not None and decision.reserve is not None and decision.observation is not None:
        said |= {
            "estimate": decision.estimate.tokens,
            "upper": decision.estimate.upper,
            "source": decision.estimate.source,
            "reserve": decision.reserve.tokens,
            "reserve_source": decision.reserve.source,
            "budget": decision.budget,
            "model": decision.observation.model,
            "category": decision.observation.category,
            "observation": decision.observation,
        }
    return said


NUMBERS = st.integers(0, 40_000).map(float) | st.sampled_from((-1.0, 0.5, 1e30, float("inf"), float("nan")))
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
ANYTHING = NUMBERS | st.booleans() | TEXT
LIFTED = st.fixed_dictionaries(
    {"json": st.sampled_from((True, True, True, True, False, "true"))},
    optional={
        "model": st.sampled_from(MODELS) | TEXT | st.just(3.0),
        "max_completion_tokens": NUMBERS,
        "max_tokens": NUMBERS | st.sampled_from((64.0, 512.0, "many")),
        "max_output_tokens": ANYTHING,
        "n": st.sampled_from((1.0, 2.0, 1.0, 0.0, 1e30, "2")),
        "stream": st.booleans() | st.just(1.0),
        "prompt_cache_key": TEXT | NUMBERS,
        "user": TEXT,
        "previous_response_id": st.sampled_from(("", "resp_1")),
        "conversation": st.just(True),
        "truncate_prompt_tokens": st.sampled_from((-1.0, 0.0, 512.0, 9000.0, -2.0, 0.5, "512")),
        "previous_input_messages": st.just(True),
        "prompt": st.just(True),
    },
)
HEADS = st.builds(
    Head,
    method=st.sampled_from(("POST",) * 9 + ("GET",)),
    path=st.sampled_from([f"/v1{suffix}" for suffix, _ in SUFFIXES] + ["/v1/chat/completions?x=/y", "/v1/models"]),
    category=st.sampled_from(CATEGORIES),
    conversation=st.sampled_from(("", "c1", "会話")),
    request_id=st.uuids().map(str),
)
SIZES = st.integers(0, 3_000_000) | st.integers(0, 60_000) | st.none()


@pytest.mark.parametrize("variant", VARIANTS)
@settings(max_examples=400)
@given(head=HEADS, lifted=LIFTED, size=SIZES)
def test_the_filter_decides_as_the_service_does(
    variant: str, head: Head, lifted: dict[str, Any], size: int | None
) -> None:
    """Pool, reason, every figure shown and the whole observation are equal."""
    assert_same(BOTH[variant], head, lifted, size)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_model_and_category_is_decided_by_the_same_figures(variant: str) -> None:
    """Known, forgotten or never heard of: bodies that are sound in every way are estimated equally."""
    for model, category, size in product(
        (*MODELS, "model 0", f"model {LIMIT - 1}"), CATEGORIES, (3000, 9000, 60_000)
    ):
        head = Head("POST", "/v1/chat/completions", category=category)
        assert_same(BOTH[variant], head, {"json": True, "model": model}, size)


def assert_same(both: Both, head: Head, lifted: dict[str, Any], size: int | None) -> None:
    expected = both.python(head, lifted, size)
    found = both.lua(head, lifted, size)
    if "observation" in found:
        found["observation"] = msgspec.json.decode(found["observation"], type=Observation)
    assert found == expected


def test_the_variants_reach_every_reason() -> None:
    """The bodies above are not all of one kind: both pools and each reason come up."""
    both, head = BOTH["plain"], Head("POST", "/v1/chat/completions")
    seen = {"json": True, "model": "m", "max_tokens": 64.0}
    reasons = [both.lua(head, seen, size)["pool"] for size in (1000, 100_000, 1_000_000)]
    assert reasons == ["short", "long", "long"]
    assert both.lua(head, seen, 1_000_000)["reason"] == "oversized"
    assert both.lua(head, {**seen, "max_tokens": 1e6}, 1000)["reason"] == "too_long"
    assert both.lua(head, {"json": True, "model": "m"}, 1000)["reserve_source"] == "learned"
