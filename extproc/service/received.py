"""What Envoy sends along with a message: headers, and the attributes that it was asked for."""

from collections.abc import Mapping

from extproc.pb import dualpool_extproc_pb2 as pb

REQUEST_SIZE = "request.size"
ATTEMPTS = "upstream.request_attempt_count"
"""Attributes of Envoy."""

LONGEST_NUMBER = 20
"""Digits of a length that is read: more are more than 64 bits, or zeros, which Envoy lets through by thousands."""


def values_of(headers: pb.HeaderMap) -> dict[str, bytes]:
    """Return the last value of each header; Envoy fills `raw_value`, other senders may fill `value`."""
    return {h.key: h.raw_value or h.value.encode() for h in headers.headers}


def size_of(values: Mapping[str, bytes], request: pb.ProcessingRequest) -> int | None:
    """Return the bytes of the request body, by its header, else by Envoy's count of a body that it held back."""
    length = values.get("content-length", b"")
    if length.isdigit() and len(length) <= LONGEST_NUMBER:
        return int(length)
    return _attribute(request, REQUEST_SIZE) or None  # 0: none of it has come yet


def attempts_of(request: pb.ProcessingRequest) -> int | None:
    """Return how often the request was sent on, None where Envoy does not say."""
    return _attribute(request, ATTEMPTS)


def _attribute(request: pb.ProcessingRequest, name: str) -> int | None:
    """A number that Envoy was asked to send along, None where it was not."""
    for attributes in request.attributes.values():
        if name in attributes.fields:
            return int(attributes.fields[name].number_value)
    return None
