"""Rules of `extproc.service.access_log`: an entry to an observation, and what is counted of it."""

import json
from collections import deque
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.body.usage import Usage
from extproc.budget.estimate import Verdict
from extproc.budget.features import NAMES
from extproc.budget.observation import Observation
from extproc.metrics import Logged
from extproc.pb import dualpool_accesslog_pb2 as pb
from extproc.pb import dualpool_extproc_pb2 as extproc
from extproc.routing.in_flight import BUCKET_SECONDS, InFlight
from extproc.service.access_log import TURN, AccessLog, read
from extproc.service.context import Context
from extproc.service.messages import READ_WHOLE
from tests.unit.service.test_exchange import Harness

REQUEST = Observation(
    model="m",
    category="latin",
    basis="text",
    features=(400.0, *[0.0] * (len(NAMES) - 1)),
    estimate=110,
    cap=50,
    prompts=1,
    choices=1,
    teaches=True,
    pool="short",
    capacity=1000,
    largest=False,
)
POOLS = ("short", "long")
USAGE = {"prompt_tokens": 100.0, "completion_tokens": 20.0}
PROTOCOL_ERROR = b"\x98\x01\x01"
"""`downstream_protocol_error`, field 19 of the flags, which is not read: the client broke the protocol."""


def entry(
    usage: dict[str, Any] | None = None,
    status: int = 200,
    request: Observation | None = REQUEST,
    attempts: int = 1,
    disconnected: bool = False,
    whole: bool = True,
    cluster: str = "short",
) -> pb.HTTPAccessLogEntry:
    """An entry as Envoy 1.40 writes it."""
    made = pb.HTTPAccessLogEntry()
    common = made.common_properties
    common.upstream_request_attempt_count = attempts
    common.duration.FromMilliseconds(1500)
    common.time_to_first_upstream_rx_byte.FromMilliseconds(200)
    if whole:
        common.time_to_last_upstream_rx_byte.FromMilliseconds(1400)
    common.upstream_cluster = cluster
    common.access_log_type = pb.DownstreamEnd
    if request is not None:
        ours = {"pool": request.pool, "chosen": request.pool, "observation": msgspec.json.encode(request).decode()}
        common.metadata.filter_metadata["dualpool"].update(ours)
    if usage is not None:
        common.metadata.filter_metadata["dualpool.usage"].update(usage)
    if disconnected:
        common.response_flags.downstream_connection_termination = True
    made.response.response_code.value = status
    return made


def message(*entries: pb.HTTPAccessLogEntry) -> bytes:
    made = pb.StreamAccessLogsMessage()
    made.http_logs.log_entry.extend(entries)
    return made.SerializeToString()


def feed(context: Context, content: bytes) -> None:
    deque(AccessLog(lambda: context).take(content), 0)


def take(*entries: pb.HTTPAccessLogEntry) -> Harness:
    """Feed one message to a fresh service."""
    harness = Harness()
    feed(harness.context, message(*entries))
    return harness


def observed(made: pb.HTTPAccessLogEntry) -> Observation:
    """What an entry says of a request that came to us."""
    observation = read(made, POOLS).observation
    assert observation is not None
    return observation


@pytest.mark.parametrize(
    ("fields", "usage"),
    [
        (USAGE, Usage(100, 20)),
        ({**USAGE, "cached_tokens": 64.0}, Usage(100, 20, 64)),
        ({"input_tokens": 100.0, "output_tokens": 20.0}, Usage(100, 20)),
        (
            {"input_tokens": 10.0, "cache_read_input_tokens": 60.0, "cache_creation_input_tokens": 30.0},
            Usage(100, None, 60),
        ),
        ({"message_input_tokens": 100.0, "input_tokens": 0.0, "output_tokens": 20.0}, Usage(100, 20)),
        ({"message_input_tokens": 0.0, "input_tokens": 100.0}, Usage(100)),
        (
            {"message_input_tokens": 100.0, "input_tokens": 4.0, "cache_read_input_tokens": 96.0},
            Usage(100, None, 96),
        ),
        (
            {"message_input_tokens": 4.0, "message_cache_read_input_tokens": 96.0, "input_tokens": 0.0},
            Usage(100, None, 96),
        ),
        ({"prompt_tokens": "100"}, None),
        ({"prompt_tokens": -1.0}, None),
        ({"prompt_tokens": float("nan")}, None),
        ({"prompt_tokens": 1e300}, None),
        ({"prompt_tokens": 2.0**31}, None),
        ({"finish_reason": "stop"}, None),
    ],
)
def test_usage(fields: dict[str, Any], usage: Usage | None) -> None:
    """Counts of every dialect are understood; what is no count is left out."""
    assert observed(entry(fields)).usage == usage


