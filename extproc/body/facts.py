"""The facts of a request body that a token budget needs."""

from typing import Literal

import msgspec

Api = Literal["chat", "completions", "responses", "messages", "embeddings", "score"]


class Item(msgspec.Struct, frozen=True):
    """One prompt that must fit a context on its own; a batch holds several.

    `text`: the decoded text in UTF-8, message after message, without JSON syntax and escapes. `tools`: tool
    definitions as compact JSON in UTF-8, however the client formatted them. `messages`: number of messages, each of
    which costs template tokens; 0 for a plain prompt. `tokens`: number of token ids, an exact count, where the
    prompt is given as ids; else None. `media`: number of images, audio clips and files, none of which is text.
    `reasoning`: whether `text` holds reasoning of earlier turns, which a chat template may leave out. `raw`: bytes
    of the whole request body, where only that size is known; else None.
    """

    text: bytes = b""
    tools: bytes = b""
    messages: int = 0
    tokens: int | None = None
    media: int = 0
    reasoning: bool = False
    raw: int | None = None

    @property
    def size(self) -> int:
        """Bytes of text and tool definitions."""
        return len(self.text) + len(self.tools)


class PromptFacts(msgspec.Struct, frozen=True):
    """What a request body asks for.

    `items`: the prompts, at least one; a batch has several, each of which must fit. `cap`: the most output tokens
    the client accepts, None when it states none. `choices`: completions asked for each prompt (`n`).
    `truncated_to`: tokens that the server is to cut each prompt to (vLLM's `truncate_prompt_tokens`), else None.
    `teaches`: False where usage counts something other than `items`: prompts that are cut, or come with documents
    or a template of their own. `conversation`: a key that stays the same at every turn (`prompt_cache_key`, else
    `user`), or "".
    """

    api: Api
    model: str
    items: tuple[Item, ...]
    cap: int | None = None
    choices: int = 1
    truncated_to: int | None = None
    teaches: bool = True
    conversation: str = ""


Unreadability = Literal["not_json", "wrong_type", "too_deep", "no_prompt", "stored_prompt", "too_many"]


class Unreadable(msgspec.Struct, frozen=True):
    """Why a body gives no facts.

    `wrong_type`: JSON, but not of the API's shape. `no_prompt`: there is nothing to estimate. `stored_prompt`: part
    of the prompt comes from the server (a previous response, a stored prompt, tools that the server calls itself).
    `too_many`: beyond `extproc.body.bounds`.
    """

    reason: Unreadability
