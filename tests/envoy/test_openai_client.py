"""The real openai client works through Envoy and the service as it does without them."""

from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from tests.envoy.counts import AT_REST, OBSERVATIONS
from tests.envoy.stack import Stack, until

MESSAGES: Any = [{"role": "user", "content": "How are you?"}]
MODEL = "m"
LONG = "word " * 4000


def options(stack: Stack) -> dict[str, Any]:
    return {"base_url": f"{stack.url}/v1", "api_key": "none", "max_retries": 0}


def paths(stack: Stack) -> tuple[list[str], list[str]]:
    """Paths of the requests that reached the short and the long pool."""
    short, long = stack.pools["short"].pool.received, stack.pools["long"].pool.received
    return [r.path for r in short], [r.path for r in long]


def test_a_chat_completion(shared_stack: Stack) -> None:
    """The answer is whole, its usage true, and it came from the short pool."""
    with OpenAI(**options(shared_stack)) as client:
        answer = client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=20)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 20
    assert paths(shared_stack) == (["/v1/chat/completions"], [])


async def test_a_chat_completion_asynchronously(shared_stack: Stack) -> None:
    """The asynchronous client gets the same."""
    async with AsyncOpenAI(**options(shared_stack)) as client:
        answer = await client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": LONG}], max_tokens=20
        )
    assert answer.usage is not None
    assert answer.usage.prompt_tokens > 4000
    assert paths(shared_stack) == ([], ["/v1/chat/completions"])


def test_packed_answers_are_not_asked_for(shared_stack: Stack) -> None:
    """The client takes them, but their usage could not be read: the pool is not told."""
    with OpenAI(**options(shared_stack)) as client:
        client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=20)
    (received,) = shared_stack.pools["short"].pool.received
    assert "accept-encoding" not in received.headers


@pytest.mark.parametrize("asked", [True, False])
def test_a_stream(shared_stack: Stack, asked: bool) -> None:
    """Every chunk arrives; usage comes last when it was asked for, and is learned from only then."""
    extra: Any = {"stream_options": {"include_usage": True}} if asked else {}
    with OpenAI(**options(shared_stack)) as client:
        chunks = list(
            client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=20, stream=True, **extra)
        )
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert len(said.split()) == 20
    assert (chunks[-1].usage is not None) == asked
    until(lambda: AT_REST in shared_stack.service.get("/metrics"))
    assert shared_stack.count(OBSERVATIONS, verdict="used") == asked


async def test_a_stream_asynchronously(shared_stack: Stack) -> None:
    """The asynchronous client reads a stream to its end."""
    async with AsyncOpenAI(**options(shared_stack)) as client:
        stream = await client.chat.completions.create(
            model=MODEL, messages=MESSAGES, max_tokens=20, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 20


def test_completions_embeddings_and_responses(shared_stack: Stack) -> None:
    """The other APIs of the client pass as well."""
    with OpenAI(**options(shared_stack)) as client:
        completion = client.completions.create(model=MODEL, prompt="How are you?")
        embedding = client.embeddings.create(model=MODEL, input=["How are you?", "Well."], encoding_format="float")
        response = client.responses.create(model=MODEL, input="How are you?", max_output_tokens=20)
    assert completion.usage is not None
    assert completion.usage.completion_tokens == 16
    assert len(embedding.data) == 2
    assert len(response.output_text.split()) == 20
    assert paths(shared_stack) == (["/v1/completions", "/v1/embeddings", "/v1/responses"], [])


def test_a_streamed_response(shared_stack: Stack) -> None:
    """Events of the Responses API arrive under their names."""
    with (
        OpenAI(**options(shared_stack)) as client,
        client.responses.stream(model=MODEL, input="How?", max_output_tokens=20) as streamed,
    ):
        events = list(streamed)
    assert [events[0].type, events[-1].type] == ["response.created", "response.incomplete"]


def test_the_list_of_models(shared_stack: Stack) -> None:
    """A request without a body goes to the long pool, whose context is the fleet's."""
    with OpenAI(**options(shared_stack)) as client:
        models = list(client.models.list())
    assert [model.id for model in models] == ["stand-in"]
    assert paths(shared_stack) == ([], ["/v1/models"])


def test_a_request_no_pool_holds_is_refused_as_by_the_pool(shared_stack: Stack) -> None:
    """The error is the long pool's own."""
    with (
        OpenAI(**options(shared_stack)) as client,
        pytest.raises(openai.BadRequestError, match="maximum context length"),
    ):
        client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=200_000)
    assert paths(shared_stack) == ([], ["/v1/chat/completions"])
