"""Properties of the usage readers, for any answer and any way of cutting it."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from extproc.body.sse import EventStream
from extproc.body.usage import Report, Usage
from tests.property.test_requests import VALUES

COUNTS = st.integers(0, 10**9)


def read(stream: bytes, sizes: list[int]) -> Usage | None:
    report = Report()
    events = EventStream(report, limit=4096)
    while stream:
        size = sizes.pop() if sizes else len(stream)
        events.feed(stream[:size])
        stream = stream[size:]
    events.close()
    return report.usage


@given(document=st.binary(max_size=200))
def test_answers_never_raise(document: bytes) -> None:
    """Any bytes are an answer or not one."""
    assert Report().read(document) in (True, False)


@given(stream=st.binary(max_size=400), sizes=st.lists(st.integers(1, 40)))
def test_streams_never_raise(stream: bytes, sizes: list[int]) -> None:
    """Any bytes, cut anywhere, are a stream."""
    assert isinstance(read(stream, sizes), Usage | None)


@given(
    prompt=COUNTS,
    completion=COUNTS,
    text=st.lists(st.text(max_size=20), max_size=5),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    space=st.sampled_from(["", " "]),
    sizes=st.lists(st.integers(1, 30)),
)
def test_usage_is_found_in_any_stream(
    prompt: int, completion: int, text: list[str], end: str, space: str, sizes: list[int]
) -> None:
    """Whatever the text, the line ends and the cuts, the usage is what the server wrote."""
    events: list[dict[str, Any]] = [{"choices": [{"delta": {"content": t}}], "usage": None} for t in text]
    events.append({"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": completion}})
    lines = [f"data:{space}{json.dumps(event, ensure_ascii=False)}" for event in events] + ["data: [DONE]"]
    stream = (end + end).join([*lines, ""]).encode("utf-8", "surrogatepass")
    assert read(stream, sizes) == Usage(prompt or None, completion)


@given(events=st.lists(st.fixed_dictionaries({"usage": st.none() | st.dictionaries(st.text(), VALUES)})))
def test_any_usage_object_is_survived(events: list[dict[str, Any]]) -> None:
    """A usage of any shape is read or refused."""
    report = Report()
    for event in events:
        report.read(json.dumps(event).encode())
    assert report.usage is None or isinstance(report.usage, Usage)
