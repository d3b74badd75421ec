"""Request logs of any shape, as one lazy table of time, input, output and cap.

Nothing is read here but the column names: `trace` reads, streaming.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from extproc.planning.errors import PlanError

DEFAULT_BYTES_PER_TOKEN = 4.0


@dataclass(frozen=True)
class Shape:
    """Where a known kind of log keeps what a plan needs: dotted paths into nested objects."""

    input: str
    output: str
    time: str | None = None
    cap: str | None = None
    bytes: str | None = None

    def mapped(self, columns: Mapping[str, str]) -> "Shape":
        """Return the shape with the user's `columns` (those of `COLUMNS`) in place of its own."""
        known = {
            "input": self.input,
            "output": self.output,
            "time": self.time,
            "cap": self.cap,
            "bytes": self.bytes,
        }
        return Shape(**(known | dict(columns)))  # type: ignore[arg-type]


SHAPES = {
    "azure": Shape("ContextTokens", "GeneratedTokens", "TIMESTAMP"),
    "usage": Shape("usage.prompt_tokens", "usage.completion_tokens", "created", "max_tokens"),
    "batch": Shape("response.body.usage.prompt_tokens", "response.body.usage.completion_tokens", "created"),
    "flat": Shape("prompt_tokens", "completion_tokens", "timestamp", "max_tokens", "prompt_bytes"),
    "envoy": Shape("prompt_tokens", "completion_tokens", "start_time", "cap"),
}
"""Kinds of log recognised by their columns, tried in this order: the Azure LLM inference traces; OpenAI and vLLM
answers, whole, and as lines of a batch output file; flat usage records; Envoy access logs as shipped in envoy/."""

COLUMNS = ("input", "output", "time", "cap", "bytes")


def scan(path: Path, columns: Mapping[str, str], bytes_per_token: float) -> tuple[pl.LazyFrame, tuple[str, ...]]:
    """Return a lazy frame with columns time (s), input, output, cap (tokens), bytes (of prompt text), and notes.

    `columns` maps any of `COLUMNS` to the file's own names (dotted inside objects); what is absent is null.
    Raises `PlanError` for a file that cannot be opened or has none of the known columns.
    """
    frame = _open(path)
    try:
        schema = frame.collect_schema()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise PlanError(f"{path}: cannot be read: {' '.join(str(error).split())[:200]}") from None
    if not columns and "conversation" in schema:
        note = f"tokens are bytes / {bytes_per_token:g}; every answer is a request with all before it as its prompt"
        return _conversations(frame, bytes_per_token), (note,)
    shape = _shape(path, schema, columns)
    return frame.select(_columns(shape, schema)), ()


def _open(path: Path) -> pl.LazyFrame:
    readers: dict[str, Callable[[Path], pl.LazyFrame]] = {
        ".csv": lambda p: pl.scan_csv(p, infer_schema=False),
        ".parquet": pl.scan_parquet,
        ".jsonl": lambda p: pl.scan_ndjson(p, infer_schema_length=1000, ignore_errors=True),
        ".ndjson": lambda p: pl.scan_ndjson(p, infer_schema_length=1000, ignore_errors=True),
        ".log": lambda p: pl.scan_ndjson(p, infer_schema_length=1000, ignore_errors=True),
    }
    if path.suffix not in readers:
        raise PlanError(
            f"{path}: {path.suffix or 'no extension'!r}: must be one of {', '.join(readers)} or .json (a CDF)"
        )
    if not path.is_file():
        raise PlanError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise PlanError(f"{path}: is empty: at least two requests are needed")
    return readers[path.suffix](path)


def _shape(path: Path, schema: pl.Schema, columns: Mapping[str, str]) -> Shape:
    known = [s for s in SHAPES.values() if _has(schema, s.input) and _has(schema, s.output)]
    # A log with `start_time` is Envoy's; the flat record has the same names otherwise.
    known.sort(key=lambda s: not (s.time and _has(schema, s.time)))
    base = known[0] if known else Shape("input", "output")
    shape = base.mapped(columns)
    wrong = [v for v in (*columns.values(), shape.input, shape.output) if not _has(schema, v)]
    if wrong:
        there = " ".join(", ".join(_leaves(schema)).split())
        raise PlanError(f"{path}: no column {wrong[0]!r}; there are: {there}")
    return shape


