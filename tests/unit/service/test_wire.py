"""Rules of `extproc.service.wire`: bytes written by hand are protobuf's."""

from google.protobuf.struct_pb2 import Struct
from hypothesis import given
from hypothesis import strategies as st

from extproc.service import wire

KEYS = st.text(st.characters(codec="utf-8"), max_size=200)


@given(KEYS, st.text(st.characters(codec="utf-8"), max_size=20_000), st.floats(allow_nan=False))
def test_bytes_are_protobufs(key: str, text: str, number: float) -> None:
    """Protobuf reads what was written, whatever the lengths."""
    written = wire.struct("outer", wire.text(f"t{key}", text.encode()) + wire.number(f"n{key}", number))
    expected = Struct()
    expected.update({"outer": {f"t{key}": text, f"n{key}": number}})
    assert Struct.FromString(written) == expected


def test_known_text_is_text() -> None:
    """The remembered form is the same bytes."""
    assert wire.known_text("pool", "short") == wire.text("pool", b"short")
