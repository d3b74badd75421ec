"""What is known about a request, as Envoy dynamic metadata: written at the decision, read in the access log.

Namespace `dualpool`: the decision in fields that people and access logs read (`pool`, `chosen`, `reason`,
`estimate`, `upper`, `source`, `reserve`, `reserve_source`, `budget`, `model`, `category`), `ticket`, by which the
end of the request is counted (`extproc.routing.in_flight`), and `observation`, the whole `Observation` as JSON,
which is what the learner reads: one string is cheaper than a field for each value.
The in-proxy filter writes only `pool`, `reason`, `observation`, and `in_proxy` where `chosen` would be another.
"""

from collections.abc import Mapping

import msgspec
from google.protobuf.struct_pb2 import Struct, Value

from extproc.budget.observation import Observation
from extproc.routing.decision import Decision
from extproc.service import wire

NAMESPACE = "dualpool"
LIFTED_NAMESPACE = "dualpool.request"
"""What Envoy's filters lifted from the request body."""

USAGE_NAMESPACE = "dualpool.usage"
"""What they lifted from the answer."""

AT_START = "message_"
"""Before the keys of what Anthropic's first event says of usage, which a later event may overwrite with 0."""

OBSERVATION = "observation"
TICKET = "ticket"

_CHOSEN = "chosen"
_ANSWER_SEEN = "answer_seen"
"""Beside the observation: the answer came by here, so what it teaches has been learned and counted."""

_IN_PROXY = "in_proxy"
"""What the in-proxy filter would have chosen, where it sent a request elsewhere."""

_DYNAMIC_METADATA = b"\x42"  # ProcessingResponse.dynamic_metadata = 8

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Observation)


def metadata(decision: Decision, ticket: str = "") -> bytes:
    """Return `decision`, and the `ticket` if any, as a serialized field of a `ProcessingResponse`."""
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
    """Return the pool that the in-proxy filter chose, not counted yet; None where no such filter decided."""
    if "pool" not in fields or _CHOSEN in fields:
        return None
    return fields[_IN_PROXY if _IN_PROXY in fields else "pool"].string_value


def answer_seen() -> bytes:
    """Return the field `dynamic_metadata` that says, in addition to `metadata`, that the answer came by here."""
    return wire.delimited(_DYNAMIC_METADATA, wire.struct(NAMESPACE, wire.known_text(_ANSWER_SEEN, "yes")))


def is_answer_seen(fields: Mapping[str, Value]) -> bool:
    """Whether the answer came by the service, say the fields of namespace `dualpool`."""
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
    """Return the observation in the fields of namespace `dualpool`, None when there is none that can be read."""
    field = fields.get(OBSERVATION)
    if field is None:
        return None
    try:
        return _decoder.decode(field.string_value)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
