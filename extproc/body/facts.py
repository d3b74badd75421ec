"""What a request body says, as far as a token budget needs it."""

from typing import Literal

import msgspec

Api = Literal["chat", "completions", "responses", "messages", "embeddings", "score"]


class Item(msgspec.Struct, frozen=True):
    """One prompt that must fit a context on its own; a batch holds several.

    `text`: UTF-8 bytes of the decoded text, message after message (no JSON syntax, no escapes).
    `tools`: tool definitions as compact JSON in UTF-8, however the client wrote them.
    `messages`: number of messages, each of which costs template tokens (0 for a plain prompt).
    `tokens`: number of token ids when the prompt was given as ids, which is exact; else None.
    `media`: images, audio clips and files, none of which is text.
    `reasoning`: whether `text` holds reasoning of earlier turns, which a chat template may leave out.
    `raw`: bytes of the whole request body, where that is all that is known of the prompt; else None.
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
    """A request body, read.

    `items`: the prompts, at least one; a batch has several and must fit item by item.
    `cap`: the largest number of output tokens the client accepts, None when it sets none.
    `choices`: `n`, the completions asked for each prompt.
    `truncated_to`: tokens to which the server is to cut each prompt (vLLM's `truncate_prompt_tokens`), else None.
    `teaches`: False where usage may count less than the text, or text that is not there: prompts that are cut,
    documents and templates that come along.
    `conversation`: a key that is the same at every turn (`prompt_cache_key`, else `user`), or "".
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
    """A body that gives no facts, and why.

    `wrong_type`: JSON, but not of the API's shape. `no_prompt`: nothing to estimate. `stored_prompt`: part of the
    prompt lies on the server, or comes from there (a previous response, a stored prompt, tools that it calls
    itself). `too_many`: so many parts that reading them would hold up other requests.
    """

    reason: Unreadability
