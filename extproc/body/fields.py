"""The fields of a request body besides its text: output cap, choices, truncation, prompts stored elsewhere."""

from msgspec import UNSET

from extproc.body import schema
from extproc.body.facts import Api, Item, PromptFacts, Unreadable
from extproc.body.usage import LARGEST_COUNT

COMPLETIONS_DEFAULT_CAP = 16
"""Output tokens of a completion request that names no `max_tokens` (OpenAI API reference; vLLM does the same)."""

LARGEST_CAP = LARGEST_COUNT - 1
"""Larger caps are read as this one: no context is longer, and it is exact in every number format on the way."""

ANY_CAP = ("max_completion_tokens", "max_tokens", "max_output_tokens")
CAPS: dict[Api, tuple[str, ...]] = {
    "chat": ANY_CAP,
    "completions": ("max_tokens", *ANY_CAP),
    "messages": ("max_tokens", *ANY_CAP),
    "responses": ("max_output_tokens", *ANY_CAP),
}
"""Names of the output cap by API; the first present counts. The API's own comes first: servers read no other."""

CUT_SIDES = ("max_tokens_per_query", "max_tokens_per_doc")
"""Tokens to which vLLM cuts the texts it scores; 0 for no limit."""

LONGEST_KEY = 8192
"""Bytes of a conversation's name that count: the in-proxy filter spends time on each."""

UNCAPPED_APIS: frozenset[Api] = frozenset({"embeddings", "score"})
"""APIs that produce no output tokens."""

BATCH_APIS: frozenset[Api] = frozenset({"completions", "embeddings", "score"})
"""APIs whose bodies may hold many short prompts, so that a large body need not have a long prompt."""

CLIENT_TOOLS = ("function", "custom", "namespace", "local_shell", "apply_patch", "computer_use_preview", None)
"""Types of Responses tools that the client calls (OpenAI API reference)."""

NO_TOOL = ("none", {"type": "none"})
"""Values of `tool_choice` that forbid calling tools; the second is Anthropic's."""

DEFERRED = b'"defer_loading":true'
"""In a tool definition: to be printed only where the conversation refers to the tool."""

_TOOLS = ("function", "custom_tool", "local_shell", "shell", "apply_patch", "computer")
_CALLS = [f"{tool}_call" for tool in _TOOLS]
CLIENT_ITEMS = frozenset({None, "", "message", "reasoning", *_CALLS, *(f"{call}_output" for call in _CALLS)})
"""Types of Responses items whose text is all in the body. Others refer to items or tools of the server."""


def facts_of(api: Api, body: schema.Body, items: tuple[Item, ...]) -> PromptFacts | Unreadable:
    """Return the facts of a body whose prompts are `items`."""
    if isinstance(body, schema.Responses) and _is_elsewhere(body):
        return Unreadable("stored_prompt")
    if not items or (isinstance(body, schema.Completions) and body.prompt_embeds is not None):
        return Unreadable("no_prompt")
    cap, truncated_to = _bounded(_cap(api, body)), _bounded(body.truncate_prompt_tokens)
    choices = 1 if body.n is None else min(body.n, LARGEST_CAP)
    if choices < 1 or (cap is not None and cap < 0) or (truncated_to is not None and truncated_to < -1):
        return Unreadable("wrong_type")
    return PromptFacts(
        api=api,
        model=body.model or "",
        items=items,
        cap=cap,
        choices=choices,
        truncated_to=truncated_to,
        teaches=truncated_to is None and _is_verbatim(body) and _tools_are_printed(body, items[0].tools),
        conversation=conversation_of(body.prompt_cache_key, body.user),
    )


def conversation_of(key: str | None, user: str | None) -> str:
    """Return the key of a conversation, at most `LONGEST_KEY` bytes of UTF-8; "" when it has none."""
    name = key or user or ""
    if len(name) <= LONGEST_KEY // 4:
        return name
    return name.encode()[:LONGEST_KEY].decode("utf-8", "surrogateescape")


def _bounded(tokens: int | None) -> int | None:
    return None if tokens is None else min(tokens, LARGEST_CAP)


def _is_elsewhere(body: schema.Responses) -> bool:
    """Whether part of the prompt is stored on the server, or comes from tools that the server calls itself."""
    if body.previous_response_id or body.previous_input_messages or body.conversation or body.prompt:
        return True
    if isinstance(body.input, list) and any(map(_is_reference, body.input)):
        return True
    tools = body.tools if isinstance(body.tools, list) else []
    return any(isinstance(tool, dict) and tool.get("type") not in CLIENT_TOOLS for tool in tools)


def _is_reference(item: schema.Message) -> bool:
    return item.type not in CLIENT_ITEMS or (not item.type and item.content is None)


def _is_verbatim(body: schema.Body) -> bool:
    """Whether the text goes into the prompt as it is: not cut, and not through a template of the client's own."""
    if body.chat_template:
        return False
    if isinstance(body, schema.Chat):
        return not body.documents
    if isinstance(body, schema.Score):
        return not any(getattr(body, name) for name in CUT_SIDES)
    return not isinstance(body, schema.Responses) or body.truncation in (None, "disabled")


def _tools_are_printed(body: schema.Body, definitions: bytes) -> bool:
    """Whether tools are in the prompt for certain.

    vLLM prints those that must not be called, but not with --exclude-tools-when-tool-choice-none, and older
    versions not for Responses. Of deferred ones the model's template decides.
    """
    if not definitions or not isinstance(body, schema.Calling):
        return True
    return body.tool_choice not in NO_TOOL and DEFERRED not in definitions


def _cap(api: Api, body: schema.Body) -> int | None:
    if api in UNCAPPED_APIS:
        return 0
    for name in CAPS[api]:
        cap = getattr(body, name)
        if isinstance(cap, int):
            return cap
    if api == "completions" and body.max_tokens is UNSET:
        return COMPLETIONS_DEFAULT_CAP  # an explicit null asks for all the room there is
    return None
