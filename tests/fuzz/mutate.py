"""Inputs made from good ones by breaking them."""

import random
from collections.abc import Sequence

LONGEST = 64 * 1024
"""Bytes of a mutated input. What only size can break is in the shapes of tests/unit/body/test_bounds.py."""

TOKENS = (
    b"{", b"}", b"[", b"]", b'"', b"\\", b",", b":", b"null", b"true", b"-1", b"1e999", b"9" * 40, b"0.1", b'""',
    b"\\ud800", b"\\u0000", b"\xff\xfe", b"\xf0\x9f\x98\x80", b"\x00", b"\r", b"\n\n", b"data: ",
    b"data:[DONE]\n\n",
    b'"usage":', b'"messages":', b'"content":', b'"max_tokens":', b'"n":', b'"type":"tool_result"',
    b"NaN", b"- &a *a",
    b"!!python/object:os.system", b"\x0a\xff\xff\xff\xff\x0f", b"\x08\x96\x01",
)  # fmt: skip


def mutated(seeds: Sequence[bytes], source: random.Random) -> bytes:
    """Return one of `seeds` after one to four mutations."""
    data = source.choice(seeds)
    for _ in range(source.randint(1, 4)):
        data = source.choice(_MUTATIONS)(data, seeds, source)
    return data[:LONGEST]


def _place(data: bytes, source: random.Random) -> int:
    return source.randint(0, len(data))


def _flip(data: bytes, _: Sequence[bytes], source: random.Random) -> bytes:
    at = _place(data, source)
    return data[:at] + bytes([source.randrange(256)]) + data[at + 1 :]


def _insert(data: bytes, _: Sequence[bytes], source: random.Random) -> bytes:
    at = _place(data, source)
    return data[:at] + source.choice(TOKENS) + data[at:]


def _replace(data: bytes, _: Sequence[bytes], source: random.Random) -> bytes:
    at = _place(data, source)
    return data[:at] + source.choice(TOKENS) + data[at + source.randint(0, 8) :]


def _cut(data: bytes, _: Sequence[bytes], source: random.Random) -> bytes:
    return data[: _place(data, source)]


def _drop(data: bytes, _: Sequence[bytes], source: random.Random) -> bytes:
    a, b = sorted((_place(data, source), _place(data, source)))
    return data[:a] + data[b:]


def _repeat(data: bytes, _: Sequence[bytes], source: random.Random) -> bytes:
    a = _place(data, source)
    piece = data[a : a + source.randint(1, 16)]
    return data[:a] + piece * source.choice((2, 10, 100, 1000)) + data[a:]


def _splice(data: bytes, seeds: Sequence[bytes], source: random.Random) -> bytes:
    other = source.choice(seeds)
    return data[: _place(data, source)] + other[_place(other, source) :]


_MUTATIONS = (_flip, _insert, _replace, _cut, _drop, _repeat, _splice)
