"""Request logs of any shape, as one lazy table of time, input, output, cap and bytes."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import polars as pl

from extproc.planning.errors import PlanError
from extproc.planning.files import CONVERSATION, File, open_file

DEFAULT_BYTES_PER_TOKEN = 4.0

_USAGE_INPUT = ("prompt_tokens", "input_tokens")
_USAGE_OUTPUT = ("completion_tokens", "output_tokens")
_OUTER = ("usage.", "response.body.usage.", "")
"""Where usage is: in an answer, in a line of a batch's output file, in a record of its own."""

NAMES: Mapping[str, tuple[str, ...]] = {
    "input": ("ContextTokens", *(outer + name for outer in _OUTER for name in _USAGE_INPUT)),
    "output": ("GeneratedTokens", *(outer + name for outer in _OUTER for name in _USAGE_OUTPUT)),
    "time": ("TIMESTAMP", "created", "created_at", "response.body.created", "timestamp", "start_time"),
    "cap": ("max_completion_tokens", "max_tokens", "max_output_tokens", "cap"),
    "bytes": ("prompt_bytes",),
}
"""Names by which each column is known, the first that has a value counting: of the Azure LLM inference traces; of
OpenAI and vLLM answers, whole and as lines of a batch output; of flat usage records; of Envoy's JSON access log as
`dualpool render --json-log` configures it."""

LATEST = 1e11
"""Seconds since 1970 (the year 5138): a number beyond it, before or after, is not a time."""

CACHED = ("cache_read_input_tokens", "cache_creation_input_tokens")
"""What Anthropic's `input_tokens` leaves out of a prompt, where they are beside it."""

LONGEST_LIST = 300
"""Characters of the names of columns in an error."""

COLUMNS = tuple(NAMES)
NEEDED = ("input", "output")

RESERVE, RESERVE_SOURCE, FROM_CAP = "reserve", "reserve_source", "cap"
"""In Envoy's access log: the output reserved, which is the request's cap when it comes from the request."""


def scan(
    path: Path, columns: Mapping[str, str], bytes_per_token: float, tolerant: bool
) -> tuple[pl.LazyFrame, tuple[str, ...]]:
    """Return a lazy frame with columns time (s), input, output, cap (tokens), bytes (of prompt text), broken
    (whether the row has another shape than the others), and notes.

    `columns` maps any of `COLUMNS` to the file's own names (dotted inside objects); what is absent is null.
    Raises `PlanError` for a file that cannot be opened or has none of the known columns.
    """
    file = open_file(path, (*NAMES["cap"], RESERVE, RESERVE_SOURCE), tolerant)
    if not columns and CONVERSATION in file.columns:
        note = f"tokens are bytes / {bytes_per_token:g}; every answer is a request with all before it as its prompt"
        return _conversations(file, bytes_per_token), (note,)
    _require(path, file, columns)
    kinds = file.frame.collect_schema()

    def count(value: pl.Expr) -> pl.Expr:
        return _count(value, _kind(value, kinds))

    found = {name: _found(file, (columns[name],) if name in columns else NAMES[name]) for name in COLUMNS}
    if "cap" not in columns and RESERVE_SOURCE in file.columns and RESERVE in file.columns:
        found["cap"].append(
            pl.when(file.columns[RESERVE_SOURCE] == FROM_CAP).then(file.columns[RESERVE])  # otherwise null
        )
    counted = {name: [count(value) for value in found[name]] for name in COLUMNS if name != "time"}
    if "input" not in columns:
        counted["input"] = list(_prompts(file, count))
    counts = [_first(values, pl.Int64()).alias(name) for name, values in counted.items()]
    time = _first([_seconds(value, _kind(value, kinds)) for value in found["time"]], pl.Float64())
    readable = pl.when(time.abs() < LATEST).then(time)  # neither nan nor infinite
    return file.frame.select(readable.alias("time"), *counts, file.broken.alias("broken")), ()


def _found(file: File, names: tuple[str, ...]) -> list[pl.Expr]:
    return [file.columns[name] for name in names if name in file.columns]


