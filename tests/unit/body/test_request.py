"""Rules of `extproc.body.request`."""

import codecs
import json
from typing import Any

import pytest

from extproc.body.facts import Api, Item, PromptFacts, Unreadable
from extproc.body.fields import LARGEST_CAP
from extproc.body.request import LONGEST_SKIPPED, read_conversation, read_model, read_request


def read(api: Api, body: dict[str, Any]) -> PromptFacts:
    facts = read_request(api, json.dumps(body).encode())
    assert isinstance(facts, PromptFacts)
    return facts


def only(api: Api, body: dict[str, Any]) -> Item:
    (item,) = read(api, body).items
    return item


def chat(content: Any = "hello", **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": content}], **more}


def test_chat_text_is_what_the_model_sees() -> None:
    """Text parts, tool calls and their results are text; roles and JSON syntax are not."""
    item = only(
        "chat",
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "ab"}, {"type": "text", "text": "c"}]},
                {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": '{"x":1}'}}]},
                {"role": "tool", "content": "done"},
                {"role": "assistant", "content": None, "function_call": {"name": "g", "arguments": {"y": 2}}},
                {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
            ]
        },
    )
    assert item == Item(text=b'abcf{"x":1}doneg{"y":2}no', messages=5)


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 1000}},
        {"type": "input_audio", "input_audio": {"data": "A" * 1000, "format": "wav"}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64," + "A" * 1000}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
    ],
)
def test_media_is_counted_and_is_not_text(part: dict[str, Any]) -> None:
    """An image, audio clip or file adds one medium and no byte of text."""
    item = only("chat", chat([{"type": "text", "text": "look"}, part]))
    assert (item.text, item.media) == (b"look", 1)


def test_tools_are_compact_json_however_written() -> None:
    """White space and escapes of tool definitions do not count."""
    tools = [{"type": "function", "function": {"name": "f", "description": "été"}}]
    loose = json.dumps({"messages": [{"content": "x"}], "tools": tools}, indent=4).encode()
    facts = read_request("chat", loose)
    assert isinstance(facts, PromptFacts)
    assert facts.items[0].tools == json.dumps(tools, ensure_ascii=False, separators=(",", ":")).encode()


def test_escapes_give_the_same_text_as_utf8() -> None:
    """A body written with escapes reads as one written in UTF-8."""
    body = chat("Grüße, 世界 👋")
    plain = read_request("chat", json.dumps(body, ensure_ascii=False).encode())
    assert read_request("chat", json.dumps(body).encode()) == plain


@pytest.mark.parametrize(
    ("prompt", "items"),
    [
        ("ab", [Item(text=b"ab")]),
        (["a", "bc"], [Item(text=b"a"), Item(text=b"bc")]),
        ([5, 6, 7], [Item(tokens=3)]),
        ([[5, 6], [7]], [Item(tokens=2), Item(tokens=1)]),
    ],
)
def test_completion_prompts(prompt: Any, items: list[Item]) -> None:
    """A prompt is a string, strings, token ids or lists of token ids; ids are counted exactly."""
    assert list(read("completions", {"prompt": prompt}).items) == items


def test_completion_suffix_is_text() -> None:
    """The suffix of an insertion is part of the prompt."""
    assert only("completions", {"prompt": "a", "suffix": "z"}) == Item(text=b"az")


def test_responses_input_string() -> None:
    """Instructions and a string input are two messages."""
    item = only("responses", {"input": "hi", "instructions": "be brief", "tools": [{"a": 1}]})
    assert item == Item(text=b"be briefhi", tools=b'[{"a":1}]', messages=2)


def test_responses_input_items() -> None:
    """Messages, function calls and their outputs are text."""
    item = only(
        "responses",
        {
            "input": [
                {
                    "type": "message",
                    "role": "user",
                    "content": [{"type": "input_text", "text": "a"}, {"type": "input_image"}],
                },
                {"type": "function_call", "name": "f", "arguments": "{}"},
                {"type": "function_call_output", "output": "42"},
                {"type": "custom_tool_call_output", "output": [{"type": "input_text", "text": "43"}]},
                {"type": "local_shell_call", "action": {"command": ["ls"]}},
                {"type": "local_shell_call_output", "output": "a b"},
                {"type": "apply_patch_call", "operation": {"diff": "+"}},
                {"type": "shell_call_output", "output": [{"stdout": "s"}]},
                {"type": "computer_call_output", "output": {"image_url": "data:image/png;base64,AAAA"}},
            ]
        },
    )
    text = b'af{}4243{"command":["ls"]}a b{"diff":"+"}[{"stdout":"s"}]'
    assert item == Item(text=text, messages=9, media=2)


