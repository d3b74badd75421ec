"""Rules of `extproc.planning.trace` and `tables`."""

import gzip
import json
from pathlib import Path

import polars as pl
import pytest

from extproc.planning import summary, trace
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
    """The mean rate is arrivals over the span, the peak that of the busiest minute."""
    arrivals = workload(open_trace(write(tmp_path, AZURE))).needs_rate()
    assert arrivals.rate == pytest.approx(2 / 120)
    assert arrivals.peak == pytest.approx(2 / 60)


def test_a_burst_in_the_last_minute_is_the_peak(tmp_path: Path) -> None:
    """The last minute counts though it is cut short: 60 requests in its first second are one a second."""
    times = [*range(0, 120, 2), *(120 + n / 60 for n in range(60))]
    rows = "".join(f"{time},5,7\n" for time in times)
    read = workload(open_trace(write(tmp_path, "timestamp,prompt_tokens,completion_tokens\n" + rows)))
    assert read.needs_rate().peak == pytest.approx(1.0)


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
    assert (opened.summary.usable, opened.summary.ordered) == (4, True)


def test_bad_rows_are_counted(tmp_path: Path) -> None:
    """A row without a readable count is left out and counted."""
    read = workload(open_trace(write(tmp_path, AZURE + "2023-11-16 18:03:00,many,1\n2023-11-16 18:03:01,,1\n")))
    assert (read.rows, read.bad) == (3, 2)


@pytest.mark.parametrize("time", ["nan", "inf", "-inf", "1e300", "yesterday", ""])
def test_a_row_without_a_time_is_bad_where_most_have_one(tmp_path: Path, time: str) -> None:
    """One time that is none costs its row and no other; it is counted, named, and does not spoil the order."""
    opened = open_trace(
        write(tmp_path, "timestamp,prompt_tokens,completion_tokens\n0,5,7\n4,5,7\n" + time + ",9,7\n")
    )
    read = workload(opened)
    assert (read.rows, read.bad, read.inputs.tolist()) == (2, 1, [5])
    assert read.needs_rate().rate == pytest.approx(1 / 4)
    assert read.notes == ("trace.csv: 1 of 3 rows have no readable time, the first is row 3: left out",)
    assert [t for batch in opened.batches() for t in batch[0].tolist()] == [0, 4]


def test_where_most_rows_have_no_time_none_is_used(tmp_path: Path) -> None:
    """How many rows have none and which is the first is said where a rate is needed, and where it is not."""
    text = "timestamp,prompt_tokens,completion_tokens\n0,5,7\n,5,7\nsoon,9,7\n3,5,many\n"
    opened = open_trace(write(tmp_path, text))
    why = "2 of 3 rows have no readable time, the first is row 2"
    with pytest.raises(PlanError, match=f"trace.csv: {why}: give the arrival rate with --rate"):
        workload(opened).needs_rate()
    with pytest.raises(PlanError, match=f"cannot be replayed: {why}"):
        list(opened.batches())
    assert opened.notes == (f"trace.csv: {why}: times are not used",)


def test_no_time_at_all(tmp_path: Path) -> None:
    """A table without times, or with none that is readable, asks for a rate and says why."""
    read = workload(open_trace(write(tmp_path, "timestamp,prompt_tokens,completion_tokens\nsoon,5,7\nlater,5,7\n")))
    with pytest.raises(PlanError, match="no row has a readable time: give the arrival rate with --rate"):
        read.needs_rate()


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
    assert problem(path) == f"{path}: no column for input; name it with --columns input=…; there are: a, b"


def test_of_many_columns_the_first_are_named(tmp_path: Path) -> None:
    """A file of something else, gzip twice over, may have thousands, or one of any length."""
    path = write(tmp_path, ",".join(f"column{n}" for n in range(1000)) + "\n")
    told = problem(path)
    assert told.endswith(", column30, …")
    assert len(told) < 500


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
    """Lengths of more kinds than are kept are counted in steps of a block, and the notes say so."""
    monkeypatch.setattr(summary, "MOST_LENGTHS", 1)
    read = workload(open_trace(write(tmp_path, AZURE)))
    assert (read.inputs.tolist(), read.outputs.tolist()) == ([112, 208], [16, 32])
    assert read.weights.tolist() == [2, 1]
    assert any("rounded up" in note for note in read.notes)


