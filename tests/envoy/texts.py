"""Real text of several kinds, from what is installed beside the tests, cut to a number of tokens."""

import functools
import json
from collections.abc import Callable

import pycountry

from extproc.demo import tokens
from extproc.demo.texts import documentation, names, source

FEW = 4

KINDS: dict[str, Callable[[], str]] = {
    "prose": documentation,
    "code": source,
    "chinese": lambda: names("zh_CN"),
    "japanese": lambda: names("ja"),
    "russian": lambda: names("ru"),
    "json": lambda: json.dumps(
        [{"code": c.alpha_2, "name": c.name, "n": c.numeric} for c in pycountry.countries] * 5
    ),
}


@functools.cache
def _ids(kind: str) -> tuple[str, list[int]]:
    text = KINDS[kind]()[:400_000]
    return text, tokens.encode(text)


def text(kind: str, size: int, start: float = 0.0) -> str:
    """Return `size` tokens of `kind`, to within `FEW`, from the place `start` (0 to 1) of all there is."""
    whole, ids = _ids(kind)
    characters_per_token = len(whole) / len(ids)
    first = int(start * max(0, len(whole) - 2 * size * characters_per_token))
    last = first + int(size * characters_per_token)
    while abs(missing := size - tokens.count(whole[first:last])) > FEW:
        last += round(missing * characters_per_token) or missing // abs(missing)
        assert last <= len(whole), f"too little text of kind {kind}"
        characters_per_token *= 0.9  # smaller and smaller steps, since the text there may be denser than the whole
    return whole[first:last]
