"""YAML for people: what is written reads back, and comments stand where they were put."""

import yaml
from hypothesis import given
from hypothesis import strategies as st

from extproc.render.text import plain, to_yaml

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]), max_size=120)
)
KEYS = st.text(st.characters(categories=["L", "N"], include_characters="-_.@ :,"), min_size=1, max_size=20)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.dictionaries(KEYS, inner, min_size=1, max_size=4) | st.lists(inner, max_size=4),
    max_leaves=20,
)


def nests_lists(value: object) -> bool:
    """Whether a list holds a list: Envoy and Kubernetes configurations have none."""
    if isinstance(value, dict):
        return any(map(nests_lists, value.values()))
    return isinstance(value, list) and any(isinstance(i, list) or nests_lists(i) for i in value)


@given(st.dictionaries(KEYS, TREES.filter(lambda t: not nests_lists(t)), min_size=1, max_size=4))
def test_reads_back(tree: dict[str, object]) -> None:
    """What is written is read back as the same values."""
    assert yaml.safe_load(to_yaml(tree)) == tree


def test_comments() -> None:
    """A comment is written above what follows it, above the dash in a list, and is no part of the value."""
    tree = {"# top": None, "a": 1, "list": [{"# first": None, "b": {"c": 2}}, {"d": {"# in\ntwo": None, "e": 3}}]}
    expected = """\
# top
a: 1
list:
# first
- b: {c: 2}
- d:
    # in
    # two
    e: 3
"""
    assert to_yaml(tree) == expected
    assert yaml.safe_load(expected) == plain(tree) == {"a": 1, "list": [{"b": {"c": 2}}, {"d": {"e": 3}}]}


def test_comments_wrap() -> None:
    """A long comment is wrapped between words."""
    lines = to_yaml({"# " + "word " * 100: None, "a": 1}).splitlines()
    assert all(line.startswith("# word") and len(line) <= 110 for line in lines[:-1])


def test_block() -> None:
    """Text of several lines is written as a block."""
    assert to_yaml({"code": "a = 1\n\nb = 2\n"}) == "code: |\n  a = 1\n\n  b = 2\n"


def test_documents() -> None:
    """Several documents are separated."""
    assert list(yaml.safe_load_all(to_yaml({"a": 1}, {"b": 2}))) == [{"a": 1}, {"b": 2}]