def test_long_unsorted_traces_are_rejected_for_replay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trace too long to sort in memory must be in order."""
    monkeypatch.setattr(trace, "SORTED_ROWS", 2)
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
    """Timestamps that never advance give no rate; one that is given is used."""
    lines = AZURE.splitlines()
    read = workload(open_trace(write(tmp_path, "\n".join([lines[0], lines[1], lines[1]]))))
    with pytest.raises(PlanError, match="give the arrival rate with --rate"):
        read.needs_rate()
    assert read.with_rate(5.0).needs_rate().rate == 5.0
    assert any("the same time" in note for note in read.notes)


def test_a_time_that_is_far_from_the_others_is_refused(tmp_path: Path) -> None:
    """A clock that was not set, or milliseconds among seconds: minute by minute it would be a very long file."""
    rows = ("prompt_tokens,completion_tokens,timestamp", "10,20,0", "10,20,1700000000")
    assert "reach over 53.8 years" in problem(write(tmp_path, "\n".join(rows)))


def test_many_batches_count_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However a file is cut into batches, and however often counts are merged, the workload is the same."""
    rows = [f"{t / 7},{t % 5 + 1},{t % 3 + 1}" for t in range(500)]
    path = write(tmp_path, "timestamp,prompt_tokens,completion_tokens\n" + "\n".join(rows) + "\n")
    whole = workload(open_trace(path))
    monkeypatch.setattr(summary, "CHUNK", 7)
    monkeypatch.setattr(summary, "WAITING", 10)
    parts = workload(open_trace(path))
    assert parts.weights.tolist() == whole.weights.tolist()
    assert parts.needs_rate().by_minute == whole.needs_rate().by_minute
    assert parts.needs_rate().cv == pytest.approx(whole.needs_rate().cv)