def _has(schema: Mapping[str, pl.DataType], dotted: str) -> bool:
    return dotted in _leaves(schema)


def _leaves(schema: Mapping[str, pl.DataType]) -> list[str]:
    names: list[str] = []
    for name, kind in schema.items():
        if isinstance(kind, pl.Struct):
            names.extend(f"{name}.{leaf}" for leaf in _leaves({f.name: f.dtype for f in kind.fields}))  # type: ignore[misc]
        else:
            names.append(name)
    return names


def _kind(schema: Mapping[str, pl.DataType], dotted: str) -> pl.DataType:
    head, _, rest = dotted.partition(".")
    kind = schema[head]
    if not rest:
        return kind
    return _kind({f.name: f.dtype for f in kind.fields}, rest)  # type: ignore[attr-defined]


def _at(dotted: str) -> pl.Expr:
    head, *rest = dotted.split(".")
    expression = pl.col(head)
    for name in rest:
        expression = expression.struct.field(name)
    return expression


def _columns(shape: Shape, schema: pl.Schema) -> list[pl.Expr]:
    time = pl.lit(None, pl.Float64)
    if shape.time and _has(schema, shape.time):
        time = _seconds(_at(shape.time), _kind(schema, shape.time))
    optional = [
        _at(path).cast(pl.Int64, strict=False) if path and _has(schema, path) else pl.lit(None, pl.Int64)
        for path in (shape.cap, shape.bytes)
    ]
    return [
        time.alias("time"),
        _at(shape.input).cast(pl.Int64, strict=False).alias("input"),
        _at(shape.output).cast(pl.Int64, strict=False).alias("output"),
        optional[0].alias("cap"),
        optional[1].alias("bytes"),
    ]


def _seconds(column: pl.Expr, kind: pl.DataType) -> pl.Expr:
    """Seconds from a number, a datetime, or text that is either (with or without a zone)."""
    if kind.is_numeric():
        return column.cast(pl.Float64)
    if kind == pl.String:
        naive = column.str.replace(r"Z$", "").str.replace(r"[+-]\d\d:?\d\d$", "")
        stamp = naive.str.replace("T", " ").str.to_datetime("%Y-%m-%d %H:%M:%S%.f", strict=False)
        return pl.coalesce(column.cast(pl.Float64, strict=False), stamp.dt.epoch("us") / 1e6)
    return column.cast(pl.Datetime("us")).dt.epoch("us") / 1e6


def _conversations(frame: pl.LazyFrame, ratio: float) -> pl.LazyFrame:
    """One row an assistant turn of lists of `{role, content}`, as in LMSYS-Chat-1M."""
    sizes = pl.col("conversation").list.eval(pl.element().struct.field("content").str.len_bytes().cast(pl.Int64))
    before = pl.col("conversation").list.eval(
        pl.element().struct.field("content").str.len_bytes().cast(pl.Int64).cum_sum()
        - pl.element().struct.field("content").str.len_bytes().cast(pl.Int64)
    )
    roles = pl.col("conversation").list.eval(pl.element().struct.field("role"))
    turns = frame.select(sizes.alias("size"), before.alias("before"), roles.alias("role")).explode(
        "size", "before", "role"
    )
    return turns.filter(pl.col("role") == "assistant").select(
        pl.lit(None, pl.Float64).alias("time"),
        (pl.col("before") / ratio).ceil().cast(pl.Int64).alias("input"),
        (pl.col("size") / ratio).ceil().cast(pl.Int64).alias("output"),
        pl.lit(None, pl.Int64).alias("cap"),
        pl.col("before").alias("bytes"),
    )
