"""Rules of `extproc.body.sse`."""

import pytest

from extproc.body.sse import EventStream
from extproc.body.usage import Report, Usage

USAGE = b'{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":3}}'
DELTA = 'data: {"choices":[{"delta":{"content":"héllo 世界"},"finish_reason":null}],"usage":null}\n\n'.encode()


def read(*chunks: bytes, limit: int = 4096) -> tuple[Usage | None, EventStream]:
    report = Report()
    stream = EventStream(report, limit)
    for chunk in chunks:
        stream.feed(chunk)
    stream.close()
    return report.usage, stream


@pytest.mark.parametrize(
    "stream",
    [
        b"data: " + USAGE + b"\n\n",
        b"data:" + USAGE + b"\n\n",
        b"data: " + USAGE + b"\r\n\r\n",
        b"data: " + USAGE + b"\r\r",
        b"\xef\xbb\xbfdata: " + USAGE + b"\n\n",
        b": comment\nevent: x\nid: 7\nretry: 5\ndata: " + USAGE + b"\n\n",
        DELTA + b"data: " + USAGE + b"\n\ndata: [DONE]\n\n",
        b'data: {"usage":\ndata: {"prompt_tokens":9,\ndata: "completion_tokens":3}}\n\n',
        b"data: " + USAGE,
        b"data: " + USAGE + b"\n",
    ],
    ids=[
        "lf",
        "no-space",
        "crlf",
        "cr",
        "bom",
        "other-fields",
        "among-others",
        "multi-line",
        "unended",
        "half-ended",
    ],
)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_usage_is_found_wherever_chunks_are_cut(stream: bytes, size: int) -> None:
    """Line ends, spaces, other fields and cuts anywhere make no difference."""
    chunks = [stream[i : i + size] for i in range(0, len(stream), size)]
    assert read(*chunks)[0] == Usage(9, 3)


def test_usage_survives_later_events() -> None:
    """Events after the usage, null usage among them, take nothing back."""
    assert read(b"data: " + USAGE + b"\n\n", DELTA, b"data: [DONE]\n\n")[0] == Usage(9, 3)


@pytest.mark.parametrize("tail", [b"\n\n", b"\r\n\r\n"])
def test_overlong_events_are_skipped_in_bounded_memory(tail: bytes) -> None:
    """An event over the limit is counted and forgotten, and the next one is read."""
    report = Report()
    stream = EventStream(report, limit=1000)
    stream.feed(b'data: {"usage":{"prompt_tokens":1}, "x":"')
    for _ in range(100):
        stream.feed(b"y" * 500)
    stream.feed(b'"}' + tail + b"data: " + USAGE + tail)
    assert (report.usage, stream.overlong) == (Usage(9, 3), True)


def test_many_data_lines_are_bounded_too() -> None:
    """The limit holds for an event of many short lines."""
    usage, stream = read(b"data: 12345678\n" * 1000, b"\ndata: " + USAGE + b"\n\n", limit=1000)
    assert (usage, stream.overlong) == (Usage(9, 3), True)


def test_many_empty_data_lines_are_bounded_too() -> None:
    """A line takes room though nothing is on it."""
    usage, stream = read(b"data:\n" * 2000, b"\ndata: " + USAGE + b"\n\n", limit=1000)
    assert (usage, stream.overlong) == (Usage(9, 3), True)


def test_a_stream_cut_in_an_event_teaches_nothing() -> None:
    """Half an event is not a report."""
    assert read(DELTA, b"data: " + USAGE[:40])[0] is None


def test_empty_chunks_change_nothing() -> None:
    """Empty chunks may come at any time."""
    assert read(b"", b"data: " + USAGE + b"\r", b"", b"\n\r\n", b"")[0] == Usage(9, 3)


def test_the_line_that_is_coming_counts_for_its_event() -> None:
    """What is kept is bounded at any moment, not only where a line ends."""
    stream = EventStream(Report(), limit=1000)
    stream.feed(b"data: %b\ndata: " % (b"x" * 600))
    assert not stream.overlong
    stream.feed(b"x" * 600)
    assert stream.overlong


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (b'{"choices":[{"delta":{},"finish_reason":"length"}],"usage":null}', "length"),
        (b'{"choices": [{"delta": {}, "finish_reason" : "stop"}]}', "stop"),
        (b'{"type":"message_delta","delta":{"stop_reason":"max_tokens"}}', "length"),
        (
            b'{"type":"response.incomplete","response":{"incomplete_details":{"reason":"max_output_tokens"}}}',
            "length",
        ),
    ],
)
def test_an_event_without_usage_says_why_the_answer_ended(event: bytes, reason: str) -> None:
    """In most streams usage comes in an event of its own."""
    report = Report()
    stream = EventStream(report, 4096)
    stream.feed(DELTA + b"data: " + event + b"\n\ndata: " + USAGE + b"\n\n")
    assert (report.finish_reason, report.usage) == (reason, Usage(9, 3))
