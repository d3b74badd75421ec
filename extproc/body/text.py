"""What of a prompt is text: message contents, calls of tools and their results. Media are counted."""

from collections.abc import Sequence
from typing import Any

import msgspec

from extproc.body import schema
from extproc.body.facts import Item


class Text:
    """Collects the text and the media of one prompt."""

    __slots__ = ("media", "pieces")

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.media = 0

    def add(self, content: str | Sequence[str | schema.Part] | None) -> None:
        """Take a string or a list of strings and parts; nested tool results are followed."""
        if isinstance(content, str):
            self.pieces.append(content)
        elif content:
            for part in content:
                if isinstance(part, str):
                    self.pieces.append(part)
                else:
                    self._add_part(part)

    def add_json(self, value: Any) -> None:
        """Take what may be anything: a string as it is, anything else as compact JSON."""
        if isinstance(value, str):
            self.pieces.append(value)
        elif value is not None:
            self.pieces.append(msgspec.json.encode(value).decode())

    def _add_part(self, part: schema.Part) -> None:
        if part.text is not None:
            self.pieces.append(part.text)
        elif part.refusal is not None:
            self.pieces.append(part.refusal)
        elif part.type == "tool_use":
            self._add_call(part.name, part.input)
        elif part.type == "tool_result":
            self.add(part.content)
        elif part.type not in ("text", "thinking", "redacted_thinking"):
            self.media += 1

    def add_message(self, message: schema.Message) -> None:
        """Take a message with its tool calls, or one item of a Responses input."""
        self.add(message.content)
        if message.tool_calls:
            for call in message.tool_calls:
                self._add_function(call.function or call.custom)
        self._add_function(message.function_call)
        if message.tools:
            self.add_json(message.tools)
        if message.type:
            self._add_responses_item(message)

    def _add_call(self, name: str | None, *given: Any) -> None:
        """Take a call of a tool: its name, and what it was given."""
        self.pieces.append(name or "")
        for value in given:
            self.add_json(value)

    def _add_function(self, function: schema.Function | None) -> None:
        if function is not None:
            self._add_call(function.name, function.arguments, function.input)

    def _add_responses_item(self, item: schema.Message) -> None:
        if item.type in ("function_call", "custom_tool_call"):
            self._add_call(item.name, item.arguments, item.input)
        elif item.type in ("function_call_output", "custom_tool_call_output"):
            self.add(item.output)

    def item(self, messages: int, tools: Any = None) -> Item:
        """Close the prompt."""
        return Item(
            text="".join(self.pieces).encode(),
            tools=msgspec.json.encode(tools) if tools else b"",
            messages=messages,
            media=self.media,
        )
