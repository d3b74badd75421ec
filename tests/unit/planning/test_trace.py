"""Rules of `extproc.planning.trace` and `tables`."""

import json
from pathlib import Path

import polars as pl
import pytest

from extproc.planning import trace
from extproc.planning.errors import PlanError
from extproc.planning.trace import open_trace, workload
from extproc.planning.workload import NO_CAP

AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:00:00.0000000,100,10
2023-11-16 18:00:01.5000000,200,20
2023-11-16 18:02:00.0000000,100,10
"""


def write(tmp_path: Path, text: str, name: str = "trace.csv") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def problem(path: Path) -> str:
    with pytest.raises(PlanError) as error:
        open_trace(path)
    return str(error.value)


def test_azure_trace(tmp_path: Path) -> None:
    """An Azure trace becomes its distinct lengths with their counts."""
    read = workload(open_trace(write(tmp_path, AZURE)))
    assert read.inputs.tolist() == [100, 200]
    assert read.outputs.tolist() == [10, 20]
    assert read.weights.tolist() == [2, 1]
    assert read.caps.tolist() == [NO_CAP, NO_CAP]


def test_rate_and_peak_come_from_the_timestamps(tmp_path: Path) -> None:
    """The mean rate is arrivals over the span, the peak that of the busiest whole minute."""
    arrivals = workload(open_trace(write(tmp_path, AZURE))).needs_rate()
    assert arrivals.rate == pytest.approx(2 / 120)
    assert arrivals.peak == pytest.approx(2 / 60)


def test_unsorted_rows_are_replayed_in_time_order_with_a_warning(tmp_path: Path) -> None:
    """Rows out of order are sorted and the notes say so."""
    lines = AZURE.splitlines()
    opened = open_trace(write(tmp_path, "\n".join([lines[0], lines[3], lines[1], lines[2]])))
    times = [t for batch in opened.batches() for t in batch[0].tolist()]
    assert times == pytest.approx([0, 1.5, 120])
    assert any("sorted" in note for note in opened.notes)


def test_duplicate_timestamps_are_accepted(tmp_path: Path) -> None:
    """Two requests may arrive at the same instant."""
    lines = AZURE.splitlines()
    opened = open_trace(write(tmp_path, "\n".join([*lines, lines[3]])))
    assert opened.rows == 4
    assert opened.sorted


def test_bad_rows_are_counted(tmp_path: Path) -> None:
    """A row without a readable count is left out and counted."""
    read = workload(open_trace(write(tmp_path, AZURE + "2023-11-16 18:03:00,many,1\n2023-11-16 18:03:01,,1\n")))
    assert (read.rows, read.bad) == (3, 2)


def test_negative_tokens_name_file_row_and_value(tmp_path: Path) -> None:
    """A negative count is an error that names the file, the row and the value."""
    path = write(tmp_path, AZURE + "2023-11-16 18:03:00,-5,1\n")
    assert problem(path) == f"{path}: row 4: input -5: must not be negative"


def test_counts_beyond_any_context_are_an_error(tmp_path: Path) -> None:
    """A count no request can have is an error that names the row."""
    path = write(tmp_path, AZURE + "2023-11-16 18:03:00,5,99999999999\n")
    assert problem(path) == f"{path}: row 4: output 99999999999: must be at most 100000000"


@pytest.mark.parametrize("rows", [0, 1])
def test_too_few_rows(tmp_path: Path, rows: int) -> None:
    """A trace needs two requests."""
    path = write(tmp_path, "\n".join(AZURE.splitlines()[: rows + 1]) + "\n")
    assert problem(path) == f"{path}: {rows} usable rows of {rows}: at least two requests are needed"


def test_empty_file(tmp_path: Path) -> None:
    """An empty file is an error, not a crash."""
    path = write(tmp_path, "")
    assert problem(path) == f"{path}: is empty: at least two requests are needed"


def test_missing_column_names_those_there_are(tmp_path: Path) -> None:
    """A missing column is answered with the columns there are."""
    path = write(tmp_path, "a,b\n1,2\n3,4\n")
    assert problem(path) == f"{path}: no column 'input'; there are: a, b"


def test_mapped_columns(tmp_path: Path) -> None:
    """The user's own column names are read where they are given."""
    path = write(tmp_path, "a,b,limit\n1,2,64\n3,4,64\n")
    read = workload(open_trace(path, {"input": "a", "output": "b", "cap": "limit"}))
    assert (read.inputs.tolist(), read.caps.tolist()) == ([1, 3], [64, 64])


