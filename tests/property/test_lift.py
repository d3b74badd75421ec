"""The filter reads bodies as a JSON parser does: the same fields, and nothing of what is cut."""

import codecs
import json
from itertools import product
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from lupa.luajit21 import LuaRuntime

from extproc.body.bounds import MOST_PROMPTS
from extproc.body.fields import LONGEST_KEY, conversation_of
from extproc.body.lifted import NOTED_FIELDS, REQUEST_FIELDS, Lifted
from extproc.budget.learner import new_learner
from extproc.config import Config
from extproc.service.in_proxy import figures, program
from tests.lifted import lifted

pytestmark = pytest.mark.no_cover  # thousands of inputs: tracing each line would double the time

CONFIG = Config()
RUNTIME = LuaRuntime(encoding=None)
RUNTIME.execute(program(figures(CONFIG, new_learner(CONFIG))).encode())
LIFT = RUNTIME.globals().lift
COUNTED = RUNTIME.execute(b"""
jit.off()
return function(body)
  local steps = 0
  debug.sethook(function() steps = steps + 1 end, "", 1)
  lift(body)
  debug.sethook()
  return steps
end
""")
"""`lift`, and the steps of the interpreter that it took."""


def lift(raw: bytes) -> dict[str, Any]:
    """What the filter lifts."""
    found = {key.decode(): value for key, value in dict(LIFT(raw)).items()}
    return {key: value.decode() if isinstance(value, bytes) else value for key, value in found.items()}


def typed(fields: Lifted) -> dict[str, Any]:
    """`fields` with true and 1 told apart; Lua has one kind of number."""
    return {k: (bool, v) if isinstance(v, bool) else v for k, v in fields.items()}


NAMES = st.sampled_from((*REQUEST_FIELDS, *NOTED_FIELDS, "messages", "n\\", '"', "日本")) | st.text(max_size=5)
TEXT = st.text(max_size=20) | st.text('"\\{}[],:nu 0aé世😀', max_size=30)
NUMBERS = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
PAIRS = st.lists(st.tuples(NAMES, VALUES), max_size=8)
STYLES = st.fixed_dictionaries(
    {
        "ensure_ascii": st.booleans(),
        "indent": st.sampled_from((None, 0, 2, "\t")),
        "separators": st.sampled_from(((",", ":"), (", ", ": "), (" ,\r\n", "\t: "))),
    }
)


def written(pairs: list[tuple[str, Any]], style: dict[str, Any]) -> bytes:
    """An object with `pairs` in their order, names that come twice and all."""
    comma, colon = style["separators"]
    fields = (f"{json.dumps(k, **style)}{colon}{json.dumps(v, **style)}" for k, v in pairs)
    return f" {{{comma.join(fields)} }}\n".encode("utf-8", "surrogatepass")


@given(pairs=PAIRS, style=STYLES)
@example([("model", "m")] * 2, {"ensure_ascii": True, "indent": None, "separators": (",", ":")})
def test_reads_what_a_parser_reads(pairs: list[tuple[str, Any]], style: dict[str, Any]) -> None:
    """Fields of the top level alone, the last of a name, escapes decoded, however it is laid out."""
    raw = written(pairs, style)
    expected = lifted(raw)
    assert expected
    assert typed(lift(raw)) == typed(expected)


def test_a_byte_order_mark_is_skipped() -> None:
    """Envoy's own parser skips it too."""
    assert lift(codecs.BOM_UTF8 + b'{"model": "m"}') == {"json": True, "model": "m"}
    assert lift(codecs.BOM_UTF8 * 2 + b'{"model": "m"}') == lift(codecs.BOM_UTF8) == {}


def test_names_may_be_escaped() -> None:
    """However a name is written, it is the same."""
    name = "".join(f"\\u{ord(letter):04X}" for letter in max(REQUEST_FIELDS, key=len))
    assert lift(f'{{"{name}": 5, "mod\\u0065l": "m"}}'.encode()) == {
        "json": True,
        max(REQUEST_FIELDS, key=len): 5,
        "model": "m",
    }


@pytest.mark.parametrize(
    "fields",
    [
        '"model": "m",',
        ', "model": "m"',
        '"model": "m",, "n": 1',
        '"model": "m" "n": 1',
        '"model" "m"',
        '"model"; "m"',
        '"model": ',
        '"model"',
        "model: 1",
        "'model': 1",
        *(
            f'"n": {word}'
            for word in ("nan", "inf", "infinity", "NaN", "nul", "nulls", "tru", "1-2", "+1", ".5", "0x10")
        ),
    ],
)
def test_what_is_broken_at_its_top_level_is_not_json(fields: str) -> None:
    """Where the fields are, a body has to be sound."""
    assert lift(f"{{{fields}}}".encode()) == {}


@given(pairs=PAIRS, style=STYLES, data=st.data())
def test_what_is_cut_is_not_json(pairs: list[tuple[str, Any]], style: dict[str, Any], data: st.DataObject) -> None:
    """Cut anywhere, a body says nothing; nor does one with something after it."""
    raw = written(pairs, style).strip()
    assert lift(raw[: data.draw(st.integers(0, len(raw) - 1))]) == {}
    assert lift(raw + data.draw(st.sampled_from((b"}", b"{}", b",", b"0", b"\xff")))) == {}


