"""Properties of the request parser, for any body."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.body.facts import Api, PromptFacts, Unreadable
from extproc.body.request import read_request

APIS: tuple[Api, ...] = ("chat", "completions", "responses", "messages", "embeddings", "score")
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
KEYS = st.sampled_from(
    [
        "model",
        "messages",
        "content",
        "role",
        "type",
        "text",
        "input",
        "prompt",
        "tools",
        "max_tokens",
        "n",
        "system",
    ]
)
BODIES = st.recursive(
    VALUES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=8),
    max_leaves=20,
)


@given(api=st.sampled_from(APIS), body=st.binary(max_size=300))
def test_bytes_never_raise(api: Api, body: bytes) -> None:
    """Any bytes are facts or a reason."""
    assert isinstance(read_request(api, body), PromptFacts | Unreadable)


@given(api=st.sampled_from(APIS), body=BODIES)
def test_json_never_raises(api: Api, body: Any) -> None:
    """Any JSON is facts or a reason, and facts are within their ranges."""
    facts = read_request(api, json.dumps(body).encode())
    if isinstance(facts, PromptFacts):
        assert facts.items
        assert facts.choices >= 1
        assert facts.cap is None or facts.cap >= 0


@st.composite
def conversations(draw: st.DrawFn) -> dict[str, Any]:
    message = st.fixed_dictionaries({"role": st.just("user"), "content": TEXT})
    return {
        "model": draw(TEXT),
        "messages": draw(st.lists(message, min_size=1, max_size=5)),
        "max_tokens": draw(st.integers(0, 10**6)),
        "tools": draw(st.lists(st.dictionaries(TEXT, TEXT, max_size=3), max_size=2)),
        "user": draw(TEXT),
    }


@given(body=conversations(), order=st.randoms())
def test_escapes_spaces_and_key_order_do_not_matter(body: dict[str, Any], order: Any) -> None:
    """However a client writes the same request, the facts are the same."""
    keys = list(body)
    order.shuffle(keys)
    written = json.dumps({key: body[key] for key in keys}, ensure_ascii=True, indent=2).encode()
    plain = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    assert read_request("chat", written) == read_request("chat", plain)


@given(body=conversations())
def test_text_is_every_byte_the_model_sees(body: dict[str, Any]) -> None:
    """The text is the contents of all messages, joined."""
    facts = read_request("chat", json.dumps(body).encode())
    assert isinstance(facts, PromptFacts)
    assert facts.items[0].text.decode() == "".join(message["content"] for message in body["messages"])


@pytest.mark.parametrize("api", APIS)
@given(cut=st.integers(0, 10**6), body=conversations())
def test_cut_bodies_are_never_read_as_whole(api: Api, cut: int, body: dict[str, Any]) -> None:
    """A proper prefix of a JSON object is not JSON."""
    whole = json.dumps(body).encode()
    assert read_request(api, whole[: cut % len(whole)]) == Unreadable("not_json")
