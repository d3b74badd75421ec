"""What lives on from one configuration to the next."""

import json
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from extproc.config import Config
from extproc.metrics import Metrics
from extproc.pb import dualpool_extproc_pb2 as pb
from extproc.routing.router import Head, in_rollout
from extproc.routing.spillover import Level
from extproc.service.compose import compose
from extproc.service.exchange import Exchange
from tests.unit.service.test_exchange import BODY, headers, pool

CHAT = Head(method="POST", path="/v1/chat/completions")


def body(size: int) -> bytes:
    return json.dumps({"messages": [{"content": "word " * size}], "max_tokens": 1, "user": "u"}).encode()


def test_a_conversation_that_has_gone_long_stays_long_after_a_reload() -> None:
    """Every step of a roll-out is a reload: none is to send conversations back."""
    config = Config.model_validate({"routing": {"sticky_long": True}})
    metrics = Metrics(CollectorRegistry())
    before = compose(config, metrics)
    assert before.router.decide(CHAT, body(10_000), whole=True).pool.name == "long"
    after = compose(config.model_copy(deep=True), metrics, before.learner, pool_state=before.pool_state)
    assert after.router.decide(CHAT, body(1), whole=True).reason == "sticky"


@pytest.mark.parametrize(
    ("pools", "reason"),
    [
        (
            [{"name": "short", "capacity": 4096, "endpoints": ["vllm:8000"]}, {"name": "long", "capacity": 9999}],
            "sticky",
        ),
        ([{"name": name, "capacity": c} for name, c in (("s", 99), ("m", 999), ("long", 131_072))], "sticky"),
        ([{"name": "short", "capacity": 8192}, {"name": "huge", "capacity": 131_072}], "fits"),
    ],
)
def test_it_stays_as_long_as_its_pool(pools: list[dict[str, Any]], reason: str) -> None:
    """Its cache is there, whatever servers and smaller pools come and go."""
    config = Config.model_validate({"routing": {"sticky_long": True}})
    metrics = Metrics(CollectorRegistry())
    before = compose(config, metrics)
    assert before.router.decide(CHAT, body(10_000), whole=True).pool.name == "long"
    changed = Config.model_validate({"pools": {"default": pools}, "routing": {"sticky_long": True}})
    after = compose(changed, metrics, before.learner, pool_state=before.pool_state)
    assert after.router.decide(CHAT, body(1), whole=True).reason == reason


def test_requests_in_flight_are_counted_anew_when_spillover_is_turned_on_again() -> None:
    """Their ends were not counted meanwhile: they would seem to be in their pool for ten minutes more."""
    counting = Config.model_validate({"spillover": {"enabled": True, "requests": {"short": 9, "long": 9}}})
    metrics = Metrics(CollectorRegistry())
    core = compose(counting, metrics)
    core.pool_state.in_flight.begin("short")
    core = compose(counting.model_copy(deep=True), metrics, core.learner, pool_state=core.pool_state)
    assert core.pool_state.in_flight.tally(600)["short"]
    for config in (Config(), counting):
        core = compose(config, metrics, core.learner, pool_state=core.pool_state)
    assert not core.pool_state.in_flight.tally(600)


def test_a_reload_that_turns_spillover_off_takes_effect_at_once() -> None:
    """The next look at the pools may be a minute away."""
    on = Config.model_validate({"spillover": {"enabled": True, "requests": {"short": 1, "long": 1}}})
    metrics = Metrics(CollectorRegistry())
    before = compose(on, metrics)
    before.pool_state.board.levels = {"short": Level(saturated=True, pressure=1), "long": Level(pressure=0)}
    assert before.router.decide(CHAT, body(1), whole=True).pool.name == "long"
    after = compose(Config(), metrics, before.learner, pool_state=before.pool_state)
    assert after.router.decide(CHAT, body(1), whole=True).pool.name == "short"


@pytest.mark.parametrize(
    ("sections", "anew"),
    [
        ({"routing": {"rollout_percent": 5}}, False),
        ({"spillover": {"leave": 0.5}}, False),
        ({"estimation": {"misroute_percent": 1}}, True),
        ({"output": {"quantile": 0.9}}, True),
        ({"categories": {"limit": 8}}, True),
        ({"pools": {"default": [{"name": "short", "capacity": 99}, {"name": "long", "capacity": 999}]}}, True),
    ],
)
def test_a_reload_builds_estimators_anew_only_if_it_concerns_them(sections: dict[str, Any], anew: bool) -> None:
    """That takes its time with thousands of models. Either way it is a change, to the in-proxy filter at least."""
    metrics = Metrics(CollectorRegistry())
    learner = compose(Config(), metrics).learner
    before, changes = learner.output, learner.changes
    for _ in range(2):  # the second is the same again
        compose(Config.model_validate(sections), metrics, learner)
        assert (learner.output is not before) == anew
        assert learner.changes > changes
        before, changes, anew = learner.output, learner.changes, False


def asked(config: dict[str, Any], more: dict[str, str], body: bytes = BODY) -> pb.ProcessingResponse:
    """Send a chat request with `more` headers to a service of `config`, and return the answer to its body."""
    core = compose(Config.model_validate(config), Metrics(CollectorRegistry()))
    exchange = Exchange(core.context)
    head = headers({":method": "POST", ":path": "/v1/chat/completions", **more})
    exchange.handle(pb.ProcessingRequest(request_headers=head).SerializeToString())
    sent = pb.ProcessingRequest(request_body=pb.HttpBody(body=body, end_of_stream=True))
    return pb.ProcessingResponse.FromString(exchange.handle(sent.SerializeToString()) or b"")


@pytest.mark.parametrize(("header", "named"), [("x-request-id", None), ("x-chat", "x-chat")])
def test_the_roll_out_goes_by_headers(header: str, named: str | None) -> None:
    """By the conversation's, where one is configured, else by the request's id: some are in and some are out."""
    config = {"routing": {"rollout_percent": 50, "conversation_header": named}}
    landed = [pool(asked(config, {header: f"c{i}"})) for i in range(20)]
    assert landed == ["short" if in_rollout(f"c{i}", 50) else "long" for i in range(20)]


@pytest.mark.parametrize(
    ("sources", "category"), [(["model", "header", "content"], "agents"), (["model", "content"], "latin")]
)
def test_a_header_names_the_category_where_that_is_asked_for(sources: list[str], category: str) -> None:
    """The header is the configured one, and nobody's where headers are no source."""
    config = {"categories": {"sources": sources, "header": "x-kind", "allowed": ["agents"]}}
    fields = asked(config, {"x-kind": "agents"}).dynamic_metadata.fields["dualpool"].struct_value.fields
    assert fields["category"].string_value == category


def composed(**sections: Any) -> Any:
    return compose(Config.model_validate(sections), Metrics(CollectorRegistry())).context


def test_the_share_of_answers_is_the_configured_one() -> None:
    """All by default."""
    assert composed().answers_percent == 100
    assert composed(estimation={"answers_percent": 5}).answers_percent == 5


def test_pools_of_every_set_are_known_by_name() -> None:
    """By it the access log tells which pool answered."""
    sets = {"default": [{"name": "a", "capacity": 99}], "coder": [{"name": "b", "capacity": 99}]}
    assert composed(pools=sets).pool_names == {"a", "b"}


@pytest.mark.parametrize("enabled", [True, False])
def test_requests_are_counted_where_spillover_asks_for_it(enabled: bool) -> None:
    """A ticket for each request is no use to anybody else."""
    found = composed(spillover={"enabled": enabled, "requests": {"short": 9, "long": 9}}).in_flight
    assert (found is not None) is enabled