def test_the_request_comes_back() -> None:
    """All that was known at the decision is in the observation again."""
    assert msgspec.structs.replace(observed(entry(USAGE)), usage=None) == REQUEST


@pytest.mark.parametrize(
    ("made", "outcome"),
    [
        (entry(USAGE), "completed"),
        (entry(status=503), "failed"),
        (entry(status=0, disconnected=True), "failed"),
        (entry(status=400), "rejected"),
        (entry(status=400, attempts=2), "failed"),
        (entry({"prompt_tokens": 980.0, "completion_tokens": 19.0}), "completed"),
        (entry({"prompt_tokens": 980.0, "completion_tokens": 20.0}), "truncated"),
        (entry({"prompt_tokens": 980.0, "completion_tokens": 20.0}, attempts=2), "rejected"),
    ],
    ids=["answered", "5xx", "client gone", "refused", "refused by both", "taken at once", "clipped", "retried"],
)
def test_outcome(made: pb.HTTPAccessLogEntry, outcome: str) -> None:
    """Status and usage say how the request ended; a retry that succeeded was a misroute all the same."""
    assert observed(made).outcome == outcome


@pytest.mark.parametrize(("reason", "finish"), [("max_tokens", "length"), ("end_turn", "end_turn"), (3.0, None)])
def test_finish_reason(reason: object, finish: str | None) -> None:
    """The reason of Anthropic and Responses answers is read; OpenAI's lies in a list that no filter lifts."""
    assert observed(entry({**USAGE, "finish_reason": reason})).finish_reason == finish


def test_failed_answers_do_not_teach() -> None:
    """Usage in anything but a 2xx answer is not looked at."""
    harness = take(entry(USAGE, status=500))
    assert harness.count("dualpool_observations_total", verdict="no_usage") == 1
    assert harness.learner.snapshot()["ratios"] == []


def test_a_client_that_leaves_teaches_no_length() -> None:
    """What an answer would have become is not known; the prompt is."""
    assert observed(entry(USAGE, disconnected=True)).usage == Usage(100, None)


@pytest.mark.parametrize("flag", sorted(set(pb.ResponseFlags.DESCRIPTOR.fields_by_name)))
def test_an_answer_that_is_cut_teaches_no_length(flag: str) -> None:
    """Whoever cut it: as with a client that leaves. It has failed, unless the client was the one."""
    made = entry(USAGE)
    setattr(made.common_properties.response_flags, flag, True)
    assert observed(made).usage == Usage(100, None)
    end = "disconnected" if flag.startswith("downstream_") else "failed"
    assert take(made).count("dualpool_access_log_entries_total", pool="short", end=end) == 1


def test_an_answer_of_the_larger_pool_may_be_longer_than_the_smaller_holds() -> None:
    """Of a request that the smaller one refused, everything is learned and counted."""
    uncapped = msgspec.structs.replace(REQUEST, cap=None, capacity=90)
    usage = {"prompt_tokens": 100.0, "completion_tokens": 1200.0}
    harness = take(entry(usage, request=uncapped, attempts=2, cluster="long"))
    assert harness.count("dualpool_misroutes_total", pool="short", kind="rejected") == 1
    assert harness.count("dualpool_observations_total", verdict="implausible") == 0
    assert harness.count("dualpool_completion_tokens_total", pool="long", model="m") == 1200


