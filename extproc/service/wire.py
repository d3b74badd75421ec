"""Protobuf wire format by hand, for the one message that differs with every request: its dynamic metadata.

Building a `Struct` of a dozen values through protobuf's classes takes three times as long as writing its bytes.
Layout: field number and wire type, length, payload (protobuf.dev, "Encoding"). The field numbers are those of
`google.protobuf.Struct` and `Value`.
"""

import functools
from struct import pack

_ENTRY = b"\x0a"  # Struct.fields = 1, a map: entries with key = 1, value = 2
_KEY = b"\x0a"
_VALUE = b"\x12"
_NUMBER = b"\x11"  # Value.number_value = 2
_STRING = b"\x1a"  # Value.string_value = 3
_STRUCT = b"\x2a"  # Value.struct_value = 5

_ONE_BYTE = tuple(bytes((value,)) for value in range(0x80))


def delimited(tag: bytes, payload: bytes) -> bytes:
    """Return a length-delimited field; `tag` is its number and wire type, encoded."""
    return tag + _varint(len(payload)) + payload


def text(key: str, value: bytes) -> bytes:
    """Return the entry `key: value` of a Struct; `value` is UTF-8."""
    return _before(_STRING, key, len(value)) + value


@functools.lru_cache(4096)
def known_text(key: str, value: str) -> bytes:
    """Return the same as `text`, cached: for values out of a small set."""
    return text(key, value.encode())


def number(key: str, value: float) -> bytes:
    """Return the entry `key: value` of a Struct."""
    return _before_number(key) + pack("<d", value)


def struct(key: str, entries: bytes) -> bytes:
    """Return the entry `key: {entries}` of a Struct."""
    return _before(_STRUCT, key, len(entries)) + entries


@functools.lru_cache(4096)
def _before(kind: bytes, key: str, length: int) -> bytes:
    """Return all of an entry before its payload of `length` bytes. Cached, since lengths repeat."""
    return _before_value(key, kind + _varint(length), length)


@functools.cache
def _before_number(key: str) -> bytes:
    return _before_value(key, _NUMBER, 8)


def _before_value(key: str, before: bytes, length: int) -> bytes:
    """Return all of an entry before its payload of `length` bytes. `before`: the part of it inside the value."""
    named = delimited(_KEY, key.encode())
    value = _VALUE + _varint(len(before) + length) + before
    return _ENTRY + _varint(len(named) + len(value) + length) + named + value


def _varint(value: int) -> bytes:
    if value < 0x80:
        return _ONE_BYTE[value]
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
