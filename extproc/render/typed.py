"""Envoy's own types as a check: a wrong field, enum or type is found before Envoy sees it."""

import importlib
from collections.abc import Iterator
from typing import Any

import betterproto2

from extproc.render.text import Tree, plain

TYPE_URL = "type.googleapis.com/"

_FILTER_CONFIG = "envoy.config.route.v3.FilterConfig"


def any_of(type_name: str, fields: Tree) -> Tree:
    """Return a `google.protobuf.Any` of the message `type_name`."""
    return {"@type": TYPE_URL + type_name, **fields}


def awake() -> Tree:
    """Return what a route says of a filter that is disabled elsewhere: an empty configuration enables it."""
    return any_of(_FILTER_CONFIG, {"config": {}})


def check(tree: Tree, message: str) -> None:
    """Read `tree` as Envoy's `message`, with all that it holds. Raises `ValueError` that says what."""
    value = plain(tree)
    for name in (message, *_type_names(value)):
        importlib.import_module(f"envoy_data_plane.{name.rpartition('.')[0]}")
    package, _, kind = message.rpartition(".")
    cls: type[betterproto2.Message] = getattr(importlib.import_module(f"envoy_data_plane.{package}"), kind)
    try:
        cls.from_dict(_readable(value))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{message}: {error}") from error


def _readable(value: Any) -> Any:
    """Return `value` without the empty `Any` of `awake`, which Envoy reads and the package does not."""
    if value == awake():
        return any_of(_FILTER_CONFIG, {})
    if isinstance(value, dict):
        return {key: _readable(inner) for key, inner in value.items()}
    return [_readable(inner) for inner in value] if isinstance(value, list) else value


def _type_names(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "@type" in value:
            yield value["@type"].removeprefix(TYPE_URL)
        for inner in value.values():
            yield from _type_names(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _type_names(inner)