def test_a_trace_too_long_to_sort_has_no_variation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Times that are out of order and stay so say nothing of the gaps between arrivals, but of rates."""
    monkeypatch.setattr(trace, "SORTED_ROWS", 2)
    lines = AZURE.splitlines()
    read = workload(open_trace(write(tmp_path, "\n".join([lines[0], lines[3], lines[1], lines[2]]))))
    assert read.needs_rate().cv is None
    assert read.needs_rate().rate == pytest.approx(2 / 120)


def test_a_broken_line_of_json_is_a_bad_row(tmp_path: Path) -> None:
    """Lines that are no JSON, no object, or cut short are counted; the others are read."""
    row = {"created": 3, "usage": {"prompt_tokens": 5, "completion_tokens": "7"}}
    lines = [json.dumps(row), "{broken", "null", "[1]", "", json.dumps(row | {"usage": None}), json.dumps(row)[:-9]]
    read = workload(open_trace(write(tmp_path, "\n".join([*lines, json.dumps(row | {"created": 4})]), "log.jsonl")))
    assert (read.rows, read.bad) == (2, 5)


def test_a_row_longer_than_the_header_is_bad(tmp_path: Path) -> None:
    """A row with more fields than columns is not guessed at."""
    read = workload(open_trace(write(tmp_path, AZURE + "2023-11-16 18:03:00,7,1,9\n2023-11-16 18:03:00,7\n")))
    assert (read.rows, read.bad) == (3, 2)


def test_whole_numbers_may_have_a_point(tmp_path: Path) -> None:
    """12.0 is a count, as tables with gaps write it; 12.5 is none."""
    read = workload(open_trace(write(tmp_path, "prompt_tokens,completion_tokens\n12.0,1\n12.5,1\n 13 ,1.0\n")))
    assert (read.inputs.tolist(), read.bad) == ([12, 13], 1)


def test_names_with_dots(tmp_path: Path) -> None:
    """A flattened table is read as the nested one it was made from."""
    read = workload(open_trace(write(tmp_path, "usage.prompt_tokens,usage.completion_tokens\n5,7\n6,8\n")))
    assert read.inputs.tolist() == [5, 6]


@pytest.mark.parametrize(
    ("usage", "time"),
    [
        ({"usage": {"input_tokens": 5, "output_tokens": 7}}, "created_at"),
        ({"usage": {"input_tokens": 1, "cache_read_input_tokens": 4, "output_tokens": 7}}, "timestamp"),
        ({"input_tokens": 2, "cache_creation_input_tokens": 3, "output_tokens": 7}, "start_time"),
        ({"prompt_tokens": 5, "completion_tokens": 7, "cache_read_input_tokens": 4}, "start_time"),
        ({"response": {"body": {"usage": {"prompt_tokens": 5, "completion_tokens": 7}}}}, "timestamp"),
        ({"prompt_tokens": 5, "completion_tokens": 7, "input_tokens": None}, "start_time"),
    ],
)
def test_known_logs(tmp_path: Path, usage: dict[str, object], time: str) -> None:
    """Answers of each API, batch output and flat records are recognised by their names, cached parts included."""
    rows = "\n".join(json.dumps(usage | {time: 100 + t}) for t in (0, 4))
    read = workload(open_trace(write(tmp_path, rows, "log.jsonl")))
    assert (read.inputs.tolist(), read.outputs.tolist(), read.needs_rate().rate) == ([5], [7], 1 / 4)


def test_a_cap_that_turns_up_late(tmp_path: Path) -> None:
    """A cap is read although the first thousand lines have none."""
    row = {"prompt_tokens": 5, "completion_tokens": 7}
    rows = [row] * 1500 + [row | {"max_tokens": 64}]
    read = workload(open_trace(write(tmp_path, "\n".join(map(json.dumps, rows)), "log.jsonl")))
    assert (read.caps.tolist(), read.weights.tolist()) == ([NO_CAP, 64], [1500, 1])


@pytest.mark.parametrize(
    "times",
    [
        ("1700000000", "1700000010"),
        ("1700000000000", "1700000010000"),
        ("1700000000000000000", "1700000010000000000"),
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:10.000Z"),
        ("2026-01-01T00:00:00+00:00", "2026-01-01T01:00:10+01:00"),
        ("2026-01-01 00:00:00", "2026-01-01 00:00:10.0000000"),
    ],
)
def test_times(tmp_path: Path, times: tuple[str, str]) -> None:
    """Seconds, milli- and nanoseconds since 1970, and dates with or without a zone are times."""
    rows = "".join(f"{time},5,7\n" for time in times)
    read = workload(open_trace(write(tmp_path, "timestamp,prompt_tokens,completion_tokens\n" + rows)))
    assert read.needs_rate().seconds == pytest.approx(10, abs=1e-3)


def test_compressed_logs(tmp_path: Path) -> None:
    """A file that ends in .gz is read as what it was before."""
    path = tmp_path / "trace.csv.gz"
    path.write_bytes(gzip.compress(AZURE.encode()))
    assert workload(open_trace(path)).rows == 3


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl", ".broken.jsonl"])
def test_a_file_is_the_one_that_is_named(tmp_path: Path, suffix: str) -> None:
    """A name with brackets or stars is no pattern: another file that would match it is not read."""
    for name, prompt in (("trace[1]", 100), ("trace1", 999)):
        path, table = tmp_path / f"{name}{suffix}", {"prompt_tokens": [prompt] * 2, "completion_tokens": [1, 2]}
        if suffix == ".csv":
            pl.DataFrame(table).write_csv(path)
        elif suffix == ".parquet":
            pl.DataFrame(table).write_parquet(path)
        else:
            pl.DataFrame(table).write_ndjson(path)
        if suffix == ".broken.jsonl":
            path.write_text(path.read_text() + "{broken\n")
    assert set(workload(open_trace(tmp_path / f"trace[1]{suffix}")).inputs.tolist()) == {100}
