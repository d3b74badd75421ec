"""Rules of `extproc.service.exchange` without a body, early, and with sampled answers."""

from typing import Any

import msgspec
import pytest
from google.protobuf.struct_pb2 import Struct

from extproc.body.bounds import LARGEST_BODY
from extproc.body.usage import Usage
from extproc.budget.observation import Observation
from extproc.pb import dualpool_extproc_pb2 as pb
from extproc.service.exchange import Exchange
from extproc.service.metadata import read_observation
from extproc.service.received import ATTEMPTS
from tests.unit.service.test_exchange import BODY, CHAT, MODE, POOLS, Harness, answer_headers, headers, pool

SEEN = {"json": True, "model": "m", "max_tokens": 9.0}


def ask(
    harness: Harness, lifted: dict[str, Any] | None, length: str = "", attributes: dict[str, Any] | None = None
) -> pb.ProcessingResponse:
    """Send headers of a request whose body stays in Envoy."""
    context = pb.Metadata()
    if lifted is not None:
        context.filter_metadata["dualpool.request"].update(lifted)
    sent = headers({**CHAT, "content-length": length} if length else CHAT)
    request = pb.ProcessingRequest(request_headers=sent, metadata_context=context)
    if attributes:
        request.attributes["envoy.filters.http.ext_proc"].update(attributes)
    request.protocol_config.request_body_mode = MODE.NONE
    answer = harness.exchange.handle(request.SerializeToString())
    assert answer is not None
    return pb.ProcessingResponse.FromString(answer)


def test_headers_decide() -> None:
    """With what was lifted and a length, the answer to the headers is the decision and its metadata."""
    harness = Harness()
    answer = ask(harness, SEEN, "300")
    assert pool(answer) == "short"
    assert answer.mode_override.response_header_mode == MODE.SEND  # the answer is asked for
    assert answer.mode_override.request_body_mode == MODE.NONE
    assert not harness.exchange.complete
    seen = read_observation(answer.dynamic_metadata.fields["dualpool"].struct_value.fields)
    assert seen is not None
    assert (seen.basis, seen.cap, sum(seen.features)) == ("raw", 9, 300)


def test_request_size_stands_in_for_content_length() -> None:
    """A chunked request has no content-length; Envoy's attribute says how long it is."""
    assert pool(ask(Harness(), SEEN, attributes={"request.size": 300.0})) == "short"


@pytest.mark.parametrize(
    ("lifted", "length", "reason"),
    [(None, "300", "not_json"), ({}, "300", "not_json"), (SEEN, "", "no_length"), (SEEN, "many", "no_length")],
)
def test_unknown_goes_long(lifted: dict[str, Any] | None, length: str, reason: str) -> None:
    """No lifted metadata, no JSON or no length: the long pool, and the reason is counted.

    A size of 0 is no length: nothing has arrived yet.
    """
    harness = Harness()
    assert pool(ask(harness, lifted, length, attributes={"request.size": 0.0})) == "long"
    assert harness.count("dualpool_requests_total", pool="long", chosen="long", reason=reason) == 1


def test_an_oversized_body_is_not_asked_for() -> None:
    """By its length it cannot be short: the headers get the last word, and neither body is sent here."""
    harness = Harness()
    answer = harness.send(request_headers=headers({**CHAT, "content-length": str(LARGEST_BODY + 1)}))
    assert pool(answer) == "long"
    assert answer.mode_override.request_body_mode == MODE.NONE
    assert answer.mode_override.response_header_mode == MODE.SKIP
    body = harness.send(request_body=pb.HttpBody(body=BODY, end_of_stream=True))  # the override was not allowed
    assert not body.request_body.HasField("response")
    assert harness.count("dualpool_requests_total", pool="long", chosen="long", reason="oversized") == 1


