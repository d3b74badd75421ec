"""Feature vectors of any text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.body.facts import Item
from extproc.budget.features import NAMES, features, text_bytes
from extproc.budget.pairs import PAIRS

texts = st.text(st.characters(codec="utf-8"), max_size=200).map(str.encode)


@given(texts)
def test_bytes_by_class_add_up_to_the_text(text: bytes) -> None:
    """No byte of valid UTF-8 is lost or counted twice."""
    assert text_bytes(features(Item(text=text))) == len(text)


@given(texts, texts)
def test_features_add_over_parts(first: bytes, second: bytes) -> None:
    """The vector of two texts is the sum of theirs, but for the one pair where they meet."""
    together = features(Item(text=first + second))
    apart = [sum(two) for two in zip(features(Item(text=first)), features(Item(text=second)), strict=True)]
    assert together == pytest.approx(apart, abs=1)


@given(texts, st.integers(0, 100))
def test_no_feature_is_negative_or_larger_than_the_prompt(text: bytes, messages: int) -> None:
    """Counts are counts."""
    vector = features(Item(text=text, tools=text, messages=messages))
    assert all(0 <= count <= max(2 * len(text) + 1, messages) for count in vector)
    assert len(vector) == len(NAMES) > len(PAIRS)
