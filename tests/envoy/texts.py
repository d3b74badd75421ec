"""Real text of several kinds, from what is installed beside the tests, cut to a number of tokens."""

import functools
import gettext
import inspect
import json
import pydoc_data.topics
import statistics
from collections.abc import Callable
from pathlib import Path

import pycountry

from extproc.demo import tokens

FEW = 4

LOCALES = Path(pycountry.__file__).parent / "locales"


def _names(language: str) -> str:
    """Names of places, languages and currencies in `language`, as the locale data of pycountry has them."""
    found = [
        gettext.translation(domain, LOCALES, [language])._catalog.values()  # type: ignore[attr-defined]
        for domain in ("iso3166-1", "iso3166-2", "iso639-3")
    ]
    return "。".join(name for names in found for name in names if len(name) < 60)


def _source() -> str:
    return "\n".join(inspect.getsource(module) for module in (statistics, functools, json, gettext))


KINDS: dict[str, Callable[[], str]] = {
    "prose": lambda: "\n".join(pydoc_data.topics.topics.values()),
    "code": _source,
    "chinese": lambda: _names("zh_CN"),
    "japanese": lambda: _names("ja"),
    "russian": lambda: _names("ru"),
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