@pytest.mark.parametrize(
    "fields",
    [
        {"previous_response_id": "id_1"},
        {"input": [{"type": "item_reference", "id": "id_1"}]},
        {"input": [{"role": "user", "content": "hi"}, {"id": "id_1"}]},
        {"input": [{"type": None, "id": "id_1"}]},
        {"input": [{"type": "mcp_call", "output": "x"}]},
        {"input": [{"type": "code_interpreter_call", "code": "x"}]},
        {"conversation": "id_1"},
        {"prompt": {"id": "id_1"}},
        {"previous_input_messages": [{"role": "user", "content": "y"}]},
        {"tools": [{"type": "function", "name": "f"}, {"type": "web_search_preview"}]},
    ],
)
def test_stored_prompts_are_unreadable(fields: dict[str, Any]) -> None:
    """A prompt that lies partly on the server, or is got by it from tools, cannot be counted from the body."""
    body = json.dumps({"input": "x", **fields}).encode()
    assert read_request("responses", body) == Unreadable("stored_prompt")


@pytest.mark.parametrize(
    "kind", ["function", "custom", "namespace", "local_shell", "apply_patch", "computer_use_preview", None]
)
def test_tools_that_the_client_calls_are_read(kind: str | None) -> None:
    """They are text, and nothing else comes to the prompt."""
    assert only("responses", {"input": "x", "tools": [{"type": kind}]}).tools


def test_prompts_of_embeddings_are_not_counted_as_empty() -> None:
    """vLLM takes a prompt as embeddings beside one of text; how many tokens they are, the body does not say."""
    assert read_request("completions", b'{"prompt":"","prompt_embeds":"QUJD"}') == Unreadable("no_prompt")


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"documents": [{"text": "abc"}]}, b'[{"text":"abc"}]hello'),
        ({"chat_template": "{{ x }}"}, b"{{ x }}hello"),
    ],
)
def test_what_a_template_may_print_is_text_but_does_not_teach(fields: dict[str, Any], text: bytes) -> None:
    """Whether it does, the model's template says."""
    facts = read("chat", chat(**fields))
    assert (facts.items[0].text, facts.teaches) == (text, False)


@pytest.mark.parametrize("api", ["chat", "messages", "embeddings", "responses"])
def test_arguments_of_a_template_are_text_and_teach(api: Api) -> None:
    """They are a few words in every request of a client, if at all."""
    prompt = {"input": "hello"} if api == "responses" else chat()
    facts = read(api, {**prompt, "chat_template_kwargs": {"enable_thinking": False}})
    assert (facts.items[0].text, facts.teaches) == (b'{"enable_thinking":false}hello', True)


def test_arguments_of_a_template_are_text_of_every_pair() -> None:
    """A reranker's template prints its instruction with each document."""
    body = {"query": "q", "documents": ["a", "b"], "chat_template_kwargs": {"instruction": "i"}}
    assert [item.text for item in read("score", body).items] == [b'{"instruction":"i"}qa', b'{"instruction":"i"}qb']


def test_an_embedding_may_bring_its_template() -> None:
    """vLLM renders its messages with it."""
    facts = read("embeddings", chat(chat_template="{{ x }}"))
    assert (facts.items[0].text, facts.teaches) == (b"{{ x }}hello", False)


def test_tools_of_a_developer_message_are_text() -> None:
    """vLLM takes tools with a message of the role developer."""
    item = only("chat", {"messages": [{"role": "developer", "tools": [{"type": "function"}]}]})
    assert item == Item(text=b'[{"type":"function"}]', messages=1)


