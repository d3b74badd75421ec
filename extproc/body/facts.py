"""What a request body says, as far as a token budget needs it."""

from typing import Literal

import msgspec

Api = Literal["chat", "completions", "responses", "messages", "embeddings"]


class Item(msgspec.Struct, frozen=True):
    """One prompt that must fit a context on its own; a batch holds several.

    `text`: UTF-8 bytes of the decoded text, message after message (no JSON syntax, no escapes).
    `tool_bytes`: bytes of tool definitions and response schemas, as compact JSON.
    `messages`: number of messages, each of which costs template tokens (0 for a plain prompt).
    `tokens`: number of token ids when the prompt was given as ids, which is exact; else None.
    `media`: images, audio clips and files, none of which is text.
    """

    text: bytes = b""
    tool_bytes: int = 0
    messages: int = 0
    tokens: int | None = None
    media: int = 0


class PromptFacts(msgspec.Struct, frozen=True):
    """A request body, read.

    `items`: the prompts, at least one; a batch has several and must fit item by item.
    `cap`: the largest number of output tokens the client accepts, None when it sets none.
    `choices`: `n`, the completions asked for each prompt.
    `conversation`: a key that is the same at every turn (`prompt_cache_key`, else `user`), or "".
    """

    api: Api
    model: str
    items: tuple[Item, ...]
    cap: int | None = None
    choices: int = 1
    stream: bool = False
    conversation: str = ""


class Unreadable(msgspec.Struct, frozen=True):
    """A body that gives no facts. `reason` is one of a small fixed set and is counted by it."""

    reason: str
