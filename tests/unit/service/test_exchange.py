"""Rules of `extproc.service.exchange`: messages in, answers out, no server."""

import json
import tracemalloc
from typing import Any

import msgspec
import pytest
from google.protobuf.json_format import MessageToDict
from prometheus_client import CollectorRegistry

from extproc.body.bounds import LARGEST_BODY
from extproc.budget.features import text_bytes
from extproc.config import Config
from extproc.metrics import Metrics
from extproc.pb import dualpool_extproc_pb2 as pb
from extproc.routing.in_flight import BUCKET_SECONDS, InFlight
from extproc.routing.router import Head
from extproc.service.answer import ANSWER_LIMIT, Answer
from extproc.service.compose import compose
from extproc.service.exchange import Exchange
from extproc.service.metadata import read_observation
from extproc.service.received import ATTEMPTS
from extproc.service.route_settings import Pairs

MODE = pb.ProcessingMode
CHAT = {":method": "POST", ":path": "/v1/chat/completions"}
POOLS = {"default": [{"name": "short", "capacity": 1000}, {"name": "long", "capacity": 10_000}]}
BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "x" * 300}], "max_tokens": 9}).encode()
USAGE = {"usage": {"prompt_tokens": 64, "completion_tokens": 7}}


class Harness:
    """One exchange, what it answered and what it counted. It estimates by a ratio unless told otherwise."""

    def __init__(self, estimation: dict[str, Any] | None = None, **sections: Any) -> None:
        sections = {"pools": POOLS, "estimation": {"estimator": "ratio", **(estimation or {})}, **sections}
        self.registry = CollectorRegistry()
        core = compose(Config.model_validate(sections), Metrics(self.registry))
        self.learner = core.learner
        self.context = core.context
        self.exchange = Exchange(self.context)

    def take(self, modes: tuple[Any, Any] | None = None, **message: Any) -> bytes | None:
        request = pb.ProcessingRequest(**message)
        if modes is not None:
            request.protocol_config.request_body_mode, request.protocol_config.response_body_mode = modes
        return self.exchange.handle(request.SerializeToString())

    def send(self, modes: tuple[Any, Any] | None = None, **message: Any) -> pb.ProcessingResponse:
        answer = self.take(modes, **message)
        assert answer is not None
        return pb.ProcessingResponse.FromString(answer)

    def ask(self, body: bytes = BODY, end_of_stream: bool = True) -> pb.ProcessingResponse:
        """Send a chat request's headers and body."""
        self.send(request_headers=headers(CHAT))
        return self.send(request_body=pb.HttpBody(body=body, end_of_stream=end_of_stream))

    def count(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0


def headers(values: dict[str, str], end_of_stream: bool = False) -> pb.HttpHeaders:
    pairs = [pb.HeaderValue(key=key, raw_value=value.encode()) for key, value in values.items()]
    return pb.HttpHeaders(headers=pb.HeaderMap(headers=pairs), end_of_stream=end_of_stream)


def answer_headers(content_type: str = "application/json", status: str = "200", **more: str) -> pb.HttpHeaders:
    return headers({":status": status, "content-type": content_type, **more})


def pool(answer: pb.ProcessingResponse) -> str:
    """The pool an answer sends the request to."""
    common = getattr(answer, answer.WhichOneof("response") or "").response
    (option,) = common.header_mutation.set_headers
    assert common.clear_route_cache
    assert option.header.key == "x-token-pool"
    assert option.append_action == pb.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
    raw: bytes = option.header.raw_value
    return raw.decode()


def test_headers_get_the_largest_pool_and_the_body_the_chosen_one() -> None:
    """A cut body keeps the route picked at the headers, so that must be the largest pool."""
    harness = Harness()
    first = harness.send(request_headers=headers(CHAT))
    assert pool(first) == "long"
    assert not first.HasField("dynamic_metadata")
    body = harness.send(request_body=pb.HttpBody(body=BODY, end_of_stream=True))
    assert (body.WhichOneof("response"), pool(body)) == ("request_body", "short")


@pytest.mark.parametrize(("most", "length"), [(97, 1), (10, 6000)])
def test_headers_without_room_for_another_are_left_alone(most: int, length: int) -> None:
    """Envoy takes 100, of 60 KiB together, and would answer 500 to a reply that makes it more."""
    more = {f"x-{n}": "y" * length for n in range(most + 1)}
    assert pool(Harness().send(request_headers=headers(CHAT | dict(list(more.items())[:most])))) == "long"
    harness = Harness()
    reply = harness.send(request_headers=headers(CHAT | more))
    assert not reply.request_headers.HasField("response")
    assert MessageToDict(reply.dynamic_metadata)["dualpool"]["reason"] == "many_headers"
    assert reply.mode_override.request_body_mode == MODE.NONE
    assert harness.exchange.complete


@pytest.mark.parametrize("length", [None, len(BODY), len(BODY) + 1])
def test_a_cut_body_is_long_and_ends_the_exchange(length: int | None) -> None:
    """In BUFFERED_PARTIAL a body without its end is longer than Envoy's buffer, however much of it is there."""
    harness = Harness()
    counted = InFlight("service", lambda: 200 * BUCKET_SECONDS)
    harness.exchange = Exchange(msgspec.structs.replace(harness.context, in_flight=counted))
    announced = {} if length is None else {"content-length": str(length)}
    assert pool(harness.send(request_headers=headers({**CHAT, **announced}))) == "long"
    assert harness.take(request_body=pb.HttpBody(body=BODY, end_of_stream=False)) is None
    assert harness.count("dualpool_requests_total", pool="long", chosen="long", reason="cut") == 1
    assert counted.tally(60.0) == {}  # nobody would say when it has ended


@pytest.mark.parametrize("end", [True, False])
def test_a_cut_body_ends_the_exchange_though_the_headers_decided(end: bool) -> None:
    """Where the filter does not let the service turn bodies off, they come all the same."""
    harness = Harness()
    harness.exchange = Exchange(harness.context, (("dualpool-body", "false"),))
    harness.send(request_headers=headers(CHAT))
    assert harness.exchange.decided
    reply = harness.take(request_body=pb.HttpBody(body=BODY, end_of_stream=end))
    assert (reply is not None) is end


def test_a_buffered_body_before_trailers_is_whole() -> None:
    """In BUFFERED the body is complete even when trailers end the stream."""
    harness = Harness()
    harness.send(
        modes=(MODE.BUFFERED, MODE.NONE),
        request_headers=headers(CHAT),
    )
    assert pool(harness.send(request_body=pb.HttpBody(body=BODY))) == "short"


def test_a_decision_is_timed_and_its_budget_counted() -> None:
    """From the body to its pool; the budget is prompt and cap."""
    harness = Harness()
    clock = iter((1.0, 1.25)).__next__
    harness.exchange = Exchange(msgspec.structs.replace(harness.context, clock=clock))
    harness.ask()
    assert harness.count("dualpool_decision_seconds_sum") == 0.25
    assert harness.count("dualpool_budget_tokens_sum") == 104 + 9


def test_metadata_carries_decision_and_observation() -> None:
    """Everything the learner and an access log need is in namespace dualpool."""
    metadata = Harness().ask().dynamic_metadata.fields["dualpool"].struct_value
    seen = read_observation(metadata.fields)
    assert seen is not None
    assert (seen.model, seen.cap, seen.pool, seen.capacity, text_bytes(seen.features)) == (
        "m",
        9,
        "short",
        1000,
        300,
    )
    shown = MessageToDict(metadata)
    del shown["observation"]
    assert shown == {
        "pool": "short",
        "chosen": "short",
        "reason": "fits",
        "estimate": 104.0,
        "upper": 104.0,
        "source": "prior",
        "reserve": 9.0,
        "reserve_source": "cap",
        "budget": 113.0,
        "model": "m",
        "category": "latin",
    }


@pytest.mark.parametrize(
    ("method", "path", "reason"),
    [("GET", "/v1/models", "unknown_path"), ("POST", "/v1/chat/completions", "no_body")],
)
def test_requests_without_a_body_go_to_the_default_pool(method: str, path: str, reason: str) -> None:
    """There is nothing to estimate: the headers settle it."""
    harness = Harness()
    answer = harness.send(request_headers=headers({":method": method, ":path": path}, end_of_stream=True))
    assert pool(answer) == "long"
    assert harness.count("dualpool_requests_total", pool="long", chosen="long", reason=reason) == 1


@pytest.mark.parametrize("mode", [MODE.NONE, MODE.STREAMED, 77])
def test_modes_that_cannot_route_by_body_go_to_the_default_pool(mode: int) -> None:
    """Where no whole body will come, or its mode is unknown, the headers settle it and what comes passes."""
    harness = Harness()
    answer = harness.send(modes=(mode, MODE.NONE), request_headers=headers(CHAT))
    assert pool(answer) == "long"
    assert harness.count("dualpool_requests_total", pool="long", chosen="long", reason="no_length") == 1
    passed = harness.send(request_body=pb.HttpBody(body=BODY, end_of_stream=True))
    assert passed == pb.ProcessingResponse(request_body=pb.BodyResponse())


@pytest.mark.parametrize("initial", [(), (("dualpool-answers", "false"),)], ids=["usual", "silent"])
def test_duplex_bodies_are_sent_back(initial: Any) -> None:
    """In the duplex mode a body goes on only as the service returns it: the exchange is not over before."""
    harness = Harness()
    harness.exchange = Exchange(harness.context, initial)
    duplex = (MODE.FULL_DUPLEX_STREAMED, MODE.FULL_DUPLEX_STREAMED)
    harness.send(modes=duplex, request_headers=headers(CHAT))
    assert not harness.exchange.complete
    chunk = pb.HttpBody(body=b"abc", end_of_stream=True)
    there = harness.send(request_body=chunk).request_body.response.body_mutation.streamed_response
    back = harness.send(response_body=chunk).response_body.response.body_mutation.streamed_response
    assert (there.body, there.end_of_stream, back.body) == (b"abc", True, b"abc")


@pytest.mark.parametrize("status", ["200", "500"])
def test_duplex_answers_are_sent_back_whether_they_are_read_or_not(status: str) -> None:
    """The exchange goes on until the last of the body has gone back."""
    harness = Harness()
    harness.ask()
    duplex = (MODE.BUFFERED_PARTIAL, MODE.FULL_DUPLEX_STREAMED)
    harness.send(modes=duplex, response_headers=answer_headers(status=status))
    assert not harness.exchange.complete
    harness.send(response_body=pb.HttpBody(body=b"{"))
    harness.send(response_body=pb.HttpBody(body=b"}", end_of_stream=True))
    assert harness.exchange.complete


CHAT_HEADERS = headers({**CHAT, "content-length": "300"})


@pytest.mark.parametrize(
    "modes",
    [None, (MODE.BUFFERED_PARTIAL, MODE.NONE), (MODE.BUFFERED, MODE.STREAMED)],
    ids=["unsaid", "usual", "other"],
)
def test_the_answer_is_asked_for(modes: tuple[Any, Any] | None) -> None:
    """Where it teaches, and with the bodies sent as they would have been."""
    asked = Harness().send(modes=modes, request_headers=CHAT_HEADERS).mode_override
    assert (asked.request_header_mode, asked.response_header_mode) == (MODE.SEND, MODE.SEND)
    assert (asked.request_body_mode, asked.response_body_mode) == (modes or (MODE.BUFFERED_PARTIAL, MODE.NONE))


@pytest.mark.parametrize(
    ("initial", "modes"),
    [
        ((("dualpool-answers", "false"),), None),
        ((), (MODE.FULL_DUPLEX_STREAMED, MODE.NONE)),
        ((), (MODE.BUFFERED_PARTIAL, MODE.FULL_DUPLEX_STREAMED)),
    ],
    ids=["silent", "duplex", "duplex answer"],
)
def test_the_answer_is_not_asked_for(initial: Any, modes: tuple[Any, Any] | None) -> None:
    """Where it is not learned from, and where the modes cannot be changed."""
    harness = Harness()
    harness.exchange = Exchange(harness.context, initial)
    assert not harness.send(modes=modes, request_headers=CHAT_HEADERS).HasField("mode_override")


@pytest.mark.parametrize("modes", [None, (MODE.BUFFERED_PARTIAL, MODE.FULL_DUPLEX_STREAMED)])
def test_an_exchange_without_a_body_is_over_at_once(modes: tuple[Any, Any] | None) -> None:
    """Its answer teaches nothing; only where its body has to be sent back does the exchange go on."""
    harness = Harness()
    models = headers({":method": "GET", ":path": "/v1/models"}, end_of_stream=True)
    assert not harness.send(modes=modes, request_headers=models).HasField("mode_override")
    assert harness.exchange.complete is (modes is None)


def test_a_length_of_thousands_of_digits_is_none() -> None:
    """Envoy lets leading zeros through. The body decides, as where no length is announced."""
    harness = Harness()
    path = {**CHAT, "content-length": f"{len(BODY):05000}"}
    harness.send(request_headers=headers(path))
    assert pool(harness.send(request_body=pb.HttpBody(body=BODY, end_of_stream=True))) == "short"


@pytest.mark.parametrize(
    ("answer", "mode"),
    [
        (answer_headers(), MODE.BUFFERED_PARTIAL),
        (answer_headers("application/json; charset=utf-8"), MODE.BUFFERED_PARTIAL),
        (answer_headers("text/event-stream; charset=utf-8"), MODE.STREAMED),
        (answer_headers("application/problem+json"), MODE.BUFFERED_PARTIAL),
        (answer_headers("application/x-ndjson"), MODE.NONE),
        (answer_headers("application/stream+json"), MODE.NONE),
        (answer_headers("text/html"), MODE.NONE),
        (answer_headers(status="300"), MODE.NONE),
        (answer_headers(status="500"), MODE.NONE),
        (answer_headers(**{"content-encoding": "gzip"}), MODE.NONE),
    ],
)
def test_the_answer_is_read_as_its_headers_suggest(answer: pb.HttpHeaders, mode: int) -> None:
    """JSON is buffered, a stream passes chunk by chunk, and nothing else is sent here."""
    harness = Harness()
    harness.ask()
    got = harness.send(response_headers=answer)
    assert got.mode_override.response_body_mode == mode
    assert got.HasField("mode_override")


@pytest.mark.parametrize(("size", "cut"), [(100, False), (40_000, True)])
def test_a_stream_that_envoy_collects_is_told_from_one_that_it_sends(size: int, cut: bool) -> None:
    """By its pieces: the mode stated is that of a filter whose modes the service may change, or may not."""
    harness = Harness()
    harness.send(modes=(MODE.BUFFERED_PARTIAL, MODE.BUFFERED_PARTIAL), request_headers=headers(CHAT))
    harness.send(request_body=pb.HttpBody(body=BODY, end_of_stream=True))
    harness.send(response_headers=answer_headers("text/event-stream"))
    reply = harness.take(response_body=pb.HttpBody(body=b"data: {}\n\n" * (size // 10)))
    assert (reply is None) is cut


def test_json_usage_is_learned() -> None:
    """The usage of a JSON answer reaches the learner once, with its error against the estimate."""
    harness = Harness()
    harness.ask()
    harness.send(response_headers=answer_headers())
    harness.send(response_body=pb.HttpBody(body=json.dumps(USAGE).encode(), end_of_stream=True))
    harness.exchange.close()
    assert harness.count("dualpool_observations_total", verdict="used") == 1
    errors = "dualpool_estimate_error_ratio_bucket"  # 104 / 64 - 1 is 0.625
    assert harness.count(errors, category="latin", le="0.5") == 0
    assert harness.count(errors, category="latin", le="1.0") == 1
    entries = harness.learner.snapshot()["ratios"]
    assert entries[0]["bytes_per_token"] == 5.0  # 300 bytes, 64 tokens of which 4 are template


@pytest.mark.parametrize("ended", [True, False])
def test_stream_usage_is_learned(ended: bool) -> None:
    """A stream's usage is learned when it ends, or when the exchange does; how long it is only when it ends."""
    harness = Harness()
    harness.ask()
    harness.send(response_headers=answer_headers("text/event-stream"))
    event = b"data: " + json.dumps(USAGE).encode() + b"\n\n"
    for i in range(0, len(event), 11):
        passed = harness.send(response_body=pb.HttpBody(body=event[i : i + 11]))
        assert passed == pb.ProcessingResponse(response_body=pb.BodyResponse())
    if ended:
        harness.send(response_body=pb.HttpBody(end_of_stream=True))
    harness.exchange.close()
    assert harness.count("dualpool_observations_total", verdict="used") == 1
    assert harness.count("dualpool_completion_tokens_total", pool="short", model="m") == (7 if ended else 0)


EVENT = b"data: %b\n\n" % json.dumps(USAGE).encode()


@pytest.mark.parametrize(
    ("content_type", "answer", "known"),
    [
        ("text/event-stream", EVENT + b"data: [DONE]\n\n", True),
        ("text/event-stream", EVENT + b"data: [DONE]", True),
        ("text/event-stream", b'data: {"type":"response.completed","response":%b}\n\n' % EVENT[6:-2], True),
        ("text/event-stream", b'data: {"type":"response.in_progress","response":%b}\n\n' % EVENT[6:-2], False),
        ("application/json", EVENT[6:-2], True),
    ],
    ids=["last event", "cut in it", "last event of Responses", "another of its events", "JSON before trailers"],
)
def test_an_answer_with_nothing_more_to_say_is_as_long_as_it_says(
    content_type: str, answer: bytes, known: bool
) -> None:
    """Clients hang up then, of however many choices it was."""
    harness = Harness()
    harness.ask(BODY[:-1] + b', "n": 2}')
    harness.send(response_headers=answer_headers(content_type))
    harness.take(response_body=pb.HttpBody(body=answer))
    harness.exchange.close()
    assert harness.count("dualpool_completion_tokens_total", pool="short", model="m") == (7 if known else 0)


@pytest.mark.parametrize(
    ("answer", "body", "verdict", "unread"),
    [
        (answer_headers(), b"{}", "no_usage", None),
        (answer_headers(), b"{", "unparsable", None),
        (answer_headers(), b'{"usage":{"prompt_tokens":0}}', "no_usage", None),
        (answer_headers(), b'{"usage":{"prompt_tokens":1000000}}', "implausible", None),
        (answer_headers(), b'{"usage":{"prompt_tokens":-5,"completion_tokens":-1}}', "no_usage", None),
        (answer_headers(), b'{"usage":{"prompt_tokens":1%s}}' % (b"0" * 320), "no_usage", None),
        (answer_headers("text/event-stream"), b"data: {", "no_usage", None),
        (answer_headers("text/event-stream"), b"data: %s\n\n" % (b"x" * (ANSWER_LIMIT + 1)), "unparsable", None),
        (answer_headers("text/event-stream"), b'data: {"usage":{"prompt_tokens":-5}}', "no_usage", None),
        (answer_headers("text/html"), None, "no_usage", "content_type"),
        (answer_headers(status="503"), None, "no_usage", "status"),
        (answer_headers(status="2xx"), None, "no_usage", "status"),
        (answer_headers(**{"content-encoding": "br"}), None, "no_usage", "compressed"),
    ],
)
def test_answers_that_teach_nothing(
    answer: pb.HttpHeaders, body: bytes | None, verdict: str, unread: str | None
) -> None:
    """They are counted by what was wrong, and no ratio moves."""
    harness = Harness()
    harness.ask()
    harness.send(response_headers=answer)
    if body is not None:
        harness.send(response_body=pb.HttpBody(body=body, end_of_stream=True))
    harness.exchange.close()
    assert harness.count("dualpool_observations_total", verdict=verdict) == 1
    assert harness.count("dualpool_unread_answers_total", reason=unread or "") == (1 if unread else 0)
    assert harness.learner.snapshot()["ratios"] == []
    assert harness.count("dualpool_exchanges_in_flight") == 0


def test_a_rejected_misroute_is_counted() -> None:
    """A 400 from a pool that is not the largest is a misroute."""
    harness = Harness()
    harness.ask()
    harness.send(response_headers=answer_headers(status="400"))
    harness.exchange.close()
    assert harness.count("dualpool_misroutes_total", pool="short", kind="rejected") == 1


def test_a_json_answer_in_pieces_is_read_up_to_a_limit() -> None:
    """Where the body mode cannot be overridden, pieces are joined; an endless answer is dropped."""
    harness = Harness()
    harness.send(modes=(MODE.BUFFERED_PARTIAL, MODE.STREAMED), request_headers=headers(CHAT))
    harness.send(request_body=pb.HttpBody(body=BODY, end_of_stream=True))
    assert harness.send(response_headers=answer_headers()).mode_override.response_body_mode == MODE.STREAMED
    tracemalloc.start()
    for _ in range(70):
        harness.send(response_body=pb.HttpBody(body=b"x" * 100_000))
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert kept < 100_000
    harness.send(response_body=pb.HttpBody(end_of_stream=True))
    assert harness.count("dualpool_observations_total", verdict="unparsable") == 1


def test_trailers_end_an_answer() -> None:
    """A stream that ends with trailers is learned at the trailers."""
    harness = Harness()
    harness.ask()
    harness.send(response_headers=answer_headers("text/event-stream"))
    harness.send(response_body=pb.HttpBody(body=b"data: %b\n\n" % json.dumps(USAGE).encode()))
    harness.send(response_trailers=pb.HttpTrailers())
    assert harness.count("dualpool_observations_total", verdict="used") == 1
    assert harness.count("dualpool_completion_tokens_total", pool="short", model="m") == 7


@pytest.mark.parametrize(("missing", "verdict", "tokens"), [(0, "used", 7), (1, "unparsable", 0)])
def test_a_json_answer_without_its_end_closes_the_exchange(missing: int, verdict: str, tokens: int) -> None:
    """It is cut, and then no JSON, or trailers follow; whatever it says is learned."""
    harness = Harness()
    harness.ask()
    harness.send(response_headers=answer_headers())
    body = json.dumps(USAGE).encode()
    assert harness.take(response_body=pb.HttpBody(body=body[: len(body) - missing])) is None
    harness.exchange.close()
    assert harness.count("dualpool_observations_total", verdict=verdict) == 1
    assert harness.count("dualpool_completion_tokens_total", pool="short", model="m") == tokens


@pytest.mark.parametrize(
    "kind",
    [f"{way}_{part}" for way in ("request", "response") for part in ("headers", "body", "trailers")],
)
def test_messages_out_of_order_or_repeated_are_answered(kind: str) -> None:
    """Whatever comes first or twice gets an answer of its kind."""
    harness = Harness()
    for _ in range(2):
        request = pb.ProcessingRequest()
        getattr(request, kind).SetInParent()
        if kind == "request_body":
            request.request_body.end_of_stream = True
        answer = harness.exchange.handle(request.SerializeToString())
        assert pb.ProcessingResponse.FromString(answer or b"").WhichOneof("response") == kind
    harness.exchange.close()
    assert harness.count("dualpool_exchanges_total", end="closed") == 1
    assert harness.count("dualpool_exchanges_in_flight") == 0


@pytest.mark.parametrize(("message", "end"), [(b"", "unknown_message"), (b"\xff\xff\xff", "undecodable")])
def test_unknown_messages_close_the_exchange(message: bytes, end: str) -> None:
    """Closing the stream lets Envoy go on by itself."""
    harness = Harness()
    assert harness.exchange.handle(message) is None
    harness.exchange.close()
    assert harness.count("dualpool_exchanges_total", end=end) == 1
    assert harness.count("dualpool_exchanges_in_flight") == 0


def test_a_fault_of_ours_sends_the_request_long(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An exception in the decision is counted, logged without the traffic at any level, and answered."""
    caplog.set_level("DEBUG")
    harness = Harness()

    def broken(_: Head, body: bytes, *__: Any) -> None:
        raise ValueError(body)

    monkeypatch.setattr(harness.context.router, "decide", broken)
    assert pool(harness.ask()) == "long"
    harness.exchange.close()
    assert harness.count("dualpool_requests_total", pool="long", chosen="long", reason="error") == 1
    assert harness.count("dualpool_exchanges_total", end="failed") == 1
    assert "exchange failed at request_body: ValueError" in caplog.text
    assert "in broken" in caplog.text
    assert "xxx" not in caplog.text


def test_shadow_sends_long_and_counts_the_choice() -> None:
    """What would have been chosen is counted beside what was done."""
    harness = Harness(routing={"shadow": True})
    answer = harness.ask()
    assert pool(answer) == "long"
    assert harness.count("dualpool_requests_total", pool="long", chosen="short", reason="shadow") == 1
    said = answer.dynamic_metadata.fields["dualpool"].struct_value.fields
    assert (said["pool"].string_value, said["chosen"].string_value) == ("long", "short")


def test_bad_route_setting_is_counted() -> None:
    """A setting of the route that is no good is counted by name, and the request is routed without it."""
    harness = Harness()
    harness.exchange = Exchange(harness.context, (("dualpool-pools", "nowhere"), ("dualpool-shadow", "true")))
    harness.ask()
    assert harness.count("dualpool_route_settings_ignored_total", setting="pools") == 1
    assert harness.count("dualpool_requests_total", pool="long", chosen="short", reason="shadow") == 1


@pytest.mark.parametrize(("initial", "complete"), [((), False), ((("dualpool-answers", "false"),), True)])
def test_an_exchange_that_hears_nothing_of_the_answer_is_complete_with_its_decision(
    initial: Pairs, complete: bool
) -> None:
    """What is told by the access log is not waited for."""
    harness = Harness()
    harness.exchange = Exchange(harness.context, initial)
    harness.send(request_headers=headers(CHAT))
    assert not harness.exchange.complete
    harness.send(request_body=pb.HttpBody(body=BODY, end_of_stream=True))
    assert harness.exchange.complete is complete


@pytest.mark.parametrize(
    ("said", "misroutes"), [({}, 1), ({ATTEMPTS: 1.0}, 1), ({ATTEMPTS: 2.0}, 0)], ids=["unsaid", "once", "twice"]
)
def test_a_refusal_by_both_pools_is_no_misroute(said: dict[str, float], misroutes: int) -> None:
    """Envoy says how often it has sent the request on: no pool takes what the larger refused as well."""
    harness = Harness()
    harness.ask()
    refused = pb.ProcessingRequest(response_headers=answer_headers(status="400"))
    refused.attributes["envoy.filters.http.ext_proc"].update(said)
    harness.exchange.handle(refused.SerializeToString())
    harness.exchange.close()
    assert harness.count("dualpool_misroutes_total", pool="short", kind="rejected") == misroutes


def test_headers_may_come_as_text() -> None:
    """Envoy sends bytes, other senders of the protocol text."""
    harness = Harness()
    pairs = [pb.HeaderValue(key=":method", value="GET"), pb.HeaderValue(key=":path", value="/v1/models")]
    harness.send(request_headers=pb.HttpHeaders(headers=pb.HeaderMap(headers=pairs), end_of_stream=True))
    assert harness.count("dualpool_requests_total", pool="long", chosen="long", reason="unknown_path") == 1
    pairs = [pb.HeaderValue(key=":method", value="PUT"), pb.HeaderValue(key=":path", value="/v1/chat/completions")]
    harness.send(request_headers=pb.HttpHeaders(headers=pb.HeaderMap(headers=pairs), end_of_stream=True))
    assert harness.count("dualpool_requests_total", pool="long", chosen="long", reason="not_post") == 1


def test_what_is_decided_is_not_given_up() -> None:
    """A body that has come is not late."""
    harness = Harness()
    harness.ask()
    harness.exchange.give_up()
    assert not harness.exchange.given_up
    assert harness.count("dualpool_requests_total", pool="long", chosen="long", reason="slow") == 0


def broken(*_: Any, **__: Any) -> None:
    raise ValueError


@pytest.mark.parametrize(("method", "kind"), [("decide_early", "request_headers"), ("decide", "request_body")])
def test_a_fault_of_ours_is_answered_in_kind(monkeypatch: pytest.MonkeyPatch, method: str, kind: str) -> None:
    """Envoy ends an exchange that answers its message with one of another kind, and the request with it."""
    harness = Harness()
    monkeypatch.setattr(harness.context.router, method, broken)
    answer = harness.send(request_headers=CHAT_HEADERS)
    if kind == "request_body":
        answer = harness.send(request_body=pb.HttpBody(body=BODY, end_of_stream=True))
    assert (answer.WhichOneof("response"), pool(answer)) == (kind, "long")


def test_a_fault_of_ours_ends_the_exchange_of_a_cut_body(monkeypatch: pytest.MonkeyPatch) -> None:
    """The request would hang if it were answered; nobody would tell of its end."""
    harness = Harness()
    counted = InFlight("service", lambda: 200 * BUCKET_SECONDS)
    harness.exchange = Exchange(msgspec.structs.replace(harness.context, in_flight=counted))
    monkeypatch.setattr(harness.context.router, "decide", broken)
    harness.send(request_headers=CHAT_HEADERS)
    assert harness.take(request_body=pb.HttpBody(body=BODY, end_of_stream=False)) is None
    assert harness.count("dualpool_requests_total", pool="long", chosen="long", reason="error") == 1
    assert counted.tally(60.0) == {}


def test_a_fault_of_ours_ends_the_exchange_of_a_cut_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it would end without the fault."""
    harness = Harness()
    harness.ask()
    harness.send(response_headers=answer_headers())
    monkeypatch.setattr(Answer, "feed", broken)
    assert harness.take(response_body=pb.HttpBody(body=b"{", end_of_stream=False)) is None


def test_a_fault_after_the_decision_decides_nothing_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The request goes on by the route picked at its headers, and is counted once."""
    harness = Harness()
    monkeypatch.setattr(harness.context.replies, "body", broken)
    assert harness.ask() == pb.ProcessingResponse(request_body=pb.BodyResponse())
    assert harness.count("dualpool_requests_total", pool="short", chosen="short", reason="fits") == 1
    assert harness.count("dualpool_requests_total", pool="long", chosen="long", reason="error") == 0


def test_a_fault_after_the_headers_decided_is_answered_in_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    """The request goes its default way."""
    harness = Harness()
    monkeypatch.setattr(harness.context.replies, "headers", broken)
    models = headers({":method": "GET", ":path": "/v1/models"}, end_of_stream=True)
    assert harness.send(request_headers=models) == pb.ProcessingResponse(request_headers=pb.HeadersResponse())


@pytest.mark.parametrize("length", [300, LARGEST_BODY + 1], ids=["read", "oversized"])
def test_the_pools_of_a_route_are_those_of_its_headers_too(length: int) -> None:
    """Whether the body is waited for or not, the largest of the route's own pools comes first."""
    harness = Harness(pools={**POOLS, "other": [{"name": "vast", "capacity": 50_000}]})
    harness.exchange = Exchange(harness.context, (("dualpool-pools", "other"),))
    sent = headers({**CHAT, "content-length": str(length)})
    assert pool(harness.send(request_headers=sent)) == "vast"


def test_a_header_may_hold_bytes_that_are_no_text() -> None:
    """The request is decided as any other."""
    harness = Harness()
    sent = headers({":method": "POST"})
    sent.headers.headers.append(pb.HeaderValue(key=":path", raw_value=b"/\xff/v1/chat/completions"))
    harness.send(request_headers=sent)
    assert pool(harness.send(request_body=pb.HttpBody(body=BODY, end_of_stream=True))) == "short"


def test_a_request_carries_the_ticket_that_its_decision_was_counted_by() -> None:
    """By it the access log tells that the request has left its pool."""
    harness = Harness()
    counted = InFlight("service", lambda: 200 * BUCKET_SECONDS)
    harness.exchange = Exchange(msgspec.structs.replace(harness.context, in_flight=counted))
    ticket = harness.ask().dynamic_metadata.fields["dualpool"].struct_value.fields["ticket"].string_value
    assert counted.tally(60.0) == {"short": {200: (1, 0)}}
    counted.end("short", ticket)
    assert counted.tally(60.0) == {"short": {200: (1, 1)}}


def test_an_answer_without_a_body_ends_the_exchange() -> None:
    """Nothing more comes of it, and nothing is asked for."""
    harness = Harness()
    harness.ask()
    sent = headers({":status": "200", "content-type": "application/json"}, end_of_stream=True)
    assert harness.send(response_headers=sent).mode_override.response_body_mode == MODE.NONE
    assert harness.exchange.complete
    assert harness.count("dualpool_observations_total", verdict="no_usage") == 1


def test_usage_counts_beside_an_event_too_long_to_be_read() -> None:
    """What was skipped takes nothing from what was read."""
    harness = Harness()
    harness.ask()
    harness.send(response_headers=answer_headers("text/event-stream"))
    harness.send(response_body=pb.HttpBody(body=b"data: %b\n\n" % (b"x" * (ANSWER_LIMIT + 1))))
    usage = b"data: %b\n\n" % json.dumps(USAGE).encode()
    harness.send(response_body=pb.HttpBody(body=usage, end_of_stream=True))
    assert harness.count("dualpool_observations_total", verdict="used") == 1


@pytest.mark.parametrize(("more", "verdict"), [(0, "used"), (1, "unparsable")])
def test_an_answer_of_the_limit_is_read(more: int, verdict: str) -> None:
    """To the byte."""
    harness = Harness()
    harness.ask()
    harness.send(response_headers=answer_headers())
    body = json.dumps(USAGE).encode().ljust(ANSWER_LIMIT + more)
    harness.send(response_body=pb.HttpBody(body=body, end_of_stream=True))
    assert harness.count("dualpool_observations_total", verdict=verdict) == 1
