"""No body costs more than bounded memory (`make fuzz` measures the time too): shapes that would, without bounds."""

import json
import tracemalloc
from typing import Any

import pytest

from extproc.body.bounds import LARGEST_BODY, MOST_PROMPTS
from extproc.body.facts import Api, PromptFacts, Unreadable
from extproc.body.request import LONGEST_SKIPPED, read_model, read_request
from extproc.body.text import Text


def filled(before: bytes, unit: bytes, after: bytes, size: int = LARGEST_BODY) -> bytes:
    return before + unit * ((size - len(before) - len(after)) // len(unit)) + after


HALF = b"x" * (LARGEST_BODY // 2)

SHAPES: dict[str, tuple[Api, bytes]] = {
    "empty messages": ("chat", filled(b'{"messages":[{}', b",{}", b"]}")),
    "scored against many": ("score", filled(b'{"query":{"content":[{}]},"documents":[""', b',""', b"]}")),
    "scored by parts": ("score", b'{"query":"q","documents":[{"content":[]}%b]}' % (b',{"content":[]}' * 2000)),
    "scored by some": (
        "score",
        b'{"query":{"content":[{}%b]},"documents":[""%b]}' % (b",{}" * 1000, b',""' * 2000),
    ),
    "empty parts": ("chat", filled(b'{"messages":[{"content":[{}', b",{}", b"]}]}")),
    "tools of lists": ("chat", filled(b'{"messages":[{"content":"a"}],"tools":[[]', b",[]", b"]}")),
    "tools of numbers": ("chat", filled(b'{"messages":[{"content":"a"}],"tools":[1.5', b",1e9", b"]}")),
    "tools of long numbers": (
        "chat",
        filled(b'{"messages":[{"content":"a"}],"tools":[1.5', b",2.2250738585072011777e-308", b"]}"),
    ),
    "nothing but escapes": ("chat", filled(b'{"messages":[{"content":"', rb"\u4f60", b'"}]}')),
    "nested without end": ("chat", b'{"tools":' + b"[" * LARGEST_BODY),
    "nested within the bound": ("chat", b'{"tools":' + b"[" * 60_000),
    "a batch of nothing": ("completions", filled(b'{"prompt":["a"', b',""', b"]}")),
    "a batch of id lists": ("completions", filled(b'{"prompt":[[1]', b",[]", b"]}")),
    "one id after the other": ("completions", filled(b'{"prompt":[1', b",1", b"]}")),
    "a suffix for each": ("completions", filled(b'{"suffix":"' + HALF + b'","prompt":["a"', b',""', b"]}")),
    "a query for each": ("score", filled(b'{"query":"' + HALF + b'","documents":["a"', b',""', b"]}")),
    "a batch of inputs": ("embeddings", filled(b'{"input":["a"', b',"b"', b"]}")),
    "a number without end": ("chat", b'{"max_tokens":' + b"9" * LARGEST_BODY + b"}"),
    "tools of keys": (
        "chat",
        b'{"messages":[{"content":"a"}],"tools":{%b}}' % b",".join(b'"%x":1' % key for key in range(180_000)),
    ),
    "documents of one letter": (
        "messages",
        filled(b'{"messages":[{"content":[{}', b',{"source":{"type":"text","data":"a"}}', b"]}]}"),
    ),
    "some documents of one letter": (
        "messages",
        b'{"messages":[{"content":[{}%b]}]}' % (b',{"source":{"type":"text","data":"a"}}' * 8_000),
    ),
    "outputs of one letter": (
        "responses",
        b'{"input":[%b]}' % b",".join([b'{"type":"function_call_output","output":[{"text":"a"}]}'] * 5_000),
    ),
    "a key again and again": ("chat", filled(b'{"a":1', b',"a":1', b"}")),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_body_takes_bounded_memory(shape: str) -> None:
    """Reading it takes a small multiple of its size, whatever it asks for."""
    api, body = SHAPES[shape]
    tracemalloc.start()
    read_request(api, body)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * LARGEST_BODY


@pytest.mark.parametrize(
    "shape",
    [
        "a suffix for each",
        "a query for each",
        "a batch of nothing",
        "empty messages",
        "tools of keys",
        "documents of one letter",
        "tools of long numbers",
    ],
)
def test_what_is_beyond_the_bounds_is_called_so(shape: str) -> None:
    """Such a body goes to the largest pool, and the reason is counted."""
    assert read_request(*SHAPES[shape]) == Unreadable("too_many")


@pytest.mark.parametrize(
    ("body", "model"),
    [
        (filled(b'{"model": "m", "messages": "', b"x", b'"}', LONGEST_SKIPPED + LARGEST_BODY), "m"),
        (filled(b'{"messages": "', b"x", b'", "model":"m"}', LONGEST_SKIPPED + LARGEST_BODY), "m"),
        (filled(b'{"messages": "\\"model\\": \\"n\\"', b"x", b'"}', LONGEST_SKIPPED + LARGEST_BODY), ""),
    ],
)
def test_the_model_of_a_very_long_body_is_found_at_its_ends(body: bytes, model: str) -> None:
    """Only the ends are looked at, and text that looks like a model name is not one."""
    assert read_model(body) == model


def test_prompts_are_bounded_by_number() -> None:
    """As many as are read, and one more."""
    most, more = (json.dumps({"prompt": ["a"] * (MOST_PROMPTS + number)}).encode() for number in (0, 1))
    assert isinstance(read_request("completions", most), PromptFacts)
    assert read_request("completions", more) == Unreadable("too_many")


def test_what_all_are_scored_against_is_read_once() -> None:
    """However many it is paired with: read with each, 50 kB took ten seconds."""
    read = 0

    class Counting(Text):
        def add(self, content: Any) -> None:
            nonlocal read
            read += 1
            super().add(content)

    body = json.dumps({"query": {"content": [{}] * 8000}, "documents": [""] * 8000}).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("extproc.body.request.Text", Counting)
        found = read_request("score", body)
    assert isinstance(found, PromptFacts)
    assert read == 1


def test_numbers_in_a_text_are_read() -> None:
    """Times and measurements are no long numbers, and a string is not made one."""
    text = "1764430000123 0.123456789012345\n" * 5000
    body = json.dumps({"messages": [{"content": text}]}).encode()
    assert isinstance(read_request("chat", body), PromptFacts)