@pytest.mark.parametrize(
    ("api", "fields", "truncated_to", "teaches"),
    [
        ("chat", {}, None, True),
        ("chat", {"truncate_prompt_tokens": 512}, 512, False),
        ("embeddings", {"truncate_prompt_tokens": -1}, -1, False),
        ("responses", {"truncation": "auto"}, None, False),
        ("responses", {"truncation": "disabled"}, None, True),
        ("score", {"max_tokens_per_doc": 512}, None, False),
        ("score", {"max_tokens_per_query": 512}, None, False),
        ("score", {"max_tokens_per_doc": 0}, None, True),
    ],
)
def test_prompts_that_are_cut_do_not_teach(
    api: Api, fields: dict[str, Any], truncated_to: int | None, teaches: bool
) -> None:
    """Usage counts what is left of them."""
    prompt = (
        {"query": "x", "documents": ["x"]} if api == "score" else {"messages": [{"content": "x"}], "input": "x"}
    )
    facts = read(api, {**prompt, **fields})
    assert (facts.truncated_to, facts.teaches) == (truncated_to, teaches)


@pytest.mark.parametrize(
    "body",
    [
        {"model": None, "messages": [{"content": "hello"}]},
        {"messages": [{"content": ["hel", "lo"]}]},
        {"messages": [{"content": ["hel", {"type": "text", "text": "lo"}]}]},
        {"messages": [{"content": "hello"}], "max_tokens": 100.0, "stream": 1},
        {"messages": [{"content": "hello"}], "max_tokens": "100", "stream": "true"},
    ],
)
def test_what_vllm_takes_is_read(body: dict[str, Any]) -> None:
    """Its models are read leniently: numbers as text or with a point, parts that are plain strings, no model."""
    facts = read("chat", body)
    assert facts.items[0].text == b"hello"
    assert facts.cap == (100 if "max_tokens" in body else None)


def test_anthropic_messages() -> None:
    """System text, content blocks, tool uses, nested tool results and thinking are text."""
    item = only(
        "messages",
        {
            "system": [{"type": "text", "text": "s"}],
            "messages": [
                {"role": "user", "content": "u"},
                {
                    "role": "assistant",
                    "content": [
                        {"type": "thinking", "thinking": "hmm"},
                        {"type": "tool_use", "name": "f", "input": {"a": 1}},
                    ],
                },
                {
                    "role": "user",
                    "content": [
                        {"type": "tool_result", "content": [{"type": "text", "text": "r"}, {"type": "image"}]}
                    ],
                },
            ],
        },
    )
    assert item == Item(text=b'suhmmf{"a":1}r', messages=4, media=1, reasoning=True)


@pytest.mark.parametrize(
    ("source", "text", "media"),
    [
        ({"type": "text", "media_type": "text/plain", "data": "the law"}, b"the law", 0),
        ({"type": "content", "content": [{"type": "text", "text": "the law"}]}, b"the law", 0),
        ({"type": "base64", "media_type": "application/pdf", "data": "AAAA"}, b"", 1),
    ],
)
def test_anthropic_documents(source: dict[str, Any], text: bytes, media: int) -> None:
    """Those that are text count as text."""
    content = [{"type": "document", "source": source}]
    item = only("messages", {"messages": [{"role": "user", "content": content}]})
    assert item == Item(text=text, messages=1, media=media)


def test_reasoning_that_only_the_server_can_read_is_neither_text_nor_a_picture() -> None:
    """But it may be tokens there."""
    item = only("messages", {"messages": [{"content": [{"type": "redacted_thinking", "data": "x"}]}]})
    assert item == Item(messages=1, reasoning=True)


def test_search_results_are_text() -> None:
    """Their source is an address, not what is read."""
    result = {"type": "search_result", "source": "https://a", "content": [{"type": "text", "text": "found"}]}
    item = only("messages", {"messages": [{"role": "user", "content": [result]}]})
    assert item == Item(text=b"found", messages=1)


