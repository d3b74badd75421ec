"""What the demo's tables say of outcomes."""

import io
from typing import Any

from rich.console import Console
from rich.table import Table

from extproc.demo.load import Outcome
from extproc.demo.report import END, START, by_kind, errors, summary


def outcome(**fields: Any) -> Outcome:
    defaults: dict[str, Any] = {
        "kind": "chat",
        "status": 200,
        "pool": "short",
        "reason": "fits",
        "category": "latin",
        "attempts": 1,
        "expected": 100,
        "prompt_tokens": 100,
        "truncated": False,
    }
    return Outcome(**{**defaults, **fields})


def printed(table: Table) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_error_is_relative_to_the_truth() -> None:
    """150 estimated for 100 is 50 % too many; without both figures there is no error."""
    assert outcome(expected=150).error == 0.5
    assert outcome(expected=None).error is None
    assert outcome(prompt_tokens=None).error is None


def test_start_and_end_are_medians_of_the_first_and_the_last() -> None:
    """What lies between them does not count, nor does the sign."""
    first = [outcome(expected=50)] * START
    between = [outcome(expected=1000)] * 7
    last = [outcome(expected=110)] * END
    start, end = errors([*first, *between, *last])
    assert start == 0.5
    assert end is not None
    assert round(end, 9) == 0.1


def test_too_few_estimates_have_no_error() -> None:
    """Nothing is made of a handful."""
    assert errors([outcome()] * (2 * START - 1)) == (None, None)


def test_a_kind_is_a_row() -> None:
    """Requests by the pool that answered, refusals, and what the text was mostly taken for."""
    outcomes = [outcome()] * 3 + [outcome(kind="code", pool="long", category="code", attempts=2)]
    rows = [line.replace("│", " ").split() for line in printed(by_kind(outcomes)).splitlines()]
    assert ["chat", "latin", "3", "3", "0", "0"] in rows
    assert ["code", "code", "1", "0", "1", "1"] in rows
    assert ["all", "4", "3", "1", "1"] in rows


def test_the_summary_tells_what_the_retry_saved() -> None:
    """A refused request counts as saved when its second answer was a success."""
    outcomes = [outcome(), outcome(attempts=2), outcome(attempts=2, status=400), outcome(truncated=True)]
    told = printed(summary(outcomes, 2.0, 0.003, 0.001))
    assert "3 of 4, in 2.0 s" in told
    assert "2, of which the retry saved 1" in told
    assert "2.00 ms at the median (1.00 without Dualpool)" in told
