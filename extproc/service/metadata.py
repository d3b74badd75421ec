"""A decision as Envoy dynamic metadata: written with the reply, read back from the access log.

Namespace `dualpool` holds the decision in fields for people and access logs (`pool`, `chosen`, `reason`,
`estimate`, `upper`, `source`, `reserve`, `reserve_source`, `budget`, `model`, `category`); `ticket`, by which the
end of the request is counted (`extproc.routing.in_flight`); and `observation`, the whole `Observation` as JSON, for
the learner: one string is cheaper than a field for each value. The in-proxy filter writes only `pool`, `reason`,
`observation`, and `in_proxy` where the pool chosen is not the one the request was sent to.
"""

from collections.abc import Mapping

import msgspec
from google.protobuf.struct_pb2 import Struct, Value

from extproc.budget.observation import Observation
from extproc.routing.decision import Decision
from extproc.service import wire

NAMESPACE = "dualpool"
LIFTED_NAMESPACE = "dualpool.request"
"""Fields that Envoy's filters lifted from the request body."""

USAGE_NAMESPACE = "dualpool.usage"
"""Fields that they lifted from the answer."""

AT_START = "message_"
"""Prefix of the keys that hold usage from Anthropic's first event: a later event may overwrite it with 0."""

OBSERVATION = "observation"
TICKET = "ticket"

_CHOSEN = "chosen"
_ANSWER_SEEN = "answer_seen"
"""Set when the answer came by the exchange: what it teaches has been learned and counted."""

_IN_PROXY = "in_proxy"
"""The pool that the in-proxy filter chose, where it sent the request to another."""

_DYNAMIC_METADATA = b"\x42"  # ProcessingResponse.dynamic_metadata = 8

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Observation)


def metadata(decision: Decision, ticket: str) -> bytes:
    """Return `decision` and `ticket`, if any, as the serialized `dynamic_metadata` of a `ProcessingResponse`."""
    known = wire.known_text
    entries = [
        known("pool", decision.pool.name),
        known(_CHOSEN, decision.chosen.name),
        known("reason", decision.reason),
    ]
    estimate, reserve, seen = decision.estimate, decision.reserve, decision.observation
    if estimate is not None and reserve is not None:
        entries += (
            wire.number("estimate", estimate.tokens),
            wire.number("upper", estimate.upper),
            known("source", estimate.source),
            wire.number("reserve", reserve.tokens),
            known("reserve_source", reserve.source),
            wire.number("budget", decision.budget),
        )
    if ticket:
        entries.append(known(TICKET, ticket))
    if seen is not None:
        entries += (
            known("model", seen.model),
            known("category", seen.category),
            wire.text(OBSERVATION, _encoder.encode(seen)),
        )
    return wire.delimited(_DYNAMIC_METADATA, wire.struct(NAMESPACE, b"".join(entries)))


def chosen_in_proxy(fields: Mapping[str, Value]) -> str | None:
    """Return the pool that the in-proxy filter chose; None where the service decided, and has counted that."""
    if "pool" not in fields or _CHOSEN in fields:
        return None
    return fields[_IN_PROXY if _IN_PROXY in fields else "pool"].string_value


def answer_seen() -> bytes:
    """Return the serialized `dynamic_metadata` that says that the answer came by the exchange."""
    return wire.delimited(_DYNAMIC_METADATA, wire.struct(NAMESPACE, wire.known_text(_ANSWER_SEEN, "yes")))


def is_answer_seen(fields: Mapping[str, Value]) -> bool:
    """Whether `fields` of namespace `dualpool` say that the answer came by the exchange."""
    return _ANSWER_SEEN in fields


def plain(space: Struct) -> dict[str, str | float | bool]:
    """Return the strings, numbers and booleans of a metadata namespace."""
    values: dict[str, str | float | bool] = {}
    for key, value in space.fields.items():
        kind = value.WhichOneof("kind")
        if kind in ("string_value", "number_value", "bool_value"):
            values[key] = getattr(value, kind)
    return values


def read_observation(fields: Mapping[str, Value]) -> Observation | None:
    """Return the observation in `fields` of namespace `dualpool`, None when there is none or it cannot be read."""
    field = fields.get(OBSERVATION)
    if field is None:
        return None
    try:
        return _decoder.decode(field.string_value)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