@pytest.mark.parametrize(
    ("api", "field", "value"),
    [
        ("chat", "reasoning", "hmm"),
        ("chat", "reasoning_content", "hmm"),
        ("chat", "content", [{"type": "thinking", "thinking": "hmm"}]),
        ("chat", "content", [{"type": "thinking", "thinking": [{"type": "text", "text": "hmm"}]}]),
        (
            "messages",
            "content",
            [{"type": "thinking", "thinking": "hmm"}, {"type": "redacted_thinking", "data": "x"}],
        ),
        ("responses", "summary", [{"type": "summary_text", "text": "hmm"}]),
        ("responses", "content", [{"type": "reasoning_text", "text": "hmm"}]),
    ],
)
def test_reasoning_of_earlier_turns_is_text_known_as_such(api: Api, field: str, value: Any) -> None:
    """Some templates print it, some do not: the request is to fit in either case."""
    kind = {"type": "reasoning"} if api == "responses" else {"role": "assistant"}
    facts = read(api, {"input" if api == "responses" else "messages": [{**kind, field: value}]})
    assert facts.items == (Item(text=b"hmm", messages=1, reasoning=True),)


@pytest.mark.parametrize("end", ["</think>", "[/THINK]"])
@pytest.mark.parametrize(("turns", "reasoning"), [(1, False), (3, True)])
def test_reasoning_within_an_answer_is_known_by_its_end(end: str, turns: int, reasoning: bool) -> None:
    """A server that does not part them gets them back whole; there is none before the first answer."""
    messages = [{"content": f"hmm{end}yes"}] * turns
    assert only("chat", {"messages": messages}).reasoning is reasoning


@pytest.mark.parametrize(("api", "none"), [("chat", "none"), ("responses", "none"), ("messages", {"type": "none"})])
def test_tools_not_to_be_called_count_and_do_not_teach(api: Api, none: Any) -> None:
    """Whether vLLM prints them, a flag of its start says, and the model: gpt-oss always gets them in Responses."""
    body = {"messages": [{"content": "x"}], "input": "x", "tools": [{"type": "function"}]}
    facts = read(api, {**body, "tool_choice": none})
    assert (facts.items[0].tools, facts.teaches) == (b'[{"type":"function"}]', False)
    assert read(api, {**body, "tool_choice": none, "tools": []}).teaches
    assert read(api, {**body, "tool_choice": "auto"}).teaches


@pytest.mark.parametrize(
    ("api", "tool"),
    [
        ("chat", {"type": "function", "function": {"name": "f"}, "defer_loading": True}),
        ("chat", {"type": "function", "function": {"name": "f", "defer_loading": True}}),
        ("messages", {"name": "f", "defer_loading": True}),
    ],
)
def test_deferred_tools_count_and_do_not_teach(api: Api, tool: dict[str, Any]) -> None:
    """Some templates print them where the conversation refers to them, others with the rest."""
    facts = read(api, chat(tools=[tool]))
    assert (facts.items[0].tools, facts.teaches) == (json.dumps([tool], separators=(",", ":")).encode(), False)
    assert read(api, chat(tools=[{"name": "f", "description": '"defer_loading":true'}])).teaches


@pytest.mark.parametrize(
    ("api", "part"),
    [
        ("chat", {"type": "tool_reference", "name": "f"}),
        ("messages", {"type": "tool_result", "content": [{"type": "tool_reference", "tool_name": "f"}]}),
    ],
)
def test_references_to_tools_are_text(api: Api, part: dict[str, Any]) -> None:
    """They name a tool whose definition is in the body; they are no pictures."""
    assert only(api, chat([part])) == Item(text=b"f", messages=1)


@pytest.mark.parametrize("output", [{}, {"output": None}, {"output": "abc"}, {"output": [{"text": "abc"}]}])
@pytest.mark.parametrize("kind", ["function_call_output", "shell_call_output"])
def test_outputs_of_tools_may_be_missing(kind: str, output: dict[str, Any]) -> None:
    """Text, parts, or nothing: of tools that run commands anything, as it is written."""
    item = only("responses", {"input": [{"type": kind, **output}]})
    as_written = b'[{"text":"abc"}]' if kind == "shell_call_output" else b"abc"
    given = output.get("output")
    assert item.text == (b"" if given is None else b"abc" if given == "abc" else as_written)


def test_embeddings_have_no_output() -> None:
    """An embedding request produces no tokens, whatever its inputs."""
    facts = read("embeddings", {"input": ["a", "b"]})
    assert facts.cap == 0
    assert len(facts.items) == 2


