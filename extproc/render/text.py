"""Plain values to YAML that people read: short mappings on one line, and comments.

In a mapping, a key that begins with `#` is a comment at its place (its value says nothing). PyYAML's own dumper
knows no comments, and a configuration that a stranger is to paste needs them.
"""

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

COMMENT = "#"
WIDTH = 110
FLOW_WIDTH = 88
"""A mapping or list of scalars is written on one line when that is no longer."""

Tree = dict[str, Any]


def plain(value: Any) -> Any:
    """Return `value` without its comments."""
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items() if not key.startswith(COMMENT)}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    return value


def commented(comment: str, trees: list[Tree]) -> list[Tree]:
    """Return `trees` with `comment` (and its `#`) above the first."""
    first, *others = trees
    return [{comment: None, **first}, *others]


def to_yaml(*documents: Tree) -> str:
    """Write documents, one after the other."""
    return "---\n".join("".join(f"{line}\n" for line in _mapping(document, 0)) for document in documents)


def comment_lines(text: str, indent: int = 0) -> list[str]:
    """Wrap `text` (without its `#`) as comment lines; its own line breaks stay."""
    margin = " " * indent + "#"
    lines = []
    for paragraph in text.removeprefix(COMMENT).removeprefix(" ").splitlines():
        lines += textwrap.wrap(
            paragraph,
            WIDTH,
            initial_indent=f"{margin} ",
            subsequent_indent=f"{margin} ",
            break_long_words=False,
            break_on_hyphens=False,
        ) or [margin]
    return lines


def _mapping(value: Mapping[str, Any], indent: int) -> Iterator[str]:
    for key, inner in value.items():
        if key.startswith(COMMENT):
            yield from comment_lines(key, indent)
        else:
            yield from _entry(_scalar(key) + ":", inner, indent)


def _entry(key: str, value: Any, indent: int) -> Iterator[str]:
    margin = " " * indent
    flow = _flow(value)
    if flow is not None and len(margin + key) + len(flow) < FLOW_WIDTH:
        yield f"{margin}{key} {flow}"
    elif isinstance(value, Mapping):
        yield f"{margin}{key}"
        yield from _mapping(value, indent + 2)
    elif isinstance(value, list):
        yield f"{margin}{key}"
        for item in value:
            yield from _item(item, indent)
    elif isinstance(value, str) and "\n" in value:
        yield f"{margin}{key} |"
        yield from (f"{margin}  {line}".rstrip() for line in value.rstrip("\n").split("\n"))
    else:
        yield f"{margin}{key} {_scalar(value)}"


def _item(value: Any, indent: int) -> Iterator[str]:
    """An element of a list. Comments that come first in a mapping stand above its dash."""
    margin = " " * indent
    flow = _flow(value)
    if flow is not None and len(margin) + len(flow) < FLOW_WIDTH:
        yield f"{margin}- {flow}"
    elif isinstance(value, Mapping):
        rest = dict(value)
        while (first := next(iter(rest))).startswith(COMMENT):
            yield from comment_lines(first, indent)
            del rest[first]
        lines = list(_mapping(rest, indent + 2))
        yield f"{margin}- {lines[0][indent + 2 :]}"
        yield from lines[1:]
    else:
        yield f"{margin}- {_scalar(value)}"


def _flow(value: Any) -> str | None:
    """`value` on one line; None for what has a mapping, a comment or several lines inside, and for nested lists."""
    if isinstance(value, Mapping):
        if any(key.startswith(COMMENT) or (inner and isinstance(inner, Mapping)) for key, inner in value.items()):
            return None
        pairs = [(_scalar(key, flow=True), _flow(inner)) for key, inner in value.items()]
        if any(inner is None for _, inner in pairs):
            return None
        return "{" + ", ".join(f"{key}: {inner}" for key, inner in pairs) + "}"
    if isinstance(value, list):
        if any(isinstance(inner, Mapping | list) for inner in value):
            return None
        return "[" + ", ".join(_scalar(inner, flow=True) for inner in value) + "]"
    return None if isinstance(value, str) and "\n" in value else _scalar(value, flow=True)


def _scalar(value: Any, *, flow: bool = False) -> str:
    """Let PyYAML decide about quotes; inside brackets more strings need them than outside."""
    if isinstance(value, str) and value.lower() in ("y", "n"):
        return f'"{value}"'  # true and false to Envoy's YAML reader, strings to PyYAML
    text = yaml.safe_dump([value] if flow else value, default_flow_style=flow, width=10**6, allow_unicode=True)
    text = text.removesuffix("\n").removesuffix("\n...")
    return text[1:-1] if flow else text
