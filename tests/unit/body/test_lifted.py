"""Rules of `extproc.body.lifted`: fields that Envoy lifted to prompt facts."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.body.facts import Item, PromptFacts, Unreadable
from extproc.body.fields import ANY_CAP, LARGEST_CAP
from extproc.body.lifted import read_lifted


def facts(**lifted: Any) -> PromptFacts:
    found = read_lifted("chat", {"json": True, **lifted}, 500)
    assert isinstance(found, PromptFacts)
    return found


def test_what_is_lifted() -> None:
    """Model, cap, choices and conversation are read; the prompt is the size of the body."""
    found = facts(model="m", max_tokens=64.0, n=2.0, stream=True, prompt_cache_key="c", user="u")
    assert found == PromptFacts("chat", "m", (Item(raw=500),), 64, 2, conversation="c")


@pytest.mark.parametrize("name", ANY_CAP)
def test_each_cap(name: str) -> None:
    """Every dialect's cap is a cap; a huge one stays a whole number."""
    assert facts(**{name: 7.0}).cap == 7
    assert facts(**{name: 1e30}).cap == LARGEST_CAP


def test_first_cap_counts() -> None:
    """As in the body: max_completion_tokens before max_tokens."""
    assert facts(max_tokens=5.0, max_completion_tokens=9.0).cap == 9


def test_an_api_s_own_cap_comes_first() -> None:
    """Its server reads no other."""
    caps = {"max_tokens": 5.0, "max_completion_tokens": 9.0, "max_output_tokens": 7.0}
    for api, cap in (("completions", 5), ("messages", 5), ("responses", 7)):
        found = read_lifted(api, {"json": True, **caps}, 500)  # type: ignore[arg-type]
        assert isinstance(found, PromptFacts)
        assert found.cap == cap


def test_truncation() -> None:
    """A prompt that its server cuts is of so many tokens, and teaches nothing."""
    found = facts(truncate_prompt_tokens=512.0)
    assert (found.truncated_to, found.teaches) == (512, False)
    assert facts(truncate_prompt_tokens=-1.0).teaches is False


def test_completions_have_no_default() -> None:
    """A missing cap and an explicit null look the same, so it is taken for the larger."""
    found = read_lifted("completions", {"json": True}, 500)
    assert isinstance(found, PromptFacts)
    assert found.cap is None


def test_embeddings_produce_nothing() -> None:
    """Their cap is 0, whatever the body says."""
    found = read_lifted("embeddings", {"json": True, "max_tokens": 9.0}, 500)
    assert isinstance(found, PromptFacts)
    assert found.cap == 0


@pytest.mark.parametrize(
    ("lifted", "reason"),
    [
        ({}, "not_json"),
        ({"json": False}, "not_json"),
        ({"json": "true"}, "not_json"),
        ({"json": True, "previous_response_id": "r"}, "stored_prompt"),
        ({"json": True, "max_tokens": "many"}, "wrong_type"),
        ({"json": True, "max_tokens": -1.0}, "wrong_type"),
        ({"json": True, "max_tokens": 1.5}, "wrong_type"),
        ({"json": True, "max_tokens": float("inf")}, "wrong_type"),
        ({"json": True, "max_tokens": True}, "wrong_type"),
        ({"json": True, "n": 0.0}, "wrong_type"),
        ({"json": True, "model": 7.0}, "wrong_type"),
        ({"json": True, "truncate_prompt_tokens": -2.0}, "wrong_type"),
        ({"json": True, "truncate_prompt_tokens": "512"}, "wrong_type"),
        ({"json": True, "stream": "yes"}, "wrong_type"),
    ],
)
def test_unreadable(lifted: dict[str, Any], reason: str) -> None:
    """What the body parser calls unreadable is so here, as far as it can be seen."""
    assert read_lifted("chat", lifted, 500) == Unreadable(reason)  # type: ignore[arg-type]


@given(
    st.dictionaries(
        st.sampled_from(("json", "model", "n", "stream", "user", *ANY_CAP)), st.text() | st.floats() | st.booleans()
    )
)
def test_never_raises(lifted: dict[str, Any]) -> None:
    """Whatever the metadata holds, there is an answer."""
    assert isinstance(read_lifted("chat", lifted, 1), PromptFacts | Unreadable)


def test_the_user_is_the_conversation_where_there_is_no_key() -> None:
    """As in the body."""
    assert facts(user="u").conversation == "u"


@pytest.mark.parametrize("name", ["conversation", "prompt", "previous_input_messages"])
def test_what_lies_on_the_server_is_noted_of_responses_alone(name: str) -> None:
    """The prompt of completions is in the body."""
    assert read_lifted("responses", {"json": True, name: True}, 500) == Unreadable("stored_prompt")
    assert isinstance(read_lifted("completions", {"json": True, name: True}, 500), PromptFacts)
