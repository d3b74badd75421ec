"""Reading an Envoy configuration strictly: every field name is checked, inside `typed_config` too."""

import importlib
from collections.abc import Iterator
from typing import Any

from envoy_data_plane.envoy.config.bootstrap.v3 import Bootstrap

TYPE = "@type"


def parse(tree: dict[str, Any]) -> Bootstrap:
    """Return `tree` as typed messages. Raises `KeyError` on an unknown field, `ImportError` on an unknown type."""
    for url in _types(tree):
        importlib.import_module(f"envoy_data_plane.{url.rpartition('/')[2].rpartition('.')[0]}")
    return Bootstrap.from_dict(tree)


def _types(tree: Any) -> Iterator[str]:
    if isinstance(tree, dict):
        if TYPE in tree:
            yield tree[TYPE]
        tree = list(tree.values())
    if isinstance(tree, list):
        for value in tree:
            yield from _types(value)
