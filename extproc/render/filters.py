"""The HTTP filters that make the decision."""

from pathlib import PurePath

from extproc.body.bounds import LARGEST_BODY
from extproc.render.answers import ANSWER_BUFFER, answer_filters
from extproc.render.layout import Layout, Options, Usage
from extproc.render.lifting import request_filter
from extproc.render.text import Tree
from extproc.render.typed import TYPE_URL, any_of
from extproc.service.in_proxy import RESOURCE
from extproc.service.metadata import LIFTED_NAMESPACE, NAMESPACE
from extproc.service.received import ATTEMPTS, REQUEST_SIZE

LUA = "envoy.extensions.filters.http.lua.v3.Lua"
SERVICE_CLUSTER = "dualpool"

BYTES_PER_TOKEN = 24
"""Request bytes a buffer must hold for each token of the largest pool: 4 of text, and 6 times that when the client
writes every character as an escape."""

LEAST_BUFFER = 2 * LARGEST_BODY
"""Envoy 1.36 and 1.37 do not send a body of over half of the buffer again when its pool refuses it. One longer than
`LARGEST_BODY` goes to the largest pool, after which there is no other."""

MOST_BUFFER = 256 * 1024 * 1024
"""The window of an HTTP/2 connection is four buffers, and Envoy takes less than 2 GiB for it."""


def buffer_bytes(layout: Layout, usage: Usage = "response-body") -> int:
    """Return the size of a buffer that holds the largest prompt, a power of two, and answers that are read here."""
    needed = BYTES_PER_TOKEN * max(pool.capacity for pool in layout.pools.values())
    answer = ANSWER_BUFFER if usage == "access-log" else 0
    return max(LEAST_BUFFER, answer, min(1 << (needed - 1).bit_length(), MOST_BUFFER))


def http_filters(layout: Layout, options: Options) -> list[Tree]:
    """Return the filters in their order, without the router."""
    # The in-proxy filter reads for itself, but does not say the caps that are to be in a JSON log.
    lifts = options.exchange == "bodyless" or (options.exchange == "in-proxy" and options.json_log)
    lifting = [request_filter()] if lifts else []
    deciding = in_proxy(layout) if options.exchange == "in-proxy" else ext_proc(options)
    return [*lifting, deciding, *(answer_filters() if options.usage == "access-log" else [])]


def in_proxy(layout: Layout) -> Tree:
    """Return the filter that decides by itself, with figures the service keeps fresh."""
    nothing = {"default_source_code": {"inline_string": "function envoy_on_request(handle) end"}}
    return {
        "# Decides here, by figures that Dualpool writes into the file. The file must exist when Envoy starts "
        "(dualpool render in-proxy-filter). If it is broken then, default_config sends everything long.": None,
        "name": RESOURCE,
        "config_discovery": {
            "config_source": {
                "resource_api_version": "V3",
                "path_config_source": {
                    "path": layout.filter_file,
                    "watched_directory": {"path": str(PurePath(layout.filter_file).parent)},
                },
            },
            "default_config": any_of(LUA, nothing),
            "type_urls": [f"{TYPE_URL}{LUA}"],
        },
    }


def ext_proc(options: Options) -> Tree:
    """Return the filter that asks the service."""
    bodyless = options.exchange == "bodyless"
    forwarded = {"forwarding_namespaces": {"untyped": [LIFTED_NAMESPACE]}} if bodyless else {}
    length = {
        "# The size of a body without a content-length.": None,
        "request_attributes": [REQUEST_SIZE],
    }
    attempts = {
        "# The number of attempts: a 400 of the larger pool, after a retry, is no misroute.": None,
        "response_attributes": [ATTEMPTS],
    }
    unsent = ("answers", "body") if bodyless else ("answers",)
    silent = {
        "# Tells Dualpool what will not come, so that it does not wait: the access log reports the answer.": None,
        "initial_metadata": [{"key": f"dualpool-{what}", "value": "false"} for what in unsent],
    }
    return {
        "# Asks Dualpool. A route can have its own pools, thresholds, category, shadow, rollout-percent and "
        "default-output: grpc_initial_metadata in its ExtProcPerRoute (docs/attach.md).": None,
        "name": "envoy.filters.http.ext_proc",
        "typed_config": any_of(
            "envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor",
            {
                "grpc_service": {
                    "envoy_grpc": {"cluster_name": SERVICE_CLUSTER},
                    **(silent if options.usage == "access-log" else {}),
                },
                "# No request waits for Dualpool longer than this, and none fails because of it.": None,
                "failure_mode_allow": True,
                "message_timeout": "0.2s",
                "processing_mode": {**_request_mode(bodyless), **_answer_mode(options)},
                "allow_mode_override": True,
                **(length if bodyless else {}),
                **(attempts if options.usage == "response-body" else {}),
                "# The decision (pool, reason, estimate, budget, ...) for access logs and later filters, as "
                f"%DYNAMIC_METADATA({NAMESPACE}:pool)%.": None,
                "metadata_options": {"receiving_namespaces": {"untyped": [NAMESPACE]}, **forwarded},
            },
        ),
    }


def _request_mode(bodyless: bool) -> Tree:
    if bodyless:
        return {"request_header_mode": "SEND", "request_body_mode": "NONE", "request_trailer_mode": "SKIP"}
    return {
        "# Keep SEND: with SKIP, Envoy silently drops a header that is set in the answer to the body.": None,
        "request_header_mode": "SEND",
        "# BUFFERED would answer 413 to a body over the limit. This sends what fits, and a body that was cut goes "
        "to the largest pool.": None,
        "request_body_mode": "BUFFERED_PARTIAL",
        "request_trailer_mode": "SKIP",
    }


def _answer_mode(options: Options) -> Tree:
    if options.usage == "access-log":
        why = "# Usage comes from the access log."
    else:
        why = (
            "# Dualpool asks for the headers of the answers it learns from, and then for the body: JSON "
            "whole, a stream chunk by chunk, anything else not at all."
        )
    return {
        why: None,
        "response_header_mode": "SKIP",
        "response_body_mode": "NONE",
        "response_trailer_mode": "SKIP",
    }
