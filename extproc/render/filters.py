"""The HTTP filters that make the decision."""

from extproc.render.layout import Layout, Options
from extproc.render.text import Tree
from extproc.render.typed import any_of

SERVICE_CLUSTER = "dualpool"
METADATA_NAMESPACE = "dualpool"

BYTES_PER_TOKEN = 24
"""Request bytes a buffer must hold for each token of the largest pool: 4 of text, and 6 times that when the client
writes every character as an escape."""

LEAST_BUFFER = 4 * 1024 * 1024


def buffer_bytes(layout: Layout) -> int:
    """Return the size of a buffer that holds the largest prompt, a power of two."""
    needed = BYTES_PER_TOKEN * max(pool.capacity for pool in layout.pools.values())
    return int(max(LEAST_BUFFER, 1 << (needed - 1).bit_length()))


def http_filters(options: Options) -> list[Tree]:
    """Return the filters in their order, without the router."""
    return [ext_proc(options)]


def ext_proc(_options: Options) -> Tree:
    """Return the filter that asks the service."""
    return {
        "# Asks Dualpool. A route can set pools, thresholds, category, shadow, rollout-percent and "
        "default-output for "
        "itself: grpc_initial_metadata in its ExtProcPerRoute (docs/attach.md).": None,
        "name": "envoy.filters.http.ext_proc",
        "typed_config": any_of(
            "envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor",
            {
                "grpc_service": {"envoy_grpc": {"cluster_name": SERVICE_CLUSTER}},
                "# No request waits for Dualpool longer than this, and none fails because of it.": None,
                "failure_mode_allow": True,
                "message_timeout": "0.2s",
                "processing_mode": {
                    "# SEND is needed: with SKIP, a header set in the answer to the body is dropped in "
                    "silence.": None,
                    "request_header_mode": "SEND",
                    "# BUFFERED would answer 413 to a body over the limit; this sends what fits, and a body "
                    "that was "
                    "cut goes to the largest pool.": None,
                    "request_body_mode": "BUFFERED_PARTIAL",
                    "request_trailer_mode": "SKIP",
                    "# At the answer's headers Dualpool says what of its body it wants to read: JSON whole, a "
                    "stream "
                    "chunk by chunk, anything else not at all.": None,
                    "response_header_mode": "SEND",
                    "response_body_mode": "NONE",
                    "response_trailer_mode": "SKIP",
                },
                "allow_mode_override": True,
                "# The decision (pool, reason, estimate, budget, ...) for access logs and later filters, as "
                f"%DYNAMIC_METADATA({METADATA_NAMESPACE}:pool)%.": None,
                "metadata_options": {"receiving_namespaces": {"untyped": [METADATA_NAMESPACE]}},
            },
        ),
    }
