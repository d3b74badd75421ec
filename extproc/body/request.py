"""Reads request bodies of the OpenAI, Anthropic and vLLM APIs into prompt facts.

Only what a token budget needs is read; the JSON decoder skips everything else without building it. Text is what the
model sees after JSON decoding, so a body written with `\\uXXXX` escapes gives the same bytes as one written in
UTF-8. Images, audio and files are counted, never read.
"""

import codecs
import re
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import msgspec

from extproc.body import schema
from extproc.body.bounds import MOST_PROMPTS, MOST_TEXT, SHORT_BODY, takes_long
from extproc.body.facts import Api, Item, PromptFacts, Unreadable
from extproc.body.fields import conversation_of, facts_of
from extproc.body.text import Text

LONGEST_SKIPPED = 8 * 1024 * 1024
MODEL_WITHIN = 64 * 1024
"""To find its model, a body of up to `LONGEST_SKIPPED` bytes is decoded; of a longer one `MODEL_WITHIN` bytes at
either end are searched."""

_MODEL = re.compile(rb'"model"\s*:\s*"([^"\\]{1,1024})"')


class _TooManyError(Exception):
    """A body has more prompts, or longer ones, than are read."""


def _chat(body: schema.Chat) -> Iterator[Item]:
    if body.messages:
        text = _rendered_with(body)
        text.add_json(body.documents)
        yield _conversation(text, body.messages, body.tools or body.functions)


def _rendered_with(body: schema.Body) -> Text:
    """Begin a prompt with what the client gives vLLM to render its messages with."""
    text = Text()
    text.add_json(body.chat_template)
    text.add_json(body.chat_template_kwargs)
    return text


def _conversation(text: Text, messages: list[schema.Message], tools: Any) -> Item:
    for message in messages:
        text.add_message(message)
    return text.item(len(messages), tools)


def _completions(body: schema.Completions) -> Iterator[Item]:
    for item in _prompts(body.prompt):
        yield msgspec.structs.replace(item, text=item.text + body.suffix.encode()) if body.suffix else item


def _prompts(prompt: str | list[str | int | list[int]] | None) -> Iterator[Item]:
    """Yield one prompt or a batch: from a string, strings, token ids, or lists of token ids."""
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
    text = _rendered_with(body)
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
        yield text.item(messages, body.tools)


def _messages(body: schema.Messages) -> Iterator[Item]:
    if body.messages:
        text = _rendered_with(body)
        text.add(body.system)
        for message in body.messages:
            text.add_message(message)
        yield text.item(len(body.messages) + (1 if body.system else 0), body.tools)


def _embeddings(body: schema.Embeddings) -> Iterator[Item]:
    if body.messages:
        yield _conversation(_rendered_with(body), body.messages, None)
    yield from _prompts(body.input)


def _score(body: schema.Score) -> Iterator[Item]:
    """Yield a prompt for every pair: the query (or first text) with each document (or second text)."""
    given = _rendered_with(body).item(0).text
    firsts = _scored(body.query, body.queries, body.text_1, body.data_1)
    seconds = _scored(body.documents, body.items, body.text_2, body.data_2)
    if len(firsts) == 1:
        firsts *= len(seconds)
    for first, second in zip(firsts, seconds, strict=False):
        yield Item(text=given + first.text + second.text, media=first.media + second.media)


def _scored(*named: schema.Scored) -> list[Item]:
    """Return one side of the pairs, read once however often each text is paired."""
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


_Skimmed = TypeVar("_Skimmed")

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
    """Read a whole request body. Never raises: a body that cannot be read gives an `Unreadable` with the reason.

    Takes bounded time and memory for a body of up to `LARGEST_BODY` bytes; callers do not pass longer ones.
    """
    if len(body) > SHORT_BODY and takes_long(body):
        return Unreadable("too_many")
    decoder, reader = _READERS[api]
    try:
        decoded = decoder.decode(_unmarked(body))
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


def _unmarked(body: bytes) -> bytes:
    """Return `body` without a byte order mark, which model servers skip."""
    return body.removeprefix(codecs.BOM_UTF8)


def _bounded(items: Iterator[Item]) -> tuple[Item, ...]:
    """Return the prompts of a body. Raises `_TooManyError` as soon as they are too many or too long together."""
    taken: list[Item] = []
    size = 0
    for item in items:
        taken.append(item)
        size += len(item.text)
        if len(taken) > MOST_PROMPTS or size > MOST_TEXT:
            raise _TooManyError
    return tuple(taken)


def read_model(body: bytes) -> str:
    """Return the model that a body names; "" when it names none or is not JSON. Never raises.

    Of a very long body only the ends are searched: clients write the model first, or last.
    """
    if len(body) > LONGEST_SKIPPED:
        found = _MODEL.search(body[:MODEL_WITHIN]) or _MODEL.search(body[-MODEL_WITHIN:])
        return found[1].decode("utf-8", "replace") if found else ""
    named = _skimmed(_model_decoder, body)
    return named.model or "" if named is not None else ""


def read_conversation(body: bytes) -> str:
    """Return what names the conversation of a body, skipping all else; "" where nothing does. Never raises."""
    if len(body) > LONGEST_SKIPPED:
        return ""
    named = _skimmed(_conversation_decoder, body)
    return conversation_of(named.prompt_cache_key, named.user) if named is not None else ""


def _skimmed(decoder: msgspec.json.Decoder[_Skimmed], body: bytes) -> _Skimmed | None:
    """Decode the few fields of a decoder, skipping all else; None where that cannot be done."""
    try:
        return decoder.decode(_unmarked(body))
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
