"""Reads usage reports: token counts in answers of the OpenAI, Responses and Anthropic APIs, plain or streamed."""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

LARGEST_COUNT = 2**31
"""Token counts are below this: no context is so long, and no batch."""

Count = Annotated[int, msgspec.Meta(ge=0, lt=LARGEST_COUNT)]


Written = int | float | None
"""A count in JSON, which may be written as 9.0. A whole number of hundreds of digits is too large for a float, so
both types are read, and `Report` leaves out what is no count."""


class Usage(msgspec.Struct, frozen=True):
    """Token counts as the model server reports them; None where the answer does not say.

    `prompt_tokens` counts the whole prompt, cached or not, whatever API it came from.
    """

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None


class _Cached(msgspec.Struct):
    cached_tokens: Written = None


class UsageFields(msgspec.Struct):
    """The fields of a `usage` object in any dialect.

    `cached_tokens` stands in the details only; in metadata, where details cannot be lifted, it stands by itself.
    """

    prompt_tokens: Written = None
    completion_tokens: Written = None
    cached_tokens: Written = None
    prompt_tokens_details: _Cached | None = None
    input_tokens: Written = None
    output_tokens: Written = None
    input_tokens_details: _Cached | None = None
    cache_read_input_tokens: Written = None
    cache_creation_input_tokens: Written = None


class _Choice(msgspec.Struct):
    finish_reason: str | None = None


class _Incomplete(msgspec.Struct):
    reason: str | None = None


LAST_EVENTS = ("response.completed", "response.incomplete")
"""Types of Responses events after which nothing follows; those of other APIs say why generation ended."""


class _Answer(msgspec.Struct):
    """A whole JSON answer, or the data of one event of a stream."""

    type: Any = None
    usage: UsageFields | None = None
    choices: list[_Choice] | None = None
    stop_reason: str | None = None  # Anthropic
    delta: Any = None  # Anthropic message_delta: an object; Responses: a string
    message: "_Answer | None" = None  # Anthropic message_start
    response: "_Answer | None" = None  # Responses events
    incomplete_details: _Incomplete | None = None


_decoder = msgspec.json.Decoder(_Answer)


class Report:
    """The usage of one answer, merged over its events.

    A later event overwrites an earlier one field by field, but never with null or 0: servers send `"usage": null`
    in ordinary chunks, and Anthropic reports input and output tokens in different events. `ended`: an event said
    that it is the last; many clients do not wait for more.
    """

    def __init__(self) -> None:
        self._fields: dict[str, int] = {}
        self.finish_reason: str | None = None
        self.ended = False

    def read(self, document: bytes) -> bool:
        """Take a JSON answer, or the data of one event. False when it is no JSON of a known shape. Never raises."""
        try:
            answer = _decoder.decode(document)
        except (msgspec.DecodeError, ValueError, RecursionError):
            return False
        self._take(answer)
        return True

    def _take(self, answer: _Answer) -> None:
        for inner in (answer.message, answer.response):
            if inner is not None:
                self._take(inner)
        if answer.usage is not None:
            self._merge(answer.usage)
        if answer.type in LAST_EVENTS:
            self.ended = True
        reason = _finish_reason(answer)
        # Choices end one by one: a `length` of any of them counts.
        if reason is not None and self.finish_reason != "length":
            self.finish_reason = reason

    def _merge(self, usage: UsageFields) -> None:
        """Take the fields of a usage object that are possible token counts."""
        for name in UsageFields.__struct_fields__:
            value = getattr(usage, name)
            details = isinstance(value, _Cached)
            count = value.cached_tokens if details else value
            if count is not None and 0 <= count < LARGEST_COUNT:
                known = "cached_tokens" if details else name
                self._fields[known] = int(count) or self._fields.get(known, 0)

    @property
    def usage(self) -> Usage | None:
        """The counts so far, None when there are none."""
        return usage_of(self._fields)


def usage_of(fields: Mapping[str, int]) -> Usage | None:
    """Return the counts in `fields` of a usage object, by name in any dialect; None when there are none."""
    if not fields:
        return None
    cache_read = fields.get("cache_read_input_tokens", 0)
    prompt = fields.get("prompt_tokens")
    if prompt is None and "input_tokens" in fields:
        # Anthropic's input_tokens leaves out tokens read from or written to the cache.
        prompt = fields["input_tokens"] + cache_read + fields.get("cache_creation_input_tokens", 0)
    return Usage(
        prompt_tokens=prompt or None,  # no prompt is empty: 0 means not counted
        completion_tokens=fields.get("completion_tokens", fields.get("output_tokens")),
        cached_tokens=fields.get("cached_tokens", cache_read or None),
    )


def _finish_reason(answer: _Answer) -> str | None:
    """Return why the generation ended, wherever the dialect says it."""
    reason = answer.stop_reason
    if answer.choices:
        # If one choice ran out of room, the answer was truncated, however the others ended.
        reasons = [c.finish_reason for c in answer.choices if c.finish_reason]
        reason = "length" if "length" in reasons else next(iter(reasons), reason)
    elif isinstance(answer.delta, dict):
        stop = answer.delta.get("stop_reason")
        reason = stop if isinstance(stop, str) else reason
    if answer.incomplete_details is not None:
        reason = answer.incomplete_details.reason or reason
    return finish(reason)


def finish(reason: str | None) -> str | None:
    """Return a finish reason in OpenAI's words: each dialect's "ran out of tokens" is `length`."""
    return "length" if reason in ("max_tokens", "max_output_tokens") else reason
