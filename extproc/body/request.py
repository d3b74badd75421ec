"""Request bodies of the OpenAI, Anthropic and vLLM APIs: bytes to prompt facts.

Only what a token budget needs is read; everything else is skipped by the JSON decoder without being built. Text is
what the model sees after JSON decoding, so a body written with `\\uXXXX` escapes gives the same bytes as one
written in UTF-8. Images, audio and files are counted, never read.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import numpy as np

from extproc.body import schema
from extproc.body.facts import Api, Item, PromptFacts, Unreadable
from extproc.body.fields import NO_TOOL, conversation_of, facts_of
from extproc.body.text import Text

LARGEST_BODY = 2 * 1024 * 1024
MOST_BRACKETS = 16_384
MOST_COLONS = 65_536
MOST_COMMAS = 262_144
MOST_DIGITS = 2048
MOST_PROMPTS = 8192
MOST_TEXT = 2 * LARGEST_BODY
"""Bounds on what is read, so that no body holds up other requests (`make fuzz` measures it): its bytes, its opening
brackets (each may become an object), colons (each may end a key) and commas, places with sixteen digits in a row
(a number of twenty and more takes microseconds to read), its prompts, and bytes of their text (a suffix or query
counts with each prompt). Marks within texts count too: no short prompt has so many."""

_EIGHT_TRUE = np.uint64(0x0101010101010101)  # eight bytes, each of them true
_PIECE = 64 * 1024  # bytes that are counted at once: few enough to stay in the CPU's cache

LONGEST_SKIPPED = 8 * 1024 * 1024
MODEL_WITHIN = 64 * 1024
"""Bytes of the longest body that is decoded to find its model, and of each end of a longer one that is searched."""

_MODEL = re.compile(rb'"model"\s*:\s*"([^"\\]{1,1024})"')

SUFFIXES: tuple[tuple[str, Api], ...] = (
    ("/chat/completions", "chat"),
    ("/completions", "completions"),
    ("/responses", "responses"),
    ("/messages", "messages"),
    ("/embeddings", "embeddings"),
    ("/score", "score"),
    ("/rerank", "score"),
)
"""How paths end, and the API of each; the first that fits counts."""

_USUAL: dict[str, Api] = {f"/v1{suffix}": api for suffix, api in SUFFIXES}


def api_of(path: str) -> Api | None:
    """Return the API behind a request path (query ignored, any prefix allowed), None when it is not one of ours."""
    return _USUAL.get(path) or _api_by_suffix(path.partition("?")[0])


def _api_by_suffix(path: str) -> Api | None:
    return next((api for suffix, api in SUFFIXES if path.endswith(suffix)), None)


class _TooManyError(Exception):
    """A body of more or larger prompts than are read."""


def _chat(body: schema.Chat) -> Iterator[Item]:
    if body.messages:
        text = Text()
        if body.documents or body.chat_template or body.chat_template_kwargs:
            for value in (body.documents, body.chat_template, body.chat_template_kwargs):
                text.add_json(value)
        yield _conversation(text, body.messages, body.tools or body.functions)


def _conversation(text: Text, messages: list[schema.Message], tools: Any) -> Item:
    for message in messages:
        text.add_message(message)
    return text.item(len(messages), tools)


def _completions(body: schema.Completions) -> Iterator[Item]:
    for item in _prompts(body.prompt):
        yield msgspec.structs.replace(item, text=item.text + body.suffix.encode()) if body.suffix else item


def _prompts(prompt: str | list[str | int | list[int]] | None) -> Iterator[Item]:
    """One prompt or a batch: a string, strings, token ids, or lists of token ids."""
    if isinstance(prompt, str):
        yield Item(text=prompt.encode())
    elif prompt:
        if len(set(map(type, prompt))) > 1:
            raise msgspec.ValidationError("prompts of several kinds")
        if isinstance(prompt[0], int):
            yield Item(tokens=len(prompt))
            return
        for part in prompt:
            if isinstance(part, str):
                yield Item(text=part.encode())
            elif isinstance(part, list):
                yield Item(tokens=len(part))


def _responses(body: schema.Responses) -> Iterator[Item]:
    text = Text()
    text.add(body.instructions)
    messages = 1 if body.instructions else 0
    if isinstance(body.input, str):
        text.add(body.input)
        messages += 1
    elif body.input:
        for item in body.input:
            text.add_message(item)
        messages += len(body.input)
    if messages:
        yield text.item(messages, None if body.tool_choice == NO_TOOL else body.tools)  # vLLM prints none then


def _messages(body: schema.Messages) -> Iterator[Item]:
    if body.messages:
        text = Text()
        text.add(body.system)
        for message in body.messages:
            text.add_message(message)
        yield text.item(len(body.messages) + (1 if body.system else 0), body.tools)


def _embeddings(body: schema.Embeddings) -> Iterator[Item]:
    if body.messages:
        yield _conversation(Text(), body.messages, None)
    yield from _prompts(body.input)


def _score(body: schema.Score) -> Iterator[Item]:
    """Every pair is one prompt: the query (or first text) with each document (or second text)."""
    firsts = _scored(body.query, body.queries, body.text_1, body.data_1)
    seconds = _scored(body.documents, body.items, body.text_2, body.data_2)
    if len(firsts) == 1:
        firsts *= len(seconds)
    for first, second in zip(firsts, seconds, strict=False):
        yield Item(text=first.text + second.text, media=first.media + second.media)


def _scored(*named: schema.Scored) -> list[Item]:
    """Each as if it were a prompt: read once, however many it is paired with."""
    value = next((value for value in named if value is not None), [])
    if not isinstance(value, list):
        return [_side(value)]
    if len(value) > MOST_PROMPTS:
        raise _TooManyError
    return [_side(each) for each in value]


def _side(each: str | schema.Content) -> Item:
    if isinstance(each, str):
        return Item(text=each.encode())
    text = Text()
    text.add(each.content)
    return text.item(0)


_model_decoder = msgspec.json.Decoder(schema.Named)
_conversation_decoder = msgspec.json.Decoder(schema.Conversing)


def _decoder(shape: type[schema.Body]) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(shape, strict=False)  # vLLM takes "64" and 64.0 for 64, and 1 for true


_READERS: dict[Api, tuple[msgspec.json.Decoder[Any], Callable[[Any], Iterator[Item]]]] = {
    "chat": (_decoder(schema.Chat), _chat),
    "completions": (_decoder(schema.Completions), _completions),
    "responses": (_decoder(schema.Responses), _responses),
    "messages": (_decoder(schema.Messages), _messages),
    "embeddings": (_decoder(schema.Embeddings), _embeddings),
    "score": (_decoder(schema.Score), _score),
}


def read_request(api: Api, body: bytes) -> PromptFacts | Unreadable:
    """Read a whole request body. Never raises: what cannot be read is an `Unreadable` with its reason.

    Takes bounded time and memory for a body of `LARGEST_BODY` bytes; the caller does not offer a longer one.
    """
    if len(body) > _PIECE and _takes_long(body):
        return Unreadable("too_many")
    decoder, reader = _READERS[api]
    try:
        decoded = decoder.decode(body)
        items = _bounded(reader(decoded))
    except _TooManyError:
        return Unreadable("too_many")
    except msgspec.ValidationError:
        return Unreadable("wrong_type")
    except RecursionError:
        return Unreadable("too_deep")
    except (msgspec.DecodeError, ValueError):  # ValueError: invalid UTF-8
        return Unreadable("not_json")
    return facts_of(api, decoded, items)


def _takes_long(body: bytes) -> bool:
    """Whether a body is beyond the bounds. Counted with numpy, in pieces that stay in the CPU's cache."""
    whole = np.frombuffer(body, np.uint8)
    brackets = colons = commas = digits = 0
    for start in range(0, len(whole), _PIECE):
        piece = whole[start : start + _PIECE]
        brackets += int(np.count_nonzero(piece == ord("["))) + int(np.count_nonzero(piece == ord("{")))
        colons += int(np.count_nonzero(piece == ord(":")))
        commas += int(np.count_nonzero(piece == ord(",")))
        eights = ((piece - ord("0")) < 10)[: len(piece) // 8 * 8].view(np.uint64) == _EIGHT_TRUE
        digits += int(np.count_nonzero(eights[1:] & eights[:-1]))
    return brackets > MOST_BRACKETS or colons > MOST_COLONS or commas > MOST_COMMAS or digits > MOST_DIGITS


def _bounded(items: Iterator[Item]) -> tuple[Item, ...]:
    """Take the prompts of a body one by one, up to a bound on their number and on their text together."""
    taken: list[Item] = []
    size = 0
    for item in items:
        taken.append(item)
        size += len(item.text)
        if len(taken) > MOST_PROMPTS or size > MOST_TEXT:
            raise _TooManyError
    return tuple(taken)


def read_model(body: bytes) -> str:
    """Return the model a body names, skipping all else; "" when it names none or is not JSON. Never raises.

    Of a very long body only both ends are searched: clients write the model first, or last.
    """
    if len(body) > LONGEST_SKIPPED:
        found = _MODEL.search(body[:MODEL_WITHIN]) or _MODEL.search(body[-MODEL_WITHIN:])
        return found[1].decode("utf-8", "replace") if found else ""
    try:
        return _model_decoder.decode(body).model or ""
    except (msgspec.DecodeError, ValueError, RecursionError):
        return ""


def read_conversation(body: bytes) -> str:
    """Return what names the conversation of a body, skipping all else; "" where nothing does. Never raises."""
    if len(body) > LONGEST_SKIPPED:
        return ""
    try:
        named = _conversation_decoder.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return ""
    return conversation_of(named.prompt_cache_key, named.user)
