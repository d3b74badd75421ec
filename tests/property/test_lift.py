"""The filter reads bodies as a JSON parser does: the same fields, and nothing of what is cut."""

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from lupa.luajit21 import LuaRuntime

from extproc.body.lifted import REQUEST_FIELDS
from extproc.budget.learner import new_learner
from extproc.config import Config
from extproc.service.in_proxy import figures, program

CONFIG = Config()
RUNTIME = LuaRuntime(encoding=None)
RUNTIME.execute(program(figures(CONFIG, new_learner(CONFIG))).encode())
LIFT = RUNTIME.globals().lift


def lift(raw: bytes) -> dict[str, Any]:
    """What the filter lifts."""
    found = {key.decode(): value for key, value in dict(LIFT(raw)).items()}
    return {key: value.decode() if isinstance(value, bytes) else value for key, value in found.items()}


def parsed(raw: bytes) -> dict[str, Any]:
    """The same, by a parser of all of it."""
    body = json.loads(raw)
    fields = {name: body[name] for name in REQUEST_FIELDS if isinstance(body.get(name), str | int | float)}
    return {"json": True, **fields}


NAMES = st.sampled_from((*REQUEST_FIELDS, "messages", "n\\", '"', "日本")) | st.text(max_size=5)
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
    assert lift(raw) == parsed(raw)


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


@given(raw=st.binary(max_size=12))
def test_strings_are_utf8(raw: bytes) -> None:
    """A string that is no UTF-8 makes a body that is no JSON; metadata could not hold it."""
    body = b'{"model": "' + raw.replace(b"\\", b"").replace(b'"', b"") + b'"}'
    try:
        body.decode()
    except UnicodeDecodeError:
        assert lift(body) == {}
    else:
        assert lift(body)["json"] is True


def test_halves_of_a_pair() -> None:
    """Escapes of half a character are no text; whole pairs are one character."""
    assert lift(rb'{"model": "\ud83d\ude00"}') == {"json": True, "model": "😀"}
    for half in (rb"\ud83d", rb"\ude00", rb"\ud83d \ude00", rb"\ude00\ud83d"):
        assert lift(b'{"model": "' + half + b'"}') == {}


def test_a_long_body_of_nothing_but_quotes() -> None:
    """Each byte is looked at a bounded number of times, backslashes too."""
    for text in (b'\\"' * 500_000, b"\\\\" * 500_000, b"[" * 1_000_000, b"{" * 1_000_000):
        body = b'{"messages": ["' + text + b'"], "model": "m"}'
        assert lift(body) == {"json": True, "model": "m"}
    assert lift(b"[" * 1_000_000) == lift(b'{"a":' + b"[" * 1_000_000) == {}