def sampled(
    percent: float, draw: float, settled: bool, attempts: int | None = None, status: str = "200"
) -> tuple[Harness, pb.ProcessingResponse]:
    """Ask with learned or prior figures, then send the head of an answer."""
    harness = Harness(pools=POOLS, estimation={"min_samples": 1})
    harness.context = msgspec.structs.replace(harness.context, answers_percent=percent, draw=lambda: draw)
    if settled:
        harness.learner.learn(msgspec.structs.replace(observed(harness), usage=Usage(prompt_tokens=64)))
    harness.exchange = Exchange(harness.context)
    harness.ask()
    said = Struct()
    if attempts is not None:
        said.update({ATTEMPTS: attempts})
    return harness, harness.send(
        response_headers=answer_headers(status=status), attributes={"envoy.filters.http.ext_proc": said}
    )


@pytest.mark.parametrize("estimator", ["linear", "ratio"])
def test_what_is_new_is_not_settled(estimator: str) -> None:
    """Whatever is known of others, and assumed of it meanwhile: so its answers are all read."""
    harness = Harness(pools=POOLS, estimation={"min_samples": 1, "estimator": estimator})
    known = msgspec.structs.replace(observed(harness), usage=Usage(prompt_tokens=64))
    harness.learner.learn(known)
    assert harness.learner.is_settled(known)
    assert not harness.learner.is_settled(msgspec.structs.replace(known, model="new"))
    assert not harness.learner.is_settled(msgspec.structs.replace(known, cap=None))
    assert harness.learner.is_settled(msgspec.structs.replace(known, model="new", teaches=False))


def observed(harness: Harness) -> Observation:
    """The observation of a request like the one asked."""
    metadata = harness.ask().dynamic_metadata
    seen = read_observation(metadata.fields["dualpool"].struct_value.fields)
    assert seen is not None
    return seen


@pytest.mark.parametrize(
    ("percent", "draw", "settled", "mode"),
    [
        (10, 0.05, True, MODE.BUFFERED_PARTIAL),
        (10, 0.15, True, MODE.NONE),
        (10, 0.15, False, MODE.BUFFERED_PARTIAL),
        (100, 0.999, True, MODE.BUFFERED_PARTIAL),
        (0, 0.0, True, MODE.NONE),
    ],
)
def test_a_share_of_answers_is_read(percent: float, draw: float, settled: bool, mode: int) -> None:
    """Until a category has settled every answer is read, then the configured share."""
    harness, answer = sampled(percent, draw, settled)
    assert answer.mode_override.response_body_mode == mode
    assert harness.count("dualpool_unread_answers_total", reason="sampling") == (mode == MODE.NONE)
    harness.exchange.close()
    assert harness.count("dualpool_observations_total", verdict="no_usage") == (mode != MODE.NONE)


@pytest.mark.parametrize(("attempts", "mode"), [(1, MODE.NONE), (2, MODE.BUFFERED_PARTIAL)])
def test_an_answer_after_a_retry_is_always_read(attempts: int, mode: int) -> None:
    """Its usage alone shows that the request did not fit the pool it was sent to first."""
    _, answer = sampled(0, 0.0, True, attempts)
    assert answer.mode_override.response_body_mode == mode


def test_a_refusal_counts_whatever_share_of_answers_is_read() -> None:
    """Its status alone tells that the request did not fit."""
    harness, _ = sampled(0, 0.0, True, status="400")
    assert harness.count("dualpool_misroutes_total", pool="short", kind="rejected") == 1
    assert harness.count("dualpool_unread_answers_total", reason="status") == 1


@pytest.mark.parametrize(("answer_body", "over"), [(MODE.NONE, True), (MODE.FULL_DUPLEX_STREAMED, False)])
def test_an_oversized_exchange_is_over_unless_bodies_are_to_be_sent_back(answer_body: Any, over: bool) -> None:
    """As any other that teaches nothing."""
    harness = Harness()
    sent = headers({**CHAT, "content-length": str(LARGEST_BODY + 1)})
    harness.send(modes=(MODE.BUFFERED_PARTIAL, answer_body), request_headers=sent)
    assert harness.exchange.complete is over
