"""Answers of the stand-in pool in each API's shape, as JSON and as events."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from extproc.demo.prompt import Prompt

ID = "standin-1"
CREATED = 1700000000
WORD = "lorem "
TOKENS_PER_EVENT = 8
EMBEDDING = [0.0, 0.5, -0.25, 0.125]

Json = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """What is said: `completion` tokens for each choice, and why it ends (`stop` or `length`)."""

    prompt: Prompt
    completion: int
    finish_reason: str
    usage: bool = True

    @property
    def text(self) -> str:
        """A word a token."""
        return WORD * self.completion

    @property
    def prompt_tokens(self) -> int:
        """Prompt tokens of the whole batch."""
        return sum(self.prompt.sizes)

    @property
    def completion_tokens(self) -> int:
        """Completion tokens of the whole batch."""
        return self.completion * self.prompt.choices * len(self.prompt.sizes)

    def pieces(self) -> Iterator[str]:
        """The text as a stream delivers it."""
        for start in range(0, self.completion, TOKENS_PER_EVENT):
            yield WORD * min(TOKENS_PER_EVENT, self.completion - start)


def whole(path: str, answer: Answer) -> Json:
    """Return the JSON answer of the API at `path`."""
    body = _WHOLE[path](answer)
    if not answer.usage:
        body.pop("usage", None)
    return body


def events(path: str, answer: Answer) -> Iterator[bytes]:
    """Yield the events of a streamed answer of the API at `path`."""
    return _STREAMED[path](answer)


def _openai_usage(answer: Answer) -> Json:
    prompt, completion = answer.prompt_tokens, answer.completion_tokens
    return {"prompt_tokens": prompt, "total_tokens": prompt + completion, "completion_tokens": completion}


def _head(answer: Answer, kind: str) -> Json:
    return {"id": ID, "object": kind, "created": CREATED, "model": answer.prompt.model}


def _chat(answer: Answer) -> Json:
    message = {"role": "assistant", "content": answer.text}
    choices = [
        {"index": i, "message": message, "finish_reason": answer.finish_reason}
        for i in range(answer.prompt.choices)
    ]
    return {**_head(answer, "chat.completion"), "choices": choices, "usage": _openai_usage(answer)}


def _completions(answer: Answer) -> Json:
    number = answer.prompt.choices * len(answer.prompt.sizes)
    choices = [{"index": i, "text": answer.text, "finish_reason": answer.finish_reason} for i in range(number)]
    return {**_head(answer, "text_completion"), "choices": choices, "usage": _openai_usage(answer)}


def _embeddings(answer: Answer) -> Json:
    data = [{"object": "embedding", "index": i, "embedding": EMBEDDING} for i, _ in enumerate(answer.prompt.sizes)]
    usage = {"prompt_tokens": answer.prompt_tokens, "total_tokens": answer.prompt_tokens}
    return {"object": "list", "data": data, "model": answer.prompt.model, "usage": usage}


def _responses(answer: Answer) -> Json:
    cut = answer.finish_reason == "length"
    content = [{"type": "output_text", "text": answer.text, "annotations": []}]
    message = {"type": "message", "id": "msg-1", "role": "assistant", "status": "completed", "content": content}
    return {
        "id": ID,
        "object": "response",
        "created_at": CREATED,
        "model": answer.prompt.model,
        "status": "incomplete" if cut else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "output": [message],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": answer.prompt_tokens,
            "output_tokens": answer.completion_tokens,
            "total_tokens": answer.prompt_tokens + answer.completion_tokens,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": 0},
        },
    }


def _messages(answer: Answer) -> Json:
    return {
        "id": ID,
        "type": "message",
        "role": "assistant",
        "model": answer.prompt.model,
        "content": [{"type": "text", "text": answer.text}],
        "stop_reason": _stop_reason(answer),
        "stop_sequence": None,
        "usage": {"input_tokens": answer.prompt_tokens, "output_tokens": answer.completion_tokens},
    }


def _stop_reason(answer: Answer) -> str:
    return "max_tokens" if answer.finish_reason == "length" else "end_turn"


def _event(data: Json, name: str | None = None) -> bytes:
    prefix = f"event: {name}\n" if name else ""
    return f"{prefix}data: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


def _stream_openai(answer: Answer, kind: str, said: str) -> Iterator[bytes]:
    """Chunks with a `delta` (chat) or `text` (completions), usage in an event of its own when it was asked for."""
    head = _head(answer, kind)

    def chunk(text: str | None, finish_reason: str | None) -> bytes:
        content = {"delta": {} if text is None else {"content": text}} if said == "delta" else {"text": text or ""}
        return _event({**head, "choices": [{"index": 0, **content, "finish_reason": finish_reason}]})

    for piece in answer.pieces():
        yield chunk(piece, None)
    yield chunk(None, answer.finish_reason)
    if answer.usage and answer.prompt.usage_in_stream:
        yield _event({**head, "choices": [], "usage": _openai_usage(answer)})
    yield b"data: [DONE]\n\n"


def _stream_messages(answer: Answer) -> Iterator[bytes]:
    """Anthropic's events: input tokens at the start, output tokens at the end."""
    usage = {"input_tokens": answer.prompt_tokens, "output_tokens": 0} if answer.usage else {}
    start = {**_messages(answer), "content": [], "stop_reason": None, "usage": usage}
    block = {"type": "text", "text": ""}
    yield _event({"type": "message_start", "message": start}, "message_start")
    yield _event({"type": "content_block_start", "index": 0, "content_block": block}, "content_block_start")
    for piece in answer.pieces():
        delta = {"type": "text_delta", "text": piece}
        yield _event({"type": "content_block_delta", "index": 0, "delta": delta}, "content_block_delta")
    yield _event({"type": "content_block_stop", "index": 0}, "content_block_stop")
    end: Json = {"type": "message_delta", "delta": {"stop_reason": _stop_reason(answer), "stop_sequence": None}}
    if answer.usage:
        end["usage"] = {"output_tokens": answer.completion_tokens}
    yield _event(end, "message_delta")
    yield _event({"type": "message_stop"}, "message_stop")


