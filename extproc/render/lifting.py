"""Envoy's own filter that reads request bodies in place of the service, and the access logs."""

from extproc.body.fields import ANY_CAP
from extproc.body.lifted import REQUEST_FIELDS
from extproc.render.text import Tree
from extproc.render.typed import any_of
from extproc.service.metadata import LIFTED_NAMESPACE, NAMESPACE, USAGE_NAMESPACE

JSON = "(?i)application/json *(;.*)?"
"""Content types (a regular expression) of bodies that are read."""

RULES = "envoy.extensions.filters.http.json_to_metadata.v3.JsonToMetadata"


def request_filter() -> Tree:
    """Return the filter that lifts what decides from the request body."""
    seen = {"metadata_namespace": LIFTED_NAMESPACE, "key": "json", "value": True}
    fields = [rule((name,), name, LIFTED_NAMESPACE) for name in REQUEST_FIELDS]
    return {
        "# Lifts the fields that decide from the body, and holds the request back meanwhile. `json`: "
        "there was JSON.": None,
        "name": "dualpool.request",
        "typed_config": any_of(
            RULES,
            {
                "request_rules": {
                    "allow_content_types_regex": {"regex": JSON},
                    "rules": [{"selectors": [{"key": "model"}], "on_present": seen, "on_missing": seen}, *fields],
                }
            },
        ),
    }


def rule(path: tuple[str, ...], key: str, namespace: str) -> Tree:
    """Return the rule that lifts what stands at `path` of a JSON object into metadata."""
    selectors = [{"key": step} for step in path]
    return {"selectors": selectors, "on_present": {"metadata_namespace": namespace, "key": key}}


def access_log(service_cluster: str) -> Tree:
    """Return the access log that tells the service how each request ended."""
    return {
        "# Tells Dualpool how each request ended: in batches, bounded, and no request waits for it. "
        "Entries lost: access_logs.grpc_access_log.logs_written + logs_dropped "
        "- dualpool_access_log_entries_total.": None,
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
    cached = ("cache_read_input_tokens", "cache_creation_input_tokens")  # Anthropic's, not in `input_tokens`
    usage = ("prompt_tokens", "completion_tokens", "input_tokens", *cached, "output_tokens")
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