@pytest.mark.parametrize(
    "body",
    [
        {"text_1": "q", "text_2": ["a", "b"]},
        {"text_1": ["q", "q"], "text_2": ["a", "b"]},
        {"query": "q", "documents": ["a", "b"]},
        {"queries": ["q"], "documents": ["a", "b"]},
        {"queries": "q", "items": ["a", "b"]},
        {"data_1": "q", "data_2": ["a", {"content": [{"type": "text", "text": "b"}]}]},
    ],
)
def test_score_pairs(body: dict[str, Any]) -> None:
    """Each pair of texts is one prompt."""
    assert list(read("score", body).items) == [Item(text=b"qa"), Item(text=b"qb")]


@pytest.mark.parametrize(
    ("api", "fields", "cap"),
    [
        ("chat", {"max_completion_tokens": 1, "max_tokens": 2, "max_output_tokens": 3}, 1),
        ("chat", {"max_tokens": 2, "max_output_tokens": 3}, 2),
        ("chat", {"max_output_tokens": 3}, 3),
        ("chat", {}, None),
        ("chat", {"max_tokens": None}, None),
        ("chat", {"max_tokens": 0}, 0),
        ("chat", {"max_tokens": 10**30}, LARGEST_CAP),
        ("completions", {}, 16),
        ("completions", {"max_tokens": None}, None),
        ("completions", {"max_tokens": 7}, 7),
        ("completions", {"max_tokens": 7, "max_completion_tokens": 1}, 7),
        ("messages", {"max_tokens": 7, "max_completion_tokens": 1}, 7),
        ("responses", {"max_output_tokens": 7, "max_tokens": 1}, 7),
    ],
)
def test_output_cap(api: Api, fields: dict[str, Any], cap: int | None) -> None:
    """The API's own cap goes first, then others; completions have a default of 16 that an explicit null lifts."""
    prompt = {"input": "x"} if api == "responses" else {"prompt": "x", "messages": [{"content": "x"}]}
    body = {**prompt, **fields}
    assert read(api, body).cap == cap


def test_choices_and_conversation() -> None:
    """`n` and the conversation key are read; prompt_cache_key goes before user."""
    facts = read("chat", chat(n=3, stream=True, prompt_cache_key="k", user="u"))
    assert (facts.choices, facts.conversation) == (3, "k")
    assert read("chat", chat(user="u")).conversation == "u"


BAD = [
    (b"", "not_json"),
    (b"{", "not_json"),
    (b'{"messages":[{"content":"cut', "not_json"),
    (b"hello", "not_json"),
    (b'{"messages":[{"content":"a"}],"max_tokens":NaN}', "not_json"),
    (b'{"messages":[{"content":"\xff"}]}', "not_json"),
    (b'{"messages":[{"content":"\\ud800"}]}', "not_json"),
    (b"[]", "wrong_type"),
    (b"null", "wrong_type"),
    (b'{"messages":"hello"}', "wrong_type"),
    (b'{"messages":[{"content":5}]}', "wrong_type"),
    (b'{"messages":[{"content":"a"}],"max_tokens":"many"}', "wrong_type"),
    (b'{"messages":[{"content":"a"}],"max_tokens":-1}', "wrong_type"),
    (b'{"messages":[{"content":"a"}],"max_tokens":1e30}', "wrong_type"),
    (b'{"messages":[{"content":"a"}],"max_tokens":' + b"9" * 5000 + b"}", "wrong_type"),
    (b'{"messages":[{"content":"a"}],"n":0}', "wrong_type"),
    (b'{"messages":[{"content":"a"}],"max_tokens":100.5}', "wrong_type"),
    (b'{"messages":[{"content":"a"}],"truncate_prompt_tokens":-2}', "wrong_type"),
    (b'{"messages":[]}', "no_prompt"),
    (b"{}", "no_prompt"),
    (b'{"tools":' + b"[" * 60_000, "too_deep"),
    (b'{"unknown":' + b"[" * 60_000, "too_deep"),
]


@pytest.mark.parametrize(("body", "reason"), BAD)
def test_bad_bodies_have_a_reason(body: bytes, reason: str) -> None:
    """A body that cannot be read says why and never raises."""
    assert read_request("chat", body) == Unreadable(reason)  # type: ignore[arg-type]


