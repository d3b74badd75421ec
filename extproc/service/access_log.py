"""Envoy's gRPC access log: what each request came to, and what it teaches.

Envoy sends an entry when a request has ended, with the metadata we gave it at the decision (namespace `dualpool`)
and the usage its filters lifted from the answer (namespace `dualpool.usage`). So nothing is kept here meanwhile,
any replica can read any entry, and no byte of an answer comes by. Where answers do come by, since no filter lifts
usage there, an entry tells only how the request ended.
"""

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.protobuf.struct_pb2 import Struct

from extproc.body.usage import Usage, UsageFields, finish, usage_of
from extproc.budget.observation import Observation, ending
from extproc.metrics import End, Logged
from extproc.pb import dualpool_accesslog_pb2 as pb
from extproc.service.exchange import Context
from extproc.service.metadata import (
    IN_PROXY,
    NAMESPACE,
    TICKET,
    USAGE_NAMESPACE,
    is_answer_seen,
    plain,
    read_observation,
)

TURN = 16
"""Entries read before others get their turn: about half a millisecond."""

COUNTS = frozenset(name for name in UsageFields.__struct_fields__ if not name.endswith("_details"))
"""What the metadata of an answer may hold besides `finish_reason`."""

_BREAKS = tuple(name for name in pb.ResponseFlags.DESCRIPTOR.fields_by_name if not name.startswith("downstream_"))
"""Flags of an answer that its pool, or a timeout of the proxy, has cut."""

_LARGEST_COUNT = 2**53
"""Numbers in metadata are doubles; beyond this they are no counts."""


class AccessLog:
    """Learns from access-log messages. `current` gives the learner and the metrics that are in force."""

    def __init__(self, current: Callable[[], Context]) -> None:
        self._current = current

    def take(self, message: bytes) -> Iterator[None]:
        """Learn from a serialized `StreamAccessLogsMessage`; yields after every `TURN` entries. Never raises."""
        context = self._current()
        try:
            entries = pb.StreamAccessLogsMessage.FromString(message).http_logs.log_entry
        except DecodeError:
            context.metrics.access_log_undecodable()
            return
        for number, entry in enumerate(entries, 1):
            _take(context, entry)
            if number % TURN == 0:
                yield


def _take(context: Context, entry: pb.HTTPAccessLogEntry) -> None:
    observation = read(entry)
    context.metrics.logged(logged(entry, observation))
    spaces = entry.common_properties.metadata.filter_metadata
    ours = spaces[NAMESPACE] if NAMESPACE in spaces else Struct()
    fields = ours.fields
    if IN_PROXY in fields:
        context.metrics.decided_in_proxy(*(fields[key].string_value for key in ("pool", IN_PROXY, "reason")))
    if context.in_flight is not None:
        context.in_flight.end(fields["pool"].string_value, fields[TICKET].string_value)
    if observation is not None and not is_answer_seen(ours):
        context.metrics.observed(observation, context.learner.learn(observation))


def read(entry: pb.HTTPAccessLogEntry) -> Observation | None:
    """Return the observation of an entry, completed by how the request ended.

    None when there was nothing to learn from its body, or it never came to us.
    """
    spaces = entry.common_properties.metadata.filter_metadata
    request = read_observation(spaces[NAMESPACE]) if NAMESPACE in spaces else None
    if request is None:
        return None
    status = entry.response.response_code.value
    if USAGE_NAMESPACE not in spaces or not 200 <= status < 300:
        return ending(request, status)
    fields = plain(spaces[USAGE_NAMESPACE])
    usage = _usage(fields)
    if usage is not None and (_disconnected(entry) or _broken_off(entry)):
        usage = msgspec.structs.replace(usage, completion_tokens=None)  # as far as it came
    reason = fields.get("finish_reason")
    return ending(
        msgspec.structs.replace(
            request, usage=usage, finish_reason=finish(reason) if isinstance(reason, str) else None
        ),
        status,
    )


def logged(entry: pb.HTTPAccessLogEntry, observation: Observation | None) -> Logged:
    """Return what an entry says to the metrics."""
    common = entry.common_properties
    spaces = common.metadata.filter_metadata
    return Logged(
        end=_end(entry, observation),
        pool=spaces[NAMESPACE].fields["pool"].string_value if NAMESPACE in spaces else "",
        retries=max(0, common.upstream_request_attempt_count - 1),
        first_byte_seconds=_seconds(common.time_to_first_upstream_rx_byte),
        seconds=_seconds(common.duration),
    )


def _end(entry: pb.HTTPAccessLogEntry, observation: Observation | None) -> End:
    if _disconnected(entry):
        return "disconnected"
    if observation is not None:
        end = observation.outcome
    else:
        end = "completed" if 200 <= entry.response.response_code.value < 300 else "failed"
    return "failed" if end == "completed" and _broken_off(entry) else end


def _disconnected(entry: pb.HTTPAccessLogEntry) -> bool:
    """Whether the client went away before its answer was complete."""
    flags = entry.common_properties.response_flags
    return bool(flags.downstream_connection_termination or flags.downstream_remote_reset)


def _broken_off(entry: pb.HTTPAccessLogEntry) -> bool:
    """Whether the answer ended before it was complete, though the client was there: its status may well be 200."""
    flags = entry.common_properties.response_flags
    return bool(flags.ByteSize()) and any(getattr(flags, name) for name in _BREAKS)


def _usage(fields: dict[str, Any]) -> Usage | None:
    return usage_of({key: int(value) for key, value in fields.items() if key in COUNTS and _is_count(value)})


def _is_count(value: Any) -> bool:
    return isinstance(value, float) and 0 <= value < _LARGEST_COUNT  # False for NaN


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9