def test_a_client_that_leaves_before_the_answer() -> None:
    """A reset without an error sets no flag, and leaves no status."""
    assert take(entry(status=0)).count("dualpool_access_log_entries_total", pool="short", end="disconnected") == 1
    flagged = entry(status=0)
    flagged.common_properties.response_flags.MergeFromString(PROTOCOL_ERROR)
    assert take(flagged).count("dualpool_access_log_entries_total", pool="short", end="disconnected") == 1


def test_an_http2_stream_that_is_reset_without_an_error_was_cut() -> None:
    """No flag says so, but the last byte of the answer never came."""
    made = entry(USAGE, whole=False)
    assert observed(made).usage == Usage(100, None)
    assert take(made).count("dualpool_access_log_entries_total", pool="short", end="disconnected") == 1


@pytest.mark.parametrize(("whole", "end"), [(False, "disconnected"), (True, "completed")])
def test_an_answer_is_cut_without_its_end_whatever_flag_is_set(whole: bool, end: str) -> None:
    """As when the client breaks HTTP/2: there is a flag, which is none of those that are read."""
    made = entry(USAGE, whole=whole)
    made.common_properties.response_flags.MergeFromString(PROTOCOL_ERROR)
    assert observed(made).usage == Usage(100, 20 if whole else None)
    assert take(made).count("dualpool_access_log_entries_total", pool="short", end=end) == 1


def test_entries_of_requests_that_go_on_are_only_counted() -> None:
    """Envoy can be set to log a request when it comes and while it lasts."""
    made = entry(USAGE)
    made.common_properties.access_log_type = pb.DownstreamPeriodic
    harness = take(made)
    assert harness.count("dualpool_access_log_entries_total", pool="", end="interim") == 1
    assert harness.count("dualpool_request_seconds_count", pool="") == 0
    assert harness.learner.snapshot()["ratios"] == []


@pytest.mark.parametrize(
    "said",
    [{"choices": 0}, {"prompts": -1}, {"capacity": 0}, {"estimate": 10**400}, {"cap": -1}, {"features": "many"}]
    + [{"features": [size, *REQUEST.features[1:]]} for size in (1e308, 2**31 + 1, -1, None)],
)
def test_an_observation_that_nobody_can_have_made_is_none(said: dict[str, Any]) -> None:
    """It costs no other entry its place."""
    impossible = entry(USAGE)
    observation = {**msgspec.to_builtins(REQUEST), **said}
    text = json.dumps(observation)
    impossible.common_properties.metadata.filter_metadata["dualpool"].update({"observation": text})
    assert read(impossible, POOLS).observation is None
    harness = take(impossible, entry(USAGE))
    assert harness.count("dualpool_access_log_entries_total", pool="short", end="completed") == 2
    assert harness.count("dualpool_observations_total", verdict="used") == 1
    assert harness.count("dualpool_observations_total", verdict="unparsable") == 1


