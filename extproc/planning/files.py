"""Log files of any kind as lazy columns, found by dotted name. Nothing is read here but names."""

import glob
import gzip
import itertools
import json
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import polars as pl

from extproc.planning.errors import PlanError

Names: TypeAlias = tuple[str, ...]
"""Keys from the outermost object to a value."""

CONVERSATION = "conversation"
TURNS = pl.List(pl.Struct({"role": pl.String, "content": pl.String}))

SAMPLE = 1000
"""Lines of JSON that say which keys there are."""

_EXTRA = "\x00beyond the header"
_LINE = "line"


@dataclass(frozen=True)
class File:
    """`frame`: a row a record. `columns`: where each value of a record is, by dotted name; text, unless the file
    has types (Parquet). `seen`: those of `columns` that are surely there. `broken`: whether a row does not have the
    shape of the others.
    """

    frame: pl.LazyFrame
    columns: Mapping[str, pl.Expr]
    seen: tuple[str, ...]
    broken: pl.Expr = field(default_factory=lambda: pl.lit(False))


def open_file(path: Path, late: Collection[str], tolerant: bool) -> File:
    """Open `path` by its extension. `late`: keys of JSON that may turn up after the first lines.

    `tolerant`: read lines of JSON one by one, several times as slow, so that a broken one is a bad row and not an
    error. Raises `PlanError` for a file of another kind, or one that cannot be opened.
    """
    suffix = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    if suffix not in _READERS:
        kinds = ", ".join(_READERS)
        seen = repr(suffix) if suffix else "no extension"
        raise PlanError(f"{path}: {seen}: must be one of {kinds} (or .gz) or .json (a CDF)")
    if not path.is_file():
        raise PlanError(f"{path}: is a directory" if path.is_dir() else f"{path}: no such file")
    if path.stat().st_size == 0:
        raise PlanError(f"{path}: is empty: at least two requests are needed")
    try:
        return _READERS[suffix](path, late, tolerant)
    except (pl.exceptions.PolarsError, OSError, EOFError, zlib.error) as error:
        raise unreadable(path, error) from None


def unreadable(path: Path, error: Exception) -> PlanError:
    """The one line that says why `path` cannot be read."""
    return PlanError(f"{path}: cannot be read: {' '.join(str(error).split())[:200]}")


def _csv(path: Path, _late: Collection[str], _tolerant: bool) -> File:
    """All as text; a row that is longer than the header has a value in a column of its own."""
    names = list(pl.scan_csv(path, infer_schema=False, encoding="utf8-lossy", glob=False).collect_schema())
    frame = pl.scan_csv(
        path,
        glob=False,
        schema=dict.fromkeys([*names, _EXTRA], pl.String()),
        encoding="utf8-lossy",
        truncate_ragged_lines=True,
        missing_columns="insert",
    )
    return File(frame, {name: pl.col(name) for name in names}, tuple(names), pl.col(_EXTRA).is_not_null())


def _parquet(path: Path, _late: Collection[str], _tolerant: bool) -> File:
    frame = pl.scan_parquet(path, glob=False)
    columns = dict(_leaves(frame.collect_schema()))
    return File(frame, columns, tuple(columns))


def _leaves(schema: Mapping[str, Any], outer: tuple[str, pl.Expr] | None = None) -> Iterator[tuple[str, pl.Expr]]:
    for name, kind in schema.items():
        dotted, at = (name, pl.col(name)) if outer is None else (f"{outer[0]}.{name}", outer[1].struct.field(name))
        if isinstance(kind, pl.Struct):
            yield from _leaves({field.name: field.dtype for field in kind.fields}, (dotted, at))
        else:
            yield dotted, at


def _ndjson(path: Path, late: Collection[str], tolerant: bool) -> File:
    seen = _sample(path)
    found = seen | {name: (name,) for name in late}
    if tolerant:
        return File(*_lines(path, found), tuple(seen))
    schema = {name: TURNS if name == CONVERSATION else kind for name, kind in _schema(found.values()).items()}
    name = glob.escape(str(path))  # polars always takes it for a pattern here
    frame = pl.scan_ndjson(name, schema=schema, ignore_errors=True)
    return File(frame, dict(_leaves(schema)), tuple(seen))


def _lines(path: Path, found: Mapping[str, Names]) -> tuple[pl.LazyFrame, dict[str, pl.Expr]]:
    line = pl.col(_LINE)
    frame = pl.scan_csv(
        path,
        glob=False,
        schema={_LINE: pl.String()},
        has_header=False,
        separator="\x01",
        quote_char=None,
        encoding="utf8-lossy",
    ).filter(line.str.strip_chars() != "")
    columns = {dotted: line.str.json_path_match(_json_path(names)) for dotted, names in found.items()}
    if CONVERSATION in columns:
        columns[CONVERSATION] = columns[CONVERSATION].str.json_decode(TURNS)
    return frame, columns


def _json_path(names: Names) -> str:
    return "$" + "".join(f"[{json.dumps(name)}]" for name in names)


def _schema(paths: Collection[Names]) -> dict[str, Any]:
    """Nested objects of text for `paths`."""
    by_head = {names[0]: [other[1:] for other in paths if other[0] == names[0] and other[1:]] for names in paths}
    return {name: pl.Struct(_schema(inner)) if inner else pl.String() for name, inner in by_head.items()}


def _sample(path: Path) -> dict[str, Names]:
    """The keys of the first lines, by dotted name."""
    found: dict[str, Names] = {}
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
        for line in itertools.islice(lines, SAMPLE):
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(record, dict):
                found |= {".".join(names): names for names in _keys(record)}
    return found


def _keys(record: Mapping[str, Any], outer: Names = ()) -> Iterator[Names]:
    for name, value in record.items():
        if isinstance(value, dict) and value:
            yield from _keys(value, (*outer, name))
        else:
            yield (*outer, name)


_READERS: dict[str, Callable[[Path, Collection[str], bool], File]] = {
    ".csv": _csv,
    ".parquet": _parquet,
    ".jsonl": _ndjson,
    ".ndjson": _ndjson,
    ".log": _ndjson,
}
