"""A mixed load: which requests the demo sends. The same seed gives the same requests."""

import functools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from extproc.demo import texts

MODEL = "stand-in"
CAPS = (64, 128, 256, 512)
CAPPED_SHARE = 0.7
STREAMED_SHARE = 0.4
USAGE_SHARE = 0.75
"""Of the streamed ones, those that ask for usage; the others teach nothing."""

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"

Body = dict[str, Any]


@dataclass(frozen=True)
class Request:
    """A request to send. `kind`: what its text is, which no gateway is told."""

    kind: str
    path: str
    body: Body


def mixed(number: int, seed: int) -> Iterator[Request]:
    """Yield `number` requests of all kinds."""
    random_ = random.Random(seed)
    kinds = random_.choices(list(_KINDS), [share for share, _ in _KINDS.values()], k=number)
    for kind in kinds:
        path, body = _KINDS[kind][1](random_)
        yield Request(kind, path, {"model": MODEL, **body, **_options(random_)})


def _options(random_: random.Random) -> Body:
    options: Body = {}
    if random_.random() < CAPPED_SHARE:
        options["max_tokens"] = random_.choice(CAPS)
    if random_.random() < STREAMED_SHARE:
        options["stream"] = True
        if random_.random() < USAGE_SHARE:
            options["stream_options"] = {"include_usage": True}
    return options


def _size(random_: random.Random, median: int) -> int:
    """Characters, spread as prompts are: mostly around the median, now and then many times that."""
    return int(median * random_.lognormvariate(0, 0.8)) + 40


def _user(content: str) -> Body:
    return {"role": "user", "content": content}


def _chat(random_: random.Random) -> tuple[str, Body]:
    turns = random_.choice((1, 3, 5))
    said = [texts.piece(texts.documentation(), _size(random_, 900), random_) for _ in range(turns)]
    roles = ("user", "assistant")
    return CHAT, {"messages": [{"role": roles[i % 2], "content": text} for i, text in enumerate(said)]}


def _code(random_: random.Random) -> tuple[str, Body]:
    text = texts.piece(texts.source(), _size(random_, 4000), random_)
    return (COMPLETIONS, {"prompt": text}) if random_.random() < 0.3 else (CHAT, {"messages": [_user(text)]})


def _in(language: str, random_: random.Random) -> tuple[str, Body]:
    return CHAT, {"messages": [_user(texts.piece(texts.names(language), _size(random_, 1200), random_))]}


def _json_tools(random_: random.Random) -> tuple[str, Body]:
    text = texts.piece(texts.records(), _size(random_, 1500), random_)
    tools = random_.sample(texts.tools(), random_.choice((2, 5, 10)))
    return CHAT, {"messages": [_user(text)], "tools": tools}


def _hashes(random_: random.Random) -> tuple[str, Body]:
    """Far more tokens a byte than what is taken for the same class."""
    return CHAT, {"messages": [_user(texts.piece(texts.hashes(), _size(random_, 7000), random_))]}


def _document(random_: random.Random) -> tuple[str, Body]:
    text = texts.piece(texts.documentation(), 12_000 + _size(random_, 12_000), random_)
    return CHAT, {"messages": [_user(text)]}


_KINDS: dict[str, tuple[int, Callable[[random.Random], tuple[str, Body]]]] = {
    "chat": (4, _chat),
    "code": (3, _code),
    "Chinese": (2, functools.partial(_in, "zh_CN")),
    "Japanese": (2, functools.partial(_in, "ja")),
    "JSON, tools": (3, _json_tools),
    "paths, hashes": (1, _hashes),
    "long document": (2, _document),
}
"""Share of each kind, and what makes one."""
