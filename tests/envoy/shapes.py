"""One text in the shape of each API, and in several parts."""

import json
from collections.abc import Callable
from typing import Any

from extproc.demo import tokens
from tests.envoy.client import CHAT, chat

Shaped = tuple[str, Any]
"""A path, and a body to send there."""

CAP = 64


def _halves(text: str) -> tuple[str, str]:
    return text[: len(text) // 2], text[len(text) // 2 :]


def _parts(text: str) -> Shaped:
    first, second = ({"type": "text", "text": half} for half in _halves(text))
    return CHAT, {"model": "m", "messages": [{"role": "user", "content": [first, second]}], "max_tokens": CAP}


def _turns(text: str) -> Shaped:
    said, answered = _halves(text)
    turns = [
        {"role": "user", "content": said},
        {"role": "assistant", "content": answered},
        {"role": "user", "content": "?"},
    ]
    return CHAT, {"model": "m", "messages": turns, "max_completion_tokens": CAP}


def _called(text: str) -> Shaped:
    """A tool that was called, and what it said."""
    call = {"id": "c", "type": "function", "function": {"name": "read", "arguments": '{"page": 1}'}}
    turns = [
        {"role": "user", "content": "Read it."},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": text},
    ]
    return CHAT, {"model": "m", "messages": turns, "max_tokens": CAP}


def _escaped(text: str) -> Shaped:
    """Every character beyond ASCII as an escape, the keys the other way round."""
    body = chat(text, max_tokens=CAP)
    return CHAT, json.dumps(dict(reversed(body.items())), ensure_ascii=True).encode()


def _anthropic(text: str) -> Shaped:
    system, said = _halves(text)
    body = {"model": "m", "system": system, "messages": [{"role": "user", "content": said}], "max_tokens": CAP}
    return "/v1/messages", body


def _responses(text: str) -> Shaped:
    instructions, said = _halves(text)
    return "/v1/responses", {"model": "m", "instructions": instructions, "input": said, "max_output_tokens": CAP}


SHAPES: dict[str, Callable[[str], Shaped]] = {
    "chat": lambda text: (CHAT, chat(text, max_tokens=CAP)),
    "parts": _parts,
    "turns": _turns,
    "tool result": _called,
    "escapes": _escaped,
    "completion": lambda text: ("/v1/completions", {"model": "m", "prompt": text, "max_tokens": CAP}),
    "batch": lambda text: ("/v1/completions", {"model": "m", "prompt": ["Hello.", text], "max_tokens": CAP}),
    "token ids": lambda text: (
        "/v1/completions",
        {"model": "m", "prompt": tokens.encode(text), "max_tokens": CAP},
    ),
    "messages": _anthropic,
    "responses": _responses,
    "embedding": lambda text: ("/v1/embeddings", {"model": "m", "input": text}),
}
"""By name: from a text to a request. Every one may produce `CAP` tokens, an embedding none."""