@given(raw=st.binary(max_size=60) | st.text('"\\{}[],:0.e-truefalsn model', max_size=60).map(str.encode))
def test_never_fails(raw: bytes) -> None:
    """Whatever comes, nothing is raised, and what is lifted are strings in UTF-8, numbers and booleans."""
    assert all(isinstance(value, str | float | int | bool) for value in lift(raw).values())


EDGES = bytes.fromhex("7f 80 8f 90 9f a0 bf c0 c1 c2 df e0 e1 ec ed ee ef f0 f1 f3 f4 f5 ff")
"""The bytes at which the rules of UTF-8 change."""


def test_strings_are_utf8() -> None:
    """A string that is no UTF-8 makes a body that is no JSON: metadata could not hold it."""
    pairs = (bytes(pair) for pair in product(range(0x80, 0x100), repeat=2))
    longer = (bytes((first, *rest)) for first in range(0xE0, 0x100) for rest in product(EDGES, repeat=2))
    longest = (bytes((first, *rest)) for first in range(0xF0, 0xF6) for rest in product(EDGES, repeat=3))
    found = wanted = 0
    for text in (*pairs, *longer, *longest):
        body = b'{"model": "' + text + b'"}'
        try:
            expected = {"json": True, "model": text.decode()}
        except UnicodeDecodeError:
            expected = {}
        assert lift(body) == expected
        found += bool(expected)
        wanted += 1
    assert 0 < found < wanted


LETTERS = st.sampled_from(("a", "é", "世", "😀", '"', "\n"))


@given(st.lists(LETTERS, min_size=1, max_size=3), st.integers(-2, 2), st.booleans())
def test_of_a_long_string_the_beginning_is_lifted(letters: list[str], more: int, ensure_ascii: bool) -> None:
    """As many bytes of UTF-8 as the service looks at, however they are written."""
    unit = "".join(letters)
    user = unit * (LONGEST_KEY // len(unit.encode()) + more)
    raw = json.dumps({"user": user}, ensure_ascii=ensure_ascii).encode()
    assert dict(LIFT(raw))[b"user"] == user.encode()[:LONGEST_KEY]
    assert conversation_of("", user).encode("utf-8", "surrogateescape") == user.encode()[:LONGEST_KEY]


def test_a_long_string_takes_no_longer_than_its_beginning() -> None:
    """Of a megabyte of escapes no more is decoded than of the beginning."""
    steps = [COUNTED(b'{"user": "%b"}' % (b"\\n" * size)) for size in (100_000, 1_000_000)]
    assert steps[1] < 1.1 * steps[0]


ENDLESS = {
    "fields": '"a": 1.23456789012345678901234567890e100, ',
    "lists": '"a": [[[[]]]], ',
    "texts": '"a": ["", "", ""], ',
    "users": f'"user": "{"é" * 3000}", ',
}


@pytest.mark.parametrize("shape", ENDLESS)
def test_a_body_that_takes_too_many_steps_is_given_up(shape: str) -> None:
    """Envoy's other requests wait while it is read. Where it was sound so far, its model tells who serves it."""
    fields = ENDLESS[shape] * (1_000_000 // len(ENDLESS[shape]))
    bodies = [f'{{"model": "m", {fields * times}"n": 1}}'.encode() for times in (1, 2)]
    assert [lift(body).get("model") for body in bodies] == ["m", "m"]
    assert not any("json" in lift(body) for body in bodies)
    assert COUNTED(bodies[1]) == COUNTED(bodies[0])


def test_a_list_that_takes_too_many_steps_is_given_up() -> None:
    """As fields do."""
    assert lift(b'{"model": "m", "x": ' + b"[" * 1_000_000) == {"model": "m"}


def test_long_lists_are_read() -> None:
    """As many prompts as the service reads take fewer steps than a body may, and so do a thousand tools."""
    parameters = {f"p{i}": {"type": "string"} for i in range(20)}
    tool = {"type": "function", "function": {"name": "f", "parameters": parameters}}
    for field in ({"input": [["text"]] * MOST_PROMPTS}, {"tools": [tool] * 1000}):
        assert lift(json.dumps({**field, "model": "m"}).encode()) == {"json": True, "model": "m"}


def test_halves_of_a_pair() -> None:
    """Escapes of half a character are no text; whole pairs are one character."""
    assert lift(rb'{"model": "\ud83d\ude00"}') == {"json": True, "model": "😀"}
    for half in (rb"\ud83d", rb"\ude00", rb"\ud83d \ude00", rb"\ude00\ud83d"):
        assert lift(b'{"model": "' + half + b'"}') == {}


SHAPES = {
    "quotes": ('{"messages": ["', '\\"', '"]}'),
    "backslashes": ('{"messages": ["', "\\\\", '"]}'),
    "escapes in a name": ('{"', "\\n", '": 1}'),
    "escapes in a value": ('{"model": "', "\\ud83d\\ude00", '"}'),
    "names": ("{", '"": 0, ', '"n": 1}'),
    "nesting": ('{"messages": ', "[", ""),
    "space": ("{", "    ", "}"),
    "digits": ('{"n": ', "1", "}"),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_hostile_body_costs_no_more_than_its_length(shape: str) -> None:
    """Four times the body are four times the steps of the interpreter, whatever it is made of."""
    before, unit, after = SHAPES[shape]

    def steps(times: int) -> int:
        count: int = COUNTED((before + unit * times + after).encode())
        return count

    assert 0 < steps(40_000) < 4.4 * steps(10_000) + 10
