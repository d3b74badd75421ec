"""One Envoy, several routes, models and pools; shadow mode; and taking it all out again."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from extproc.cli import main
from extproc.demo.envoy import BARE, Tree, connection_manager, with_bare_listener
from extproc.demo.pool_server import HOST
from extproc.render.typed import any_of
from tests.envoy.changes import ext_proc
from tests.envoy.client import Reply, chat, send
from tests.envoy.pools import SETS
from tests.envoy.stack import WRONG_PRIOR, Stack, rendered_stack, until

PER_ROUTE = "envoy.extensions.filters.http.ext_proc.v3.ExtProcPerRoute"
MODEL_SETS = {
    "default": {"small": 1024, "middle": 8192, "large": 131_072},
    "coder": {"coder-small": 512, "coder-large": 65_536},
}


def grpc_metadata(**values: str) -> dict[str, Any]:
    """Fields of a route that sets `dualpool-…` initial metadata."""
    pairs = [{"key": f"dualpool-{name.replace('_', '-')}", "value": value} for name, value in values.items()]
    overrides = any_of(PER_ROUTE, {"overrides": {"grpc_initial_metadata": pairs}})
    return {"typed_per_filter_config": {"envoy.filters.http.ext_proc": overrides}}


def text(tokens: int) -> str:
    """Words of about `tokens` tokens."""
    return "hello " * tokens


def add_routes(tree: Tree, prefix: str, **fields: Any) -> None:
    """Put a copy of all routes to pools, below `prefix` and with `fields`, before the others."""
    host = connection_manager(tree)["route_config"]["virtual_hosts"][0]
    routes = copy.deepcopy([route for route in host["routes"] if route["match"]["prefix"] == "/"])
    for route in routes:
        route["name"] = f"{prefix}{route['name']}"
        route["match"]["prefix"] = prefix
        route["route"]["prefix_rewrite"] = "/"
        route.update(fields)
    host["routes"] = [*routes, *host["routes"]]


def change(tree: Tree) -> Tree:
    """Routes that speak to the service, each in its way."""
    asking = ext_proc(tree)
    asking["request_attributes"] = [
        "xds.route_metadata",
        "xds.virtual_host_metadata",
        "xds.listener_metadata",
    ]
    asking["grpc_service"]["initial_metadata"] = [{"key": "dualpool-category", "value": "by-filter"}]
    ours = {"dualpool": {"thresholds": {"small": 10, "middle": 2000}}}
    others = {"other": any_of(PER_ROUTE, {"disabled": True})}
    metadata = {"metadata": {"filter_metadata": ours, "typed_filter_metadata": others}}
    add_routes(tree, "/tight/", **grpc_metadata(thresholds="small=10"))
    add_routes(tree, "/coder/", **grpc_metadata(pools="coder"))
    add_routes(tree, "/quiet/", **grpc_metadata(shadow="true", pools="nowhere"))
    add_routes(tree, "/named/", **grpc_metadata(category="by-route"))
    add_routes(tree, "/own/", **metadata)
    return tree


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    settings = {"models": {"coder": "coder"}}
    with rendered_stack(tmp_path_factory.mktemp("attached"), MODEL_SETS, settings, change=change) as running:
        yield running


@pytest.mark.parametrize(("tokens", "pool"), [(100, "small"), (1500, "middle"), (12_000, "large")])
def test_three_pools_for_a_model(stack: Stack, tokens: int, pool: str) -> None:
    """Of three pools the smallest that holds the budget answers."""
    assert stack.lands(chat(text(tokens), max_tokens=20)) == pool


@pytest.mark.parametrize(("tokens", "pool"), [(50, "coder-small"), (1500, "coder-large")])
def test_a_model_with_pools_of_its_own(stack: Stack, tokens: int, pool: str) -> None:
    """A second model has its own pools and thresholds behind the same Envoy."""
    assert stack.lands({**chat(text(tokens), max_tokens=20), "model": "coder"}) == pool


def test_two_routes_two_thresholds(stack: Stack) -> None:
    """A route that lowers a threshold sends elsewhere what another route of the same Envoy does not."""
    body = chat(text(100), max_tokens=20)
    assert stack.lands(body, path="/v1/chat/completions") == "small"
    assert stack.lands(body, path="/tight/v1/chat/completions") == "middle"


def test_route_metadata(stack: Stack) -> None:
    """A route's own metadata says as much as gRPC metadata, whatever it says to others."""
    path = "/own/v1/chat/completions"
    assert stack.lands(chat(text(100), max_tokens=20), path=path) == "middle"
    assert stack.lands(chat(text(3000), max_tokens=20), path=path) == "large"


