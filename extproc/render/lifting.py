"""Envoy's own filters that read bodies in place of the service, and the access log that tells it of them."""

from collections.abc import Iterable

from extproc.body.fields import ANY_CAP, UNCAPPED_APIS
from extproc.body.lifted import REQUEST_FIELDS
from extproc.body.request import SUFFIXES
from extproc.render.text import Tree
from extproc.render.typed import any_of
from extproc.service.metadata import AT_START, LIFTED_NAMESPACE, NAMESPACE, USAGE_NAMESPACE

ANSWER_FILTERS = ("dualpool.json-answer", "dualpool.sse-answer")

ANSWER_BUFFER = 16 * 1024 * 1024
"""A JSON answer is buffered to be read. Over the limit it becomes a 500, so the limit is beyond any chat answer."""

EVENT_BYTES = 1024 * 1024
"""A longer event is dropped, and usage with it. The default, 8 KiB, is soon reached by a Responses API stream."""

READ_ANSWERS = f".*({'|'.join(suffix for suffix, api in SUFFIXES if api not in UNCAPPED_APIS)})"
"""Paths (a regular expression) whose answers are read: those that teach. Others may be of any size and any kind."""

OPENAI_FIELDS = (("prompt_tokens",), ("completion_tokens",), ("prompt_tokens_details", "cached_tokens"))
_ITEM_FIELDS = (("input_tokens",), ("output_tokens",))
RESPONSES_FIELDS = (*_ITEM_FIELDS, ("input_tokens_details", "cached_tokens"))
ANTHROPIC_FIELDS = (*_ITEM_FIELDS, ("cache_read_input_tokens",), ("cache_creation_input_tokens",))
"""Where figures are within the usage objects of each API; the last step is the metadata key. Every rule is tried on
every event, so what only one API nests in its events is looked for by its fields alone."""

USAGE_FIELDS = tuple(dict.fromkeys((*OPENAI_FIELDS, *RESPONSES_FIELDS, *ANTHROPIC_FIELDS)))

_JSON = "(?i)application/json *(;.*)?"
_RULES = "envoy.extensions.filters.http.json_to_metadata.v3.JsonToMetadata"


def request_filter() -> Tree:
    """Return the filter that lifts what decides from the request body."""
    seen = {"metadata_namespace": LIFTED_NAMESPACE, "key": "json", "value": True}
    fields = [_rule((name,), name, LIFTED_NAMESPACE) for name in REQUEST_FIELDS]
    return {
        "# Copies what the decision needs from the body into metadata, and holds the request back until then. "
        "`json` says that the body was JSON.": None,
        "name": "dualpool.request",
        "typed_config": any_of(
            _RULES,
            {
                "request_rules": {
                    "allow_content_types_regex": {"regex": _JSON},
                    "rules": [{"selectors": [{"key": "model"}], "on_present": seen, "on_missing": seen}, *fields],
                }
            },
        ),
    }


def answer_filters() -> list[Tree]:
    """Return the filters that lift usage from JSON answers and from streams of events, asleep.

    A route wakes them (`extproc.render.typed.awake`) whose answers are those of a model server: an event that is no
    object (`data: 1`) ends Envoy with a segmentation fault, up to 1.40.
    """
    json_filter, sse_filter = ANSWER_FILTERS
    return [
        {
            "# Copy usage from answers into metadata, for the access log. A field that is missing or null is left "
            "out. Disabled but on the route that enables them.": None,
            "name": json_filter,
            "disabled": True,
            "typed_config": any_of(
                _RULES,
                {
                    "response_rules": {
                        "allow_content_types_regex": {"regex": _JSON},
                        "rules": [
                            *_usage(("usage",)),
                            *_reasons(("stop_reason",), ("incomplete_details", "reason")),
                        ],
                    }
                },
            ),
        },
        {
            "name": sse_filter,
            "disabled": True,
            "typed_config": any_of(
                "envoy.extensions.filters.http.sse_to_metadata.v3.SseToMetadata",
                {"response_rules": {"max_event_size": EVENT_BYTES, "content_parser": _event_parser()}},
            ),
        },
    ]


def _event_parser() -> Tree:
    rules = [
        *_usage(("usage",)),
        *_usage(("message", "usage"), ANTHROPIC_FIELDS),
        *_usage(("message", "usage"), ANTHROPIC_FIELDS, AT_START),
        *_usage(("response", "usage"), RESPONSES_FIELDS),
        *_reasons(("delta", "stop_reason"), ("response", "incomplete_details", "reason")),
    ]
    return {
        "name": "envoy.content_parsers.json",
        "typed_config": any_of(
            "envoy.extensions.content_parsers.json.v3.JsonContentParser",
            {"rules": [{"rule": rule} for rule in rules]},
        ),
    }


def access_log(service_cluster: str) -> Tree:
    """Return the access log that tells the service how each request ended."""
    return {
        "# Tells Dualpool how each request ended: batched, bounded, never in a request's way. What is lost is "
        "access_logs.grpc_access_log.logs_written and logs_dropped less dualpool_access_log_entries_total.": None,
        "name": "envoy.access_loggers.http_grpc",
        "typed_config": any_of(
            "envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig",
            {
                "common_config": {
                    "log_name": "dualpool",
                    "transport_api_version": "V3",
                    "grpc_service": {"envoy_grpc": {"cluster_name": service_cluster}},
                    "buffer_flush_interval": "1s",
                    "buffer_size_bytes": 65536,
                }
            },
        ),
    }


def json_log(path: str) -> Tree:
    """Return the access log that `dualpool plan` reads: a line of JSON a request, lengths and no content."""
    usage = ("prompt_tokens", "completion_tokens", "input_tokens", "output_tokens")
    decided = ("pool", "reason", "budget", "reserve", "reserve_source")
    fields = {name: _metadata(USAGE_NAMESPACE, name) for name in usage}
    fields |= {name: _metadata(LIFTED_NAMESPACE, name) for name in ANY_CAP}
    fields |= {name: _metadata(NAMESPACE, name) for name in decided}
    return {
        "# A line of JSON for each request, lengths and no content, for `dualpool plan`.": None,
        "name": "envoy.access_loggers.file",
        "typed_config": any_of(
            "envoy.extensions.access_loggers.file.v3.FileAccessLog",
            {
                "path": path,
                "log_format": {
                    "json_format": {"start_time": "%START_TIME%", "response_code": "%RESPONSE_CODE%", **fields}
                },
            },
        ),
    }


def _metadata(namespace: str, key: str) -> str:
    return f"%DYNAMIC_METADATA({namespace}:{key})%"


def _usage(
    where: tuple[str, ...], fields: Iterable[tuple[str, ...]] = USAGE_FIELDS, prefix: str = ""
) -> Iterable[Tree]:
    return [_rule((*where, *path), prefix + path[-1], USAGE_NAMESPACE) for path in fields]


def _reasons(*paths: tuple[str, ...]) -> Iterable[Tree]:
    return [_rule(path, "finish_reason", USAGE_NAMESPACE) for path in paths]


def _rule(path: tuple[str, ...], key: str, namespace: str) -> Tree:
    selectors = [{"key": step} for step in path]
    return {"selectors": selectors, "on_present": {"metadata_namespace": namespace, "key": key}}