def _stream_responses(answer: Answer) -> Iterator[bytes]:
    """The response as it begins, its message and text, and the whole response at the end."""
    body = whole("/v1/responses", answer)
    (message,) = body["output"]
    begun = {**body, "status": "in_progress", "incomplete_details": None, "output": [], "usage": None}
    place = {"item_id": message["id"], "output_index": 0, "content_index": 0}
    part = {"type": "output_text", "text": "", "annotations": []}
    end = "incomplete" if answer.finish_reason == "length" else "completed"
    events: list[tuple[str, Json]] = [
        ("created", {"response": begun}),
        ("output_item.added", {"output_index": 0, "item": {**message, "status": "in_progress", "content": []}}),
        ("content_part.added", {**place, "part": part}),
        *(("output_text.delta", {**place, "delta": piece, "logprobs": []}) for piece in answer.pieces()),
        (end, {"response": body}),
    ]
    for serial, (kind, fields) in enumerate(events):
        name = f"response.{kind}"
        yield _event({"type": name, "sequence_number": serial, **fields}, name)


_WHOLE = {
    "/v1/chat/completions": _chat,
    "/v1/completions": _completions,
    "/v1/responses": _responses,
    "/v1/messages": _messages,
    "/v1/embeddings": _embeddings,
}

_STREAMED = {
    "/v1/chat/completions": lambda answer: _stream_openai(answer, "chat.completion.chunk", "delta"),
    "/v1/completions": lambda answer: _stream_openai(answer, "text_completion", "text"),
    "/v1/responses": _stream_responses,
    "/v1/messages": _stream_messages,
}