def test_the_filters_own_metadata(stack: Stack) -> None:
    """Initial metadata of the filter holds for every route that does not say otherwise."""
    for path in ("/v1/chat/completions", "/named/v1/chat/completions"):
        assert stack.lands(chat("hello", max_tokens=20), path=path) == "small"
    until(lambda: all(f'category="{name}"' in stack.service.get("/metrics") for name in ("by-filter", "by-route")))


def test_a_route_with_a_pool_set(stack: Stack) -> None:
    """A route's pool set is used whatever the model, for what is understood and for what is not."""
    path = "/coder/v1/chat/completions"
    assert stack.lands(chat("hello", max_tokens=20), path=path) == "coder-small"
    assert stack.reached(stack.send(b"no JSON", path=path)) == ["coder-large"]


def test_a_bad_value_is_counted_and_ignored(stack: Stack) -> None:
    """A pool set that does not exist is counted; what else the route says still holds."""
    assert stack.lands(chat("hello", max_tokens=20), path="/quiet/v1/chat/completions") == "large"
    assert 'dualpool_route_settings_ignored_total{setting="pools"}' in stack.service.get("/metrics")


@pytest.mark.parametrize("place", ["virtual host", "listener"])
def test_metadata_of_what_routes_have_in_common(tmp_path: Path, place: str) -> None:
    """A virtual host or a listener can speak for all its routes."""

    def shadow(tree: Tree) -> Tree:
        listener, manager = tree["static_resources"]["listeners"][0], connection_manager(tree)
        attributes = ["xds.virtual_host_metadata", "xds.listener_metadata"]
        ext_proc(tree)["request_attributes"] = attributes
        holder = listener if place == "listener" else manager["route_config"]["virtual_hosts"][0]
        holder["metadata"] = {"filter_metadata": {"dualpool": {"shadow": True}}}
        return tree

    with rendered_stack(tmp_path, SETS, change=shadow) as running:
        assert running.lands(chat("hello", max_tokens=20)) == "long"
        (counted,) = running.service.state()["requests"]
        assert (counted["chosen"], counted["reason"]) == ("short", "shadow")


def test_a_misroute_goes_to_the_largest_of_three(tmp_path: Path) -> None:
    """What the smallest of three pools refuses is answered by the largest, whoever is between."""
    with rendered_stack(tmp_path, {"default": MODEL_SETS["default"]}, WRONG_PRIOR) as running:
        reply = running.send(chat("a1 b2 c3 d4 " * 250, max_tokens=10))
        assert (reply.status, running.reached(reply)) == (200, ["small", "large"])


BODIES = [
    chat("hello", max_tokens=20),
    chat(text(3000), max_tokens=20),
    chat("hello", max_tokens=20, stream=True, stream_options={"include_usage": True}),
    chat("hello"),
    b"no JSON",
]

VOLATILE = {"date", "x-envoy-upstream-service-time", "x-request-id"}


def seen(reply: Reply) -> tuple[int, dict[str, str], bytes]:
    """What a client can compare of an answer."""
    return reply.status, {k: v for k, v in reply.headers.items() if k not in VOLATILE}, reply.body


def test_shadow_mode_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In shadow mode every request goes where it went, every answer is the same to the byte, and what is counted is
    enough for a plan."""
    with rendered_stack(tmp_path, SETS, {"routing": {"shadow": True}}, change=with_bare_listener) as shadow:
        for body in BODIES:
            through, past = shadow.send(body), send(f"http://{HOST}:{shadow.envoy.ports[BARE]}", body)
            assert seen(through) == seen(past)
            assert shadow.reached(through) == shadow.reached(past) == ["long"]
        counted = 'dualpool_requests_total{chosen="short",pool="long",reason="shadow"} 2.0'
        assert counted in shadow.service.get("/metrics")
        metrics = f"http://{shadow.service.admin}/metrics"
        assert main(["plan", metrics, "--rate", "10", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["workload"]["rows"] == 3  # one body cannot be read, and one has no cap yet
    assert plan["problems"] == []
    assert plan["chosen"]["thresholds"]


def test_without_the_filter_traffic_is_as_it_was(tmp_path: Path) -> None:
    """The filter taken out of the rendered configuration: every request is answered by the long pool."""

    def without_filter(tree: Tree) -> Tree:
        filters = connection_manager(tree)["http_filters"]
        filters[:] = [f for f in filters if f["name"] != "envoy.filters.http.ext_proc"]
        return tree

    with rendered_stack(tmp_path, SETS, change=without_filter) as running:
        for body in BODIES:
            reply = running.send(body, headers={"x-token-pool": "short"})
            assert running.reached(reply) == ["long"]
        assert running.service.state()["requests"] == []
