"""Reads the headers and attributes of messages from Envoy."""

from collections.abc import Mapping

from extproc.pb import dualpool_extproc_pb2 as pb

REQUEST_SIZE = "request.size"
ATTEMPTS = "upstream.request_attempt_count"
"""Attributes that the filter is configured to send."""

LONGEST_NUMBER = 20
"""Digits of a length that is read: more are more than 64 bits, or zeros, which Envoy lets through by thousands."""

MOST_HEADERS = 100
MOST_HEADER_BYTES = 59 * 1024
"""Of a request, unless Envoy is told otherwise (`max_headers_count`, `max_request_headers_kb`: 60). To a reply that
would make it more, Envoy answers 500, though it is to fail open. The last KiB is left for the routing header."""


def has_room(headers: pb.HeaderMap) -> bool:
    """Whether Envoy lets a reply add the routing header to a request of these headers."""
    return len(headers.headers) < MOST_HEADERS and headers.ByteSize() <= MOST_HEADER_BYTES


def values_of(headers: pb.HeaderMap) -> dict[str, bytes]:
    """Return the last value of each header. Envoy fills `raw_value`, other senders may fill `value`."""
    return {h.key: h.raw_value or h.value.encode() for h in headers.headers}


def size_of(values: Mapping[str, bytes], request: pb.ProcessingRequest) -> int | None:
    """Return the size of the request body: its content-length, else what Envoy has buffered; None if unknown."""
    length = values.get("content-length", b"")
    if length.isdigit() and len(length) <= LONGEST_NUMBER:
        return int(length)
    return _attribute(request, REQUEST_SIZE) or None  # 0: nothing has arrived yet


def attempts_of(request: pb.ProcessingRequest) -> int | None:
    """Return how often Envoy sent the request to a pool, None where it does not say."""
    return _attribute(request, ATTEMPTS)


def _attribute(request: pb.ProcessingRequest, name: str) -> int | None:
    """Return a numeric attribute, None where Envoy was not asked for it."""
    for attributes in request.attributes.values():
        if name in attributes.fields:
            return int(attributes.fields[name].number_value)
    return None
