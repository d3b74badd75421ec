"""Envoy's gRPC access log: what each request came to, and what it teaches.

Envoy sends an entry when a request has ended, with the metadata we gave it at the decision (namespace `dualpool`)
and the usage its filters lifted from the answer (namespace `dualpool.usage`). So no state is kept between the two,
any replica can read any entry, and no byte of an answer passes through the service. Where no filter lifts usage,
answers come by the exchange, and an entry only tells how the request ended.
"""

import logging
from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.protobuf.struct_pb2 import Value

from extproc.body.usage import LARGEST_COUNT, Usage, UsageFields, finish, usage_of
from extproc.budget.estimate import Verdict
from extproc.budget.observation import Observation, ending
from extproc.metrics import End, Logged
from extproc.pb import dualpool_accesslog_pb2 as pb
from extproc.service.context import Context
from extproc.service.logs import origin
from extproc.service.metadata import (
    AT_START,
    NAMESPACE,
    OBSERVATION,
    TICKET,
    USAGE_NAMESPACE,
    chosen_in_proxy,
    is_answer_seen,
    read_observation,
)

log = logging.getLogger(__name__)

TURN = 16
"""Entries read before the event loop gets a turn: about half a millisecond."""

COUNTS = frozenset(name for name in UsageFields.__struct_fields__ if not name.endswith("_details"))
"""Token counts in the namespace `dualpool.usage`."""

_BREAKS = tuple(name for name in pb.ResponseFlags.DESCRIPTOR.fields_by_name if not name.startswith("downstream_"))
"""Flags of an answer that was cut short by its pool or by a timeout of the proxy."""

_ENDS = (pb.AccessLogType.NotSet, pb.AccessLogType.DownstreamEnd)
"""Types of entries that are written at the end of a request; others are written while it goes on."""


class Ended(NamedTuple):
    """What an entry says of a request.

    `fields`: our own metadata, from the decision. `observation`: completed by how the request ended; None when its
    body gave no facts, or it never came to us.
    """

    fields: Mapping[str, Value]
    logged: Logged
    observation: Observation | None


class AccessLog:
    """Learns from access-log messages. `current`: returns the context in force."""

    def __init__(self, current: Callable[[], Context]) -> None:
        self._current = current

    def take(self, message: bytes) -> Iterator[None]:
        """Learn from a serialized `StreamAccessLogsMessage`. Yields after every `TURN` entries. Never raises."""
        context = self._current()
        try:
            entries = pb.StreamAccessLogsMessage.FromString(message).http_logs.log_entry
        except DecodeError:
            context.metrics.access_log_undecodable()
            return
        for first in range(0, len(entries), TURN):
            _take(context, [read(entry, context.pool_names) for entry in entries[first : first + TURN]])
            yield


def _take(context: Context, turn: Sequence[Ended]) -> None:
    """Count and learn what entries say, step by step for all of them: so its code stays in the CPU's cache."""
    decided = Counter(
        (ended.logged.pool, chosen, _text(ended.fields, "reason"))
        for ended in turn
        if (chosen := chosen_in_proxy(ended.fields)) is not None
    )
    for (pool, chosen, reason), number in decided.items():
        context.metrics.decided_in_proxy(pool, chosen, reason, number)
    if context.in_flight is not None:
        for ended in turn:
            context.in_flight.end(ended.logged.pool, _text(ended.fields, TICKET))
    unseen = [ended for ended in turn if not is_answer_seen(ended.fields)]
    readable = [(ended.observation, ended.logged.served) for ended in unseen if ended.observation]
    verdicts = [_learn(context, observation) for observation, _ in readable]
    for (observation, served), verdict in zip(readable, verdicts, strict=True):
        context.metrics.observed(observation, verdict, served)
    for ended in unseen:
        if ended.observation is None and OBSERVATION in ended.fields:  # from another version of Dualpool
            context.metrics.observation_unreadable()
    for ended in turn:  # last, since another thread exports the metrics: an entry that is counted is done with
        context.metrics.logged(ended.logged)


