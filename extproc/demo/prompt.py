"""Request bodies as the stand-in pool reads them: apart from `extproc.body`, so that one can check the other."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from extproc.demo import tokens

TOKENS_PER_MESSAGE = 4
TOKENS_PER_CONVERSATION = 3
"""What a chat template adds: role and delimiters of a message, the header of the answer."""

COMPLETIONS_DEFAULT = 16
"""`max_tokens` of /v1/completions when the client states none, as in OpenAI's API and in vLLM."""


class BadPromptError(Exception):
    """A body that a real pool would answer with 400 whatever its context."""


@dataclass(frozen=True)
class Prompt:
    """A request, counted.

    `sizes`: true tokens of each prompt of the batch. `cap`: output tokens allowed, None when the client set no
    limit. `digest`: a number drawn from the text, the same at every run. `usage_in_stream`: usage was asked for.
    """

    model: str
    sizes: tuple[int, ...]
    cap: int | None
    choices: int
    stream: bool
    usage_in_stream: bool
    digest: int


def read(path: str, body: dict[str, Any]) -> Prompt:
    """Count the request `body` of the API at `path`. Raises `BadPromptError`."""
    try:
        sizes, text = _READERS[path](body)
    except (TypeError, AttributeError) as error:
        raise BadPromptError(f"the body is not of the shape of {path}") from error
    if not sizes:
        raise BadPromptError("the body holds no prompt")
    options = body.get("stream_options") or {}
    return Prompt(
        model=str(body.get("model") or ""),
        sizes=tuple(sizes),
        cap=_cap(path, body),
        choices=int(body.get("n") or 1),
        stream=bool(body.get("stream")),
        usage_in_stream=bool(options.get("include_usage")),
        digest=sum(text.encode("utf-8", "replace")),
    )


def _cap(path: str, body: dict[str, Any]) -> int | None:
    for key in ("max_completion_tokens", "max_tokens", "max_output_tokens"):
        value = body.get(key)
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise BadPromptError(f"{key} must be at least 1, got {value!r}")
        return value
    if path == "/v1/embeddings":
        return 0
    return COMPLETIONS_DEFAULT if path == "/v1/completions" else None


Sized = tuple[list[int], str]


def _chat(body: dict[str, Any]) -> Sized:
    return _conversation(body.get("messages", []), body)


def _messages(body: dict[str, Any]) -> Sized:
    system = [{"content": body["system"]}] if body.get("system") else []
    return _conversation(system + list(body.get("messages") or []), body)


def _responses(body: dict[str, Any]) -> Sized:
    given = body.get("input")
    items = [{"content": given}] if isinstance(given, str) else list(given or [])
    instructions = [{"content": body["instructions"]}] if body.get("instructions") else []
    return _conversation(instructions + items, body)


def _conversation(messages: list[dict[str, Any]], body: dict[str, Any]) -> Sized:
    if not messages:
        return [], ""
    text = "\n".join(part for message in messages for part in _texts(message))
    size = tokens.count(text) + TOKENS_PER_MESSAGE * len(messages) + TOKENS_PER_CONVERSATION
    if body.get("tools"):
        size += tokens.count(json.dumps(body["tools"], ensure_ascii=False, separators=(",", ":")))
    return [size], text


def _texts(message: dict[str, Any]) -> Iterable[str]:
    """The text of one message: content, content parts, tool calls and their results."""
    for key in ("content", "output"):
        content = message.get(key)
        if isinstance(content, str):
            yield content
        for part in content if isinstance(content, list) else ():
            yield from _texts(part)
    if isinstance(message.get("text"), str):
        yield message["text"]
    for call in message.get("tool_calls") or ():
        yield call["function"]["name"] + call["function"]["arguments"]
    if isinstance(message.get("arguments"), str):
        yield str(message.get("name", "")) + message["arguments"]
    if message.get("type") == "tool_use":
        yield str(message["name"]) + json.dumps(message["input"], ensure_ascii=False)


def _batch(value: Any) -> Sized:
    if isinstance(value, str):
        return [tokens.count(value)], value
    if not isinstance(value, list) or not value:
        return [], ""
    if isinstance(value[0], int):
        return [len(value)], ""
    return [tokens.count(v) if isinstance(v, str) else len(v) for v in value], str(value[0])


_READERS: dict[str, Callable[[dict[str, Any]], Sized]] = {
    "/v1/chat/completions": _chat,
    "/v1/completions": lambda body: _batch(body.get("prompt")),
    "/v1/responses": _responses,
    "/v1/messages": _messages,
    "/v1/embeddings": lambda body: _batch(body.get("input")),
}