def _prompts(file: File, count: Callable[[pl.Expr], pl.Expr]) -> Iterator[pl.Expr]:
    """Yield the tokens of a prompt by each name that is known."""
    for name in NAMES["input"]:
        if name in file.columns:
            outer = name.removesuffix("input_tokens")
            parts = [] if outer == name else _found(file, tuple(outer + part for part in CACHED))
            yield sum((count(part).fill_null(0) for part in parts), count(file.columns[name]))


def _require(path: Path, file: File, columns: Mapping[str, str]) -> None:
    there = ", ".join(file.seen).encode("unicode_escape").decode() or "none"
    if len(there) > LONGEST_LIST:
        there = f"{there[:LONGEST_LIST]}…"
    for name in columns.values():
        if name not in file.seen:
            raise PlanError(f"{path}: no column {name!r}; there are: {there}")
    for name in NEEDED:
        if name not in columns and not _found(file, NAMES[name]):
            raise PlanError(f"{path}: no column for {name}; name it with --columns {name}=…; there are: {there}")


def _first(values: list[pl.Expr], kind: pl.DataType) -> pl.Expr:
    return pl.coalesce(values) if values else pl.lit(None, kind)


def _kind(value: pl.Expr, kinds: pl.Schema) -> pl.DataType:
    """The type of a column of a table with columns `kinds`."""
    return pl.LazyFrame(schema=kinds).select(value).collect_schema().dtypes()[0]


def _count(value: pl.Expr, kind: pl.DataType) -> pl.Expr:
    """Whole numbers, written as such or as 12.0; anything else is null."""
    number = (value.str.strip_chars() if kind == pl.String else value).cast(pl.Float64, strict=False)
    return pl.when(number == number.round()).then(number.cast(pl.Int64, strict=False))


def _seconds(value: pl.Expr, kind: pl.DataType) -> pl.Expr:
    """Seconds from a number, a datetime, or text that is either. A time without a zone is taken as UTC."""
    if kind.is_numeric():
        return _scaled(value.cast(pl.Float64))
    if kind != pl.String:
        return value.cast(pl.Datetime("us")).dt.epoch("us") / 1e6
    stamp = value.str.strip_chars().str.replace("T", " ", literal=True).str.replace("Z$", "+0000")
    zoned = pl.when(stamp.str.contains(r"[+-]\d\d:?\d\d$")).then(stamp).otherwise(stamp + "+0000")
    moment = zoned.str.to_datetime("%Y-%m-%d %H:%M:%S%.f%#z", strict=False)
    return pl.coalesce(_scaled(value.cast(pl.Float64, strict=False)), moment.dt.epoch("us") / 1e6)


def _scaled(number: pl.Expr) -> pl.Expr:
    """Epochs in milli-, micro- and nanoseconds as seconds: as seconds they would be thousands of years away."""
    value = number
    for limit, unit in ((1e11, 1e3), (1e14, 1e6), (1e17, 1e9)):
        value = pl.when(number.abs() >= limit).then(number / unit).otherwise(value)
    return value


def _conversations(file: File, ratio: float) -> pl.LazyFrame:
    """One row an assistant turn of lists of `{role, content}`, as in LMSYS-Chat-1M."""
    size = pl.element().struct.field("content").str.len_bytes().cast(pl.Int64)
    turns = file.frame.select(file.columns[CONVERSATION].alias(CONVERSATION))
    turns = turns.select(
        pl.col(CONVERSATION).list.eval(size).alias("size"),
        pl.col(CONVERSATION).list.eval(size.cum_sum() - size).alias("before"),
        pl.col(CONVERSATION).list.eval(pl.element().struct.field("role")).alias("role"),
    ).explode("size", "before", "role")
    return turns.filter(pl.col("role") == "assistant").select(
        pl.lit(None, pl.Float64).alias("time"),
        (pl.col("before") / ratio).ceil().cast(pl.Int64).alias("input"),
        (pl.col("size") / ratio).ceil().cast(pl.Int64).alias("output"),
        pl.lit(None, pl.Int64).alias("cap"),
        pl.col("before").alias("bytes"),
        pl.lit(False).alias("broken"),
    )
