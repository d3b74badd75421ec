"""Rules of `extproc.body.usage`."""

import json
from typing import Any

import pytest

from extproc.body.usage import Report, Usage


def read(*documents: dict[str, Any]) -> Report:
    report = Report()
    for document in documents:
        assert report.read(json.dumps(document).encode())
    return report


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}, Usage(9, 3)),
        ({"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 4}}, Usage(9, None, 4)),
        ({"prompt_tokens": 9, "prompt_tokens_details": None}, Usage(9)),
        ({"input_tokens": 9, "output_tokens": 3, "input_tokens_details": {"cached_tokens": 4}}, Usage(9, 3, 4)),
        (
            {
                "input_tokens": 5,
                "cache_read_input_tokens": 7,
                "cache_creation_input_tokens": 11,
                "output_tokens": 2,
            },
            Usage(23, 2, 7),
        ),
        ({"prompt_tokens": 0, "completion_tokens": 3}, Usage(None, 3)),
        (
            {"prompt_tokens": 9.0, "completion_tokens": 3e0, "prompt_tokens_details": {"cached_tokens": 4.0}},
            Usage(9, 3, 4),
        ),
        ({}, None),
    ],
)
def test_usage_of_every_dialect(usage: dict[str, Any], expected: Usage | None) -> None:
    """Prompt tokens count the whole prompt, cached or not, whatever the API calls them."""
    assert read({"usage": usage}).usage == expected


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"choices": [{"finish_reason": "stop"}]}, "stop"),
        ({"choices": [{"finish_reason": "stop"}, {"finish_reason": "length"}]}, "length"),
        ({"choices": [{"finish_reason": None}]}, None),
        ({"choices": []}, None),
        ({"stop_reason": "end_turn"}, "end_turn"),
        ({"stop_reason": "max_tokens"}, "length"),
        ({"delta": {"stop_reason": "max_tokens"}}, "length"),
        ({"delta": "a piece of text"}, None),
        ({"response": {"incomplete_details": {"reason": "max_output_tokens"}}}, "length"),
    ],
)
def test_finish_reasons(answer: dict[str, Any], reason: str | None) -> None:
    """Every dialect's way of running out of tokens reads `length`."""
    assert read(answer).finish_reason == reason


def test_each_choice_ends_in_an_event_of_its_own() -> None:
    """One that ran out of tokens is a truncation, whatever the others did after it."""
    report = read({"choices": [{"finish_reason": "length"}]}, {"choices": [{"finish_reason": "stop"}]})
    assert report.finish_reason == "length"


def test_anthropic_stream_reports_in_two_events() -> None:
    """Input tokens come at the start, output tokens at the end; the later count replaces the earlier."""
    report = read(
        {"type": "message_start", "message": {"usage": {"input_tokens": 10, "output_tokens": 1}}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 42}},
    )
    assert (report.usage, report.finish_reason) == (Usage(10, 42), "end_turn")


def test_only_the_last_event_of_a_stream_may_know_of_the_cache() -> None:
    """vLLM counts the whole prompt at the start, and its cached part apart at the end."""
    report = read(
        {"type": "message_start", "message": {"usage": {"input_tokens": 100, "output_tokens": 0}}},
        {"usage": {"input_tokens": 4, "cache_read_input_tokens": 96, "output_tokens": 7}},
    )
    assert report.usage == Usage(100, 7, 96)


def test_nulls_overwrite_nothing() -> None:
    """A later null leaves an earlier figure as it is."""
    report = read({"usage": {"prompt_tokens": 10}}, {"usage": {"prompt_tokens": None}}, {"usage": None})
    assert report.usage == Usage(10)


@pytest.mark.parametrize(
    "document",
    [b"", b"{", b"[DONE]", b'"text"', b'{"usage":{"prompt_tokens":"many"}}', b'{"usage":' * 5000, b"\xff"],
)
def test_what_is_not_an_answer_is_refused(document: bytes) -> None:
    """A document of another shape is reported as unread and changes nothing."""
    report = Report()
    assert not report.read(document)
    assert (report.usage, report.finish_reason) == (None, None)


def test_what_is_no_count_is_left_out() -> None:
    """Negative and absurd numbers are not taken, and 0 does not take the place of a count."""
    report = Report()
    for usage in ({"input_tokens": 12}, {"input_tokens": -5, "output_tokens": 10**30}, {"input_tokens": 0}):
        assert report.read(json.dumps({"usage": usage}).encode())
    assert report.usage == Usage(12)