def test_an_entry_that_cannot_be_learned_from_costs_no_other(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is counted; the log tells the type of the error, at debug where it was, and nothing of the traffic."""
    harness = Harness()
    learn = harness.learner.estimator.learn

    def fail(observation: Observation) -> Verdict:
        if observation.estimate == 0:
            raise OverflowError(observation.category)
        return learn(observation)

    monkeypatch.setattr(harness.learner.estimator, "learn", fail)
    bad = entry(USAGE, request=msgspec.structs.replace(REQUEST, estimate=0))
    with caplog.at_level("DEBUG"):
        feed(harness.context, message(entry(USAGE), bad, entry(USAGE)))
    assert harness.count("dualpool_access_log_entries_total", pool="short", end="completed") == 3
    assert harness.count("dualpool_observations_total", verdict="used") == 2
    assert harness.count("dualpool_observations_total", verdict="failed") == 1
    assert [record.levelname for record in caplog.records] == ["ERROR", "DEBUG"]
    assert caplog.messages[0] == "an access-log entry cannot be learned from: OverflowError"
    assert "in fail" in caplog.messages[1]
    assert REQUEST.category not in caplog.text


def test_every_entry_teaches_and_is_counted() -> None:
    """Entries received and observations used are the same number, over turns and messages."""
    harness = take(*[entry(USAGE)] * (2 * TURN + 1))
    assert harness.count("dualpool_observations_total", verdict="used") == 2 * TURN + 1
    assert harness.count("dualpool_access_log_entries_total", pool="short", end="completed") == 2 * TURN + 1
    assert harness.count("dualpool_prompt_tokens_total", pool="short", model="m") == 100 * (2 * TURN + 1)
    assert harness.count("dualpool_completion_tokens_total", pool="short", model="m") == 20 * (2 * TURN + 1)


def test_whoever_sees_an_entry_counted_sees_what_it_taught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Metrics are read by another thread meanwhile, so an entry is counted after all else that it does."""
    harness = Harness()
    count = harness.context.metrics.logged
    seen: list[float] = []

    def logged(entry: Logged) -> None:
        seen.append(harness.count("dualpool_observations_total", verdict="used"))
        count(entry)

    monkeypatch.setattr(harness.context.metrics, "logged", logged)
    feed(harness.context, message(*[entry(USAGE)] * 2))
    assert seen == [2, 2]
    assert harness.count("dualpool_access_log_entries_total", pool="short", end="completed") == 2


@pytest.mark.parametrize("unreadable", [{}, {"observation": "of another version"}])
def test_answers_that_came_by_are_not_counted_twice(unreadable: dict[str, str]) -> None:
    """Where answers come by the service as well, an entry tells only how the request ended."""
    harness = Harness()
    said = extproc.ProcessingResponse.FromString(READ_WHOLE).dynamic_metadata.fields["dualpool"].struct_value
    made = entry()
    fields = made.common_properties.metadata.filter_metadata["dualpool"]
    fields.MergeFrom(said)
    fields.update(unreadable)
    feed(harness.context, message(made))
    assert harness.count("dualpool_access_log_entries_total", pool="short", end="completed") == 1
    for verdict in ("no_usage", "unparsable"):
        assert harness.count("dualpool_observations_total", verdict=verdict) == 0


@pytest.mark.parametrize(
    ("cluster", "served"), [("short", "short"), ("long", "long"), ("outbound|80||vllm", "short"), ("", "short")]
)
def test_what_envoy_saw(cluster: str, served: str) -> None:
    """Retries are counted by the pool first sent to, times and tokens by the one that answered, where known."""
    harness = take(entry(USAGE, attempts=3, cluster=cluster))
    assert harness.count("dualpool_upstream_retries_total", pool="short") == 2
    assert harness.count("dualpool_time_to_first_byte_seconds_sum", pool=served) == pytest.approx(0.2)
    assert harness.count("dualpool_request_seconds_sum", pool=served) == pytest.approx(1.5)
    assert harness.count("dualpool_prompt_tokens_total", pool=served, model="m") == 100


@pytest.mark.parametrize(
    ("made", "end"),
    [(entry(request=None), "completed"), (entry(request=None, status=404), "failed")],
)
def test_requests_that_never_came_to_us(made: pb.HTTPAccessLogEntry, end: str) -> None:
    """They are received and counted, and teach nothing."""
    harness = take(made)
    assert harness.count("dualpool_access_log_entries_total", pool="", end=end) == 1
    assert harness.count("dualpool_observations_total", verdict="no_usage") == 0


@pytest.mark.parametrize(("whole", "counted"), [(True, 1), (False, 0)])
def test_tokens_of_requests_that_were_not_read(whole: bool, counted: int) -> None:
    """The pool that answered had them, and they are the longest. What a part of an answer took is not known."""
    harness = take(entry(USAGE, request=None, cluster="long", whole=whole))
    assert harness.count("dualpool_prompt_tokens_total", pool="long", model="") == 100 * counted
    assert harness.count("dualpool_completion_tokens_total", pool="long", model="") == 20 * counted
    assert harness.count("dualpool_observations_total", verdict="used") == 0


@pytest.mark.parametrize(
    ("said", "chosen", "counted"),
    [
        ({"reason": "fits"}, "short", 1),
        ({"pool": "long", "reason": "shadow", "in_proxy": "short"}, "short", 1),
        ({"pool": "long", "reason": "shadow", "chosen": "short"}, "short", 0),  # the service has counted that one
    ],
)
def test_decisions_of_the_proxy_are_counted(said: dict[str, str], chosen: str, counted: int) -> None:
    """What the in-proxy filter decided shows in the same metric as decisions of the service."""
    made = entry(USAGE)
    ours = made.common_properties.metadata.filter_metadata["dualpool"]
    del ours.fields["chosen"]
    ours.update(said)
    harness = take(made)
    labels = {"pool": said.get("pool", "short"), "reason": said["reason"]}
    assert harness.count("dualpool_requests_total", chosen=chosen, **labels) == counted
    assert sum(harness.count("dualpool_requests_total", chosen=each, **labels) for each in POOLS) == counted


def test_models_are_bounded() -> None:
    """However many models answers name, the number of label values has an end."""
    named = [entry(USAGE, request=msgspec.structs.replace(REQUEST, model=f"m{i}")) for i in range(100)]
    harness = take(*named)
    assert harness.count("dualpool_prompt_tokens_total", pool="short", model="other") == 36 * 100


@given(st.binary(max_size=400))
def test_never_raises(junk: bytes) -> None:
    """Whatever is sent is counted, not raised."""
    harness = Harness()
    feed(harness.context, junk)


def test_undecodable() -> None:
    """A message that is not Envoy's is counted."""
    harness = Harness()
    feed(harness.context, b"\xff")
    assert harness.count("dualpool_access_log_undecodable_total") == 1


def test_a_prompt_that_was_cached_whole_is_counted() -> None:
    """Anthropic's input_tokens are 0 then, which is a count."""
    assert observed(entry({"input_tokens": 0.0, "cache_read_input_tokens": 60.0})).usage == Usage(60, None, 60)


def test_a_request_that_was_never_sent_on_is_counted() -> None:
    """No attempt is no retry: Envoy answered by itself, as when no server is there."""
    harness = take(entry(status=503, attempts=0), entry(status=503, attempts=0))
    assert harness.count("dualpool_access_log_entries_total", pool="short", end="failed") == 2
    assert harness.count("dualpool_upstream_retries_total", pool="short") == 0


def test_an_answer_of_envoy_itself_was_not_cut() -> None:
    """No pool has begun it, so none has to end it."""
    made = entry(whole=False)
    made.common_properties.ClearField("time_to_first_upstream_rx_byte")
    assert take(made).count("dualpool_access_log_entries_total", pool="short", end="completed") == 1


def test_a_refusal_without_its_end_is_not_that_of_a_client() -> None:
    """It has failed by its status, with or without an end."""
    harness = take(entry(status=503, whole=False))
    assert harness.count("dualpool_access_log_entries_total", pool="short", end="failed") == 1


def test_a_misroute_that_was_cut_is_a_misroute() -> None:
    """A refusal tells of the request, whatever became of the rest of it."""
    made = entry(status=400)
    made.common_properties.response_flags.upstream_remote_reset = True
    assert take(made).count("dualpool_access_log_entries_total", pool="short", end="rejected") == 1


def test_decisions_of_the_proxy_are_counted_one_by_one() -> None:
    """Also where many of a message are alike."""
    made = entry(USAGE)
    ours = made.common_properties.metadata.filter_metadata["dualpool"]
    del ours.fields["chosen"]
    ours.update({"reason": "fits"})
    harness = take(*[made] * (TURN + 3))
    assert harness.count("dualpool_requests_total", pool="short", chosen="short", reason="fits") == TURN + 3


def test_an_entry_ends_the_request_whose_ticket_it_carries() -> None:
    """It is in its pool no longer."""
    harness = Harness()
    counted = InFlight("service", lambda: 200 * BUCKET_SECONDS)
    tickets = [counted.begin("short") for _ in range(2)]
    made = entry(USAGE)
    made.common_properties.metadata.filter_metadata["dualpool"].update({"ticket": tickets[0]})
    context = msgspec.structs.replace(harness.context, in_flight=counted)
    feed(context, message(made, entry(USAGE)))
    assert counted.tally(60.0) == {"short": {200: (2, 1)}}
