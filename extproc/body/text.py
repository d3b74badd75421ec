"""Collects the text of a prompt: message contents, tool calls and their results. Media are only counted."""

from collections.abc import Sequence
from typing import Any

import msgspec

from extproc.body import schema
from extproc.body.facts import Item

END_OF_REASONING = (b"</think>", b"[/THINK]")
"""Marks between reasoning and answer in a message (Qwen, DeepSeek and others; Mistral)."""

_decode_text = msgspec.json.Decoder(str | None).decode
_decode_parts = msgspec.json.Decoder(str | list[schema.Part] | None).decode


class Text:
    """Collects the text and the media of one prompt."""

    __slots__ = ("media", "pieces", "reasoning")

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.media = 0
        self.reasoning = False

    def add(self, content: str | Sequence[str | schema.Part] | None) -> None:
        """Take a string, or a list of strings and content parts, with the results of tools nested in them."""
        if isinstance(content, str):
            self.pieces.append(content)
        elif content:
            for part in content:
                if isinstance(part, str):
                    self.pieces.append(part)
                else:
                    self._add_part(part)

    def add_json(self, value: Any) -> None:
        """Take any JSON value: a string as it is, anything else as compact JSON."""
        if isinstance(value, str):
            self.pieces.append(value)
        elif value is not None:
            self.pieces.append(msgspec.json.encode(value).decode())

    def _add_part(self, part: schema.Part) -> None:
        if part.text is not None:
            self.pieces.append(part.text)
        elif part.refusal is not None:
            self.pieces.append(part.refusal)
        elif part.thinking is not None:
            self.add(part.thinking)
            self.reasoning = True
        elif part.type == "tool_use":
            self._add_call(part.name, part.input)
        elif part.type == "tool_reference":
            self.pieces.append(part.tool_name or part.name or "")
        elif part.type in ("tool_result", "search_result"):
            self.add(part.content)
        elif isinstance(part.source, schema.Source) and part.source.type in ("text", "content"):
            self._add_document(part.source)
        elif part.type == "redacted_thinking":
            self.reasoning = True
        elif part.type != "text":
            self.media += 1

    def _add_document(self, source: schema.Source) -> None:
        if source.data:
            self.add(_decode_text(source.data))
        self.add(source.content)

    def add_message(self, message: schema.Message) -> None:
        """Take a message with its tool calls, or one item of a Responses input."""
        self.add(message.content)
        if message.tool_calls:
            for call in message.tool_calls:
                self._add_function(call.function or call.custom)
        if message.function_call is not None:
            self._add_function(message.function_call)
        if message.tools:
            self.add_json(message.tools)
        if message.reasoning or message.reasoning_content:
            # Nobody here knows whether the template prints it; to assume so is safe.
            self.add(message.reasoning or message.reasoning_content)
            self.reasoning = True
        if message.type:
            self._add_responses_item(message.type, message)

    def _add_call(self, name: str | None, *given: Any) -> None:
        """Take a tool call: its name and arguments."""
        self.pieces.append(name or "")
        for value in given:
            self.add_json(value)

    def _add_function(self, function: schema.Function | None) -> None:
        if function is not None:
            self._add_call(function.name, function.arguments, function.input)

    def _add_responses_item(self, kind: str, item: schema.Message) -> None:
        if kind in ("function_call", "custom_tool_call"):
            self._add_call(item.name, item.arguments, item.input)
        elif kind in ("function_call_output", "custom_tool_call_output"):
            self.add(_decode_parts(item.output or b"null"))
        elif kind == "computer_call_output":
            self.media += 1
        elif kind.endswith("_call"):
            self.add_json(item.action)
            self.add_json(item.operation)
        elif kind.endswith("_call_output"):
            self.add_json(msgspec.json.decode(item.output or b"null"))
        elif kind == "reasoning":
            self.add(item.summary)
            self.reasoning = True

    def item(self, messages: int, tools: Any = None) -> Item:
        """Return the prompt that was collected."""
        text = "".join(self.pieces).encode()
        return Item(
            text=text,
            tools=msgspec.json.encode(tools) if tools else b"",
            messages=messages,
            media=self.media,
            # Earlier answers may come back with their reasoning inside. Searching from the end is twice as fast.
            reasoning=self.reasoning or (messages > 1 and any(text.rfind(mark) >= 0 for mark in END_OF_REASONING)),
        )