@pytest.mark.parametrize("api", ["chat", "completions", "responses", "messages", "embeddings", "score"])
def test_a_body_without_a_prompt_is_unreadable(api: Api) -> None:
    """Of every API: there is nothing to estimate."""
    assert read_request(api, b'{"model":"m","max_tokens":5}') == Unreadable("no_prompt")


def test_a_byte_order_mark_is_skipped() -> None:
    """Editors and shells of Windows put it before JSON, and the model server takes no notice."""
    body = codecs.BOM_UTF8 + b'{"model":"m","user":"u","max_tokens":2,"messages":[{"content":"a"}]}'
    facts = read_request("chat", body)
    assert isinstance(facts, PromptFacts)
    assert (facts.cap, facts.items[0].text) == (2, b"a")
    assert (read_model(body), read_conversation(body)) == ("m", "u")


def test_the_last_of_duplicate_keys_wins() -> None:
    """Duplicate keys are read as the model server's JSON parser reads them."""
    facts = read_request("chat", b'{"max_tokens":1,"messages":[{"content":"a"}],"max_tokens":2}')
    assert isinstance(facts, PromptFacts)
    assert facts.cap == 2


@pytest.mark.parametrize(
    ("body", "conversation"),
    [
        (b'{"x":{"user":"inner"},"user":"u"}', "u"),
        (b'{"user":"u","prompt_cache_key":"k"}', "k"),
        (b'{"user":7}', ""),
        (b'{"user":', ""),
        (b"[" * 100_000, ""),
        (b'{"user":"u","x":"%b"}' % (b"x" * LONGEST_SKIPPED), ""),
    ],
    ids=["user", "both", "wrong type", "cut", "deep", "too long"],
)
def test_read_conversation_skips_everything_else(body: bytes, conversation: str) -> None:
    """The name counts at the top level, and nothing else has to be right."""
    assert read_conversation(body) == conversation


def test_read_model_skips_everything_else() -> None:
    """The model can be read from a body of any API; it is empty where there is none to read."""
    assert read_model(b'{"x":{"model":"inner"},"model":"m"}') == "m"
    assert read_model(b"{}") == ""
    assert read_model(b'{"model":') == ""
    assert read_model(b"[" * 100_000) == ""


@pytest.mark.parametrize("prompt", [[1, "word"], ["word", 1], [1, [2, 3]], [[1], "word"]])
def test_prompts_of_several_kinds_are_refused(prompt: list[Any]) -> None:
    """What the server would make of them is not certain."""
    found = read_request("completions", json.dumps({"prompt": prompt}).encode())
    assert found == Unreadable("wrong_type")


@pytest.mark.parametrize(
    ("api", "body"),
    [
        ("chat", {"messages": [{"tool_calls": [{"type": "custom", "custom": {"name": "run", "input": "x = 1"}}]}]}),
        ("responses", {"input": [{"type": "custom_tool_call", "name": "run", "input": "x = 1"}]}),
        ("responses", {"input": [{"type": "custom_tool_call_output", "output": "runx = 1"}]}),
    ],
)
def test_custom_tools_are_text(api: Api, body: dict[str, Any]) -> None:
    """As calls of functions are."""
    assert [item.text for item in read(api, body).items] == [b"runx = 1"]


def test_embeddings_of_a_conversation() -> None:
    """vLLM takes messages in place of an input."""
    assert only("embeddings", {"messages": [{"role": "user", "content": "ab"}]}) == Item(text=b"ab", messages=1)


def test_functions_are_tools() -> None:
    """The older name of the same."""
    found = only("chat", {"messages": [{"content": "x"}], "functions": [{"name": "f"}]})
    assert found.tools == b'[{"name":"f"}]'


def test_a_tool_of_no_known_shape_is_not_called_by_the_server() -> None:
    """What is no object names no type: the server says what is wrong with it."""
    assert read("responses", {"input": "hello", "tools": ["web_search", 1]}).items[0].messages == 1


@pytest.mark.parametrize("call", [{}, {"type": "unheard_of", "unheard_of": {}}, {"function": None}])
def test_a_tool_call_of_no_known_kind_is_no_text(call: dict[str, Any]) -> None:
    """What it means, the server knows."""
    assert only("chat", {"messages": [{"content": "x", "tool_calls": [call]}]}) == Item(text=b"x", messages=1)
