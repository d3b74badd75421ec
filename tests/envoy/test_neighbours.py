"""Other filters in the chain of one Envoy, before and behind those that are rendered."""

import copy
from pathlib import Path
from typing import Any

import pytest

from extproc.demo.envoy import Tree, connection_manager
from tests.envoy.changes import short_by_default
from tests.envoy.client import chat
from tests.envoy.counts import OBSERVATIONS
from tests.envoy.modes import MODES, Mode, heard, mode_stack, name

FILTERS = "type.googleapis.com/envoy.extensions.filters.http"
GZIP = "type.googleapis.com/envoy.extensions.compression.gzip.compressor.v3.Gzip"
WAIT = """
function envoy_on_request(handle) handle:body() end
function envoy_on_response(handle) handle:body() end
"""


def http_filter(kind: str, message: str, **fields: Any) -> Tree:
    """Return a filter of Envoy's, `message` without what all of them begin with."""
    return {"name": f"own.{kind}", "typed_config": {"@type": f"{FILTERS}.{kind}.v3.{message}", **fields}}


LUA = http_filter("lua", "Lua", default_source_code={"inline_string": WAIT})
BUFFER = http_filter("buffer", "Buffer", max_request_bytes=1_000_000)
COMPRESSOR = http_filter(
    "compressor", "Compressor", compressor_library={"name": "gzip", "typed_config": {"@type": GZIP}}
)
FIELDS = http_filter(
    "json_to_metadata",
    "JsonToMetadata",
    request_rules={
        "rules": [{"selectors": [{"key": "model"}], "on_present": {"metadata_namespace": "own", "key": "model"}}]
    },
)


def surrounded(tree: Tree) -> Tree:
    """Put filters that wait for bodies, read them and pack answers around those that are rendered."""
    filters = connection_manager(short_by_default(tree))["http_filters"]
    filters[0:0] = copy.deepcopy([BUFFER, COMPRESSOR, LUA, FIELDS])
    filters[-1:-1] = copy.deepcopy([LUA])
    return tree


@pytest.mark.parametrize("mode", MODES, ids=name)
def test_filters_on_both_sides(tmp_path: Path, mode: Mode) -> None:
    """Requests land by their budget, each teaches once, and the client gets the packed answer it asked for."""
    with mode_stack(tmp_path, mode, surrounded) as stack:
        for words, pool in ((4, "short"), (4000, "long")):
            reply = stack.send(chat("word " * words, max_tokens=10), headers={"accept-encoding": "gzip"})
            assert (reply.status, stack.reached(reply)) == (200, [pool])
            assert reply.headers["content-encoding"] == "gzip"
        heard(stack, mode, 2)
        assert stack.count(OBSERVATIONS, verdict="used") == 2