def test_bytes_are_replayed_where_the_trace_has_them(tmp_path: Path) -> None:
    """Bytes of prompt text come with the request; 0 stands for unknown."""
    rows = [
        {"timestamp": t, "prompt_tokens": 9, "completion_tokens": 1, "prompt_bytes": b}
        for t, b in ((0, 40), (1, None))
    ]
    opened = open_trace(write(tmp_path, "\n".join(map(json.dumps, rows)), "log.jsonl"))
    assert [b for batch in opened.batches() for b in batch[4].tolist()] == [40, 0]


def test_usage_log(tmp_path: Path) -> None:
    """OpenAI-style answers are read from their usage and creation time."""
    rows = [{"created": t, "usage": {"prompt_tokens": 5 + t, "completion_tokens": 7}} for t in (0, 4)]
    read = workload(open_trace(write(tmp_path, "\n".join(map(json.dumps, rows)), "log.jsonl")))
    assert read.inputs.tolist() == [5, 9]
    assert read.needs_rate().rate == pytest.approx(1 / 4)


def test_conversations_become_one_request_an_answer(tmp_path: Path) -> None:
    """Every assistant turn of a conversation is a request with all that precedes it as its prompt."""
    talk = [
        {"role": r, "content": "x" * n} for r, n in (("user", 40), ("assistant", 8), ("user", 12), ("assistant", 4))
    ]
    path = tmp_path / "talk.parquet"
    pl.DataFrame({"conversation": [talk]}).write_parquet(path)
    read = workload(open_trace(path, bytes_per_token=4))
    assert (read.inputs.tolist(), read.outputs.tolist()) == ([10, 15], [2, 1])


def test_parquet_datetimes(tmp_path: Path) -> None:
    """A datetime column is a time as it stands."""
    path = tmp_path / "t.parquet"
    stamps = pl.Series(["2024-01-01 00:00:00", "2024-01-01 00:00:10"]).str.to_datetime()
    pl.DataFrame({"timestamp": stamps, "prompt_tokens": [1, 2], "completion_tokens": [3, 4]}).write_parquet(path)
    assert workload(open_trace(path)).needs_rate().rate == pytest.approx(1 / 10)


def test_long_traces_are_rounded_up_to_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above the row limit lengths are kept in steps of a block, and the notes say so."""
    monkeypatch.setattr(trace, "EXACT_ROWS", 2)
    read = workload(open_trace(write(tmp_path, AZURE)))
    assert (read.inputs.tolist(), read.outputs.tolist()) == ([112, 208], [16, 32])
    assert any("rounded up" in note for note in read.notes)


def test_long_unsorted_traces_are_rejected_for_replay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trace too long to sort in memory must be in order."""
    monkeypatch.setattr(trace, "EXACT_ROWS", 2)
    lines = AZURE.splitlines()
    opened = open_trace(write(tmp_path, "\n".join([lines[0], lines[3], lines[1], lines[2]])))
    with pytest.raises(PlanError, match="sort the file first"):
        list(opened.batches())


def test_unknown_extension(tmp_path: Path) -> None:
    """A file of an unknown kind is named with the kinds there are."""
    assert "must be one of .csv" in problem(write(tmp_path, "x", "trace.xls"))


def test_missing_file(tmp_path: Path) -> None:
    """A file that is not there is said to be so."""
    assert problem(tmp_path / "none.csv").endswith("none.csv: no such file")


def test_same_time_everywhere(tmp_path: Path) -> None:
    """Timestamps that never advance give no rate."""
    lines = AZURE.splitlines()
    with pytest.raises(PlanError, match="every request has the same time"):
        workload(open_trace(write(tmp_path, "\n".join([lines[0], lines[1], lines[1]]))))
