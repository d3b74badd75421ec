"""The fields of request bodies that a token budget depends on, in each API's own shape.

Only these fields are decoded; all others are skipped. A field of the wrong type makes the body unreadable. Decoded
bodies are trees, which need no garbage collection (`gc=False`): that halves the time for a body of 32,000 objects,
which the collector would otherwise go through again and again while they are built.
"""

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType


class Source(msgspec.Struct, gc=False):
    """The source of an Anthropic document or image. `data` is decoded only where `type` is text."""

    type: str = ""
    data: msgspec.Raw = msgspec.Raw()
    content: "str | list[Part] | None" = None


class Part(msgspec.Struct, gc=False):
    """A content part, in any dialect."""

    type: str = ""
    text: str | None = None
    refusal: str | None = None
    thinking: "str | list[Part] | None" = None
    source: Source | str | None = None  # Anthropic document, image, search_result
    content: "str | list[Part] | None" = None  # Anthropic tool_result, search_result
    name: str | None = None  # Anthropic tool_use; vLLM tool_reference
    tool_name: str | None = None  # Anthropic tool_reference
    input: Any = None


class Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: Any = None
    input: Any = None  # of a custom tool


class ToolCall(msgspec.Struct, gc=False):
    function: Function | None = None
    custom: Function | None = None


class Message(msgspec.Struct, gc=False):
    """A chat or Anthropic message, or an input item of the Responses API."""

    type: str | None = None
    content: str | list[str | Part] | None = None
    tools: Any = None  # vLLM: tools of a developer message
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    function_call: Function | None = None
    reasoning: str | None = None  # vLLM: from an earlier turn; some templates print it
    reasoning_content: str | None = None
    summary: str | list[Part] | None = None  # Responses reasoning
    arguments: Any = None  # Responses function_call
    input: Any = None  # Responses custom_tool_call
    action: Any = None  # Responses local_shell_call
    operation: Any = None  # Responses apply_patch_call
    output: msgspec.Raw = msgspec.Raw()  # of a Responses call: text, parts or any JSON


class Named(msgspec.Struct, gc=False):
    model: str | None = None


class Conversing(msgspec.Struct, gc=False):
    """What names a conversation."""

    prompt_cache_key: str | None = None
    user: str | None = None


class Body(Named):
    """What every API may carry."""

    max_completion_tokens: int | None = None
    max_tokens: int | UnsetType | None = UNSET
    max_output_tokens: int | None = None
    truncate_prompt_tokens: int | None = None  # vLLM
    chat_template: str | None = None  # vLLM, like the next: a template may print them
    chat_template_kwargs: Any = None
    n: int | None = None
    stream: bool | None = None  # not used, but vLLM refuses a body with a value of the wrong type
    prompt_cache_key: str | None = None
    user: str | None = None


class Calling(Body):
    """What APIs with tools may carry."""

    tools: Any = None
    tool_choice: Any = None


class Chat(Calling):
    messages: list[Message] | None = None
    functions: Any = None
    documents: Any = None  # vLLM: a template may print them


class Completions(Body):
    prompt: str | list[str | int | list[int]] | None = None
    prompt_embeds: Any = None  # vLLM
    suffix: str | None = None


class Responses(Calling):
    input: str | list[Message] | None = None
    instructions: str | None = None
    truncation: str | None = None
    previous_response_id: str | None = None
    previous_input_messages: Any = None  # vLLM
    conversation: Any = None
    prompt: Any = None


class Messages(Calling):
    system: str | list[Part] | None = None
    messages: list[Message] | None = None


class Embeddings(Body):
    input: str | list[str | int | list[int]] | None = None
    messages: list[Message] | None = None


class Content(msgspec.Struct, gc=False):
    """A text or an image to be scored."""

    content: list[Part]


Scored = str | Content | list[str | Content] | None


class Score(Body):
    """Two lists, under the names that vLLM has given them over time."""

    max_tokens_per_query: int | None = None
    max_tokens_per_doc: int | None = None
    query: Scored = None
    queries: Scored = None
    text_1: Scored = None
    data_1: Scored = None
    documents: Scored = None
    items: Scored = None
    text_2: Scored = None
    data_2: Scored = None