def _learn(context: Context, observation: Observation) -> Verdict:
    """Learn from one entry. An error costs that entry alone."""
    try:
        return context.learner.learn(observation)
    except Exception as error:
        log.error("an access-log entry cannot be learned from: %s", type(error).__name__)
        log.debug("learning failed:\n%s", origin(error))
        return "failed"


def read(entry: pb.HTTPAccessLogEntry, pools: Container[str]) -> Ended:
    """Return what an entry says. `pools`: names of all pools, by which an upstream cluster is recognised as one."""
    common = entry.common_properties
    if common.access_log_type not in _ENDS:
        return Ended({}, Logged("interim", "", "", 0, 0.0, 0.0), None)
    spaces = common.metadata.filter_metadata
    fields: Mapping[str, Value] = spaces[NAMESPACE].fields if NAMESPACE in spaces else {}
    status = entry.response.response_code.value
    cut = _cut(common, status)
    usage, reason = None, None
    if USAGE_NAMESPACE in spaces and 200 <= status < 300:
        usage, reason = _lifted(spaces[USAGE_NAMESPACE].fields)
    request = read_observation(fields)
    attempts = common.upstream_request_attempt_count
    observation = (
        None if request is None else ending(request, status, usage, reason, whole=cut is None, attempts=attempts)
    )
    pool = _text(fields, "pool")
    logged = Logged(
        end=_end(observation, status, cut),
        pool=pool,
        served=common.upstream_cluster if common.upstream_cluster in pools else pool,
        retries=max(0, attempts - 1),
        first_byte_seconds=_seconds(common.time_to_first_upstream_rx_byte),
        seconds=_seconds(common.duration),
        usage=usage if observation is None and cut is None else None,
    )
    return Ended(fields, logged, observation)


def _cut(common: pb.AccessLogCommon, status: int) -> End | None:
    """Return how an answer was cut short, whatever its status says; None when it is complete."""
    flags = common.response_flags
    if flags.ByteSize():
        if flags.downstream_connection_termination or flags.downstream_remote_reset:
            return "disconnected"
        if any(getattr(flags, name) for name in _BREAKS):
            return "failed"
    # Envoy sets no flag for a client that resets its HTTP/2 stream without an error, and for one that breaks the
    # protocol a flag that is not read here. Both are recognised by an answer that never came or has no end.
    begun = 200 <= status < 300 and common.HasField("time_to_first_upstream_rx_byte")
    cut = begun and not common.HasField("time_to_last_upstream_rx_byte")
    return "disconnected" if cut or status == 0 else None


def _end(observation: Observation | None, status: int, cut: End | None) -> End:
    if cut == "disconnected":
        return cut
    if observation is not None:
        end: End = observation.outcome
    else:
        end = "completed" if 200 <= status < 300 else "failed"
    return cut if cut is not None and end == "completed" else end


def _lifted(fields: Mapping[str, Value]) -> tuple[Usage | None, str | None]:
    """Return usage and finish reason from the fields that Envoy's filters lifted from an answer."""
    counts: dict[str, int] = {}
    at_start: dict[str, int] = {}
    for key, value in fields.items():
        known = key.removeprefix(AT_START)
        if known in COUNTS and _is_count(value):
            (counts if known == key else at_start)[known] = int(value.number_value)
    return _larger(usage_of(counts), usage_of(at_start)), finish(_text(fields, "finish_reason") or None)


def _larger(one: Usage | None, other: Usage | None) -> Usage | None:
    """Return the larger of each count. Only whole prompts compare: one event may count the cached part apart."""
    if one is None or other is None:
        return one or other
    pairs = zip(msgspec.structs.astuple(one), msgspec.structs.astuple(other), strict=True)
    return Usage(*(max((count for count in pair if count is not None), default=None) for pair in pairs))


def _text(fields: Mapping[str, Value], key: str) -> str:
    return fields[key].string_value if key in fields else ""


def _is_count(value: Value) -> bool:
    number = value.number_value  # 0 unless it is a number; NaN compares false
    return 0 < number < LARGEST_COUNT or (number == 0 and value.HasField("number_value"))


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9
