"""Istio's manifests, merged as Istio merges them, in a real Envoy."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from extproc.config import Config
from extproc.demo.pool import Behaviour, Pool
from extproc.demo.pool_server import HOST, PoolServer
from extproc.render.layout import Options
from extproc.render.target import render
from tests.envoy.client import chat
from tests.envoy.istio import gateway
from tests.envoy.pools import POOLS, Pools
from tests.envoy.stack import WRONG_PRIOR, Stack, running

HOSTS = {"short": "vllm-short.llm.svc.cluster.local", "long": "vllm-long.llm.svc.cluster.local"}
OPTIONS: dict[str, Options] = {
    "body": Options(namespace="llm"),
    "bodyless, access log": Options(namespace="llm", exchange="bodyless", usage="access-log"),
}


@pytest.fixture(params=OPTIONS)
def stack(request: pytest.FixtureRequest, tmp_path: Path, pools: Pools) -> Iterator[Stack]:
    """The gateway with another application on it (the pool `shop`), the service and the pools."""
    sets = [{**pool, "endpoints": [f"{HOSTS[str(pool['name'])]}:8000"]} for pool in POOLS["default"]]
    config = Config.model_validate({"pools": {"default": sets}})
    texts = render("istio", config, OPTIONS[request.param])
    documents = {d["kind"]: d for text in texts.values() for d in yaml.safe_load_all(text)}
    servers = {HOSTS[name]: (HOST, server.port) for name, server in pools.items()}
    with PoolServer(Pool("shop", 10)) as shop:
        tree = gateway(documents, servers, (HOST, shop.port))
        with running(tmp_path, pools, {"pools": POOLS, **WRONG_PRIOR}, tree) as stack:
            yield stack


def test_it_routes_and_retries(stack: Stack) -> None:
    """By budget, whatever header the client sends; what the short pool refuses is answered by the long one."""
    assert stack.lands(chat("How are you?", max_tokens=10), headers={"x-token-pool": "long"}) == "short"
    assert stack.lands(chat("word " * 8000, max_tokens=10)) == "long"
    misrouted = stack.send(chat("a1 b2 c3 d4 " * 500, max_tokens=10))
    assert (misrouted.status, stack.reached(misrouted)) == (200, ["short", "long"])


def test_other_applications_of_the_gateway_are_left_alone(stack: Stack) -> None:
    """A route that is not Dualpool's, with the name of a pool even, is neither asked about nor changed."""
    reply = stack.send(b"x", path="/shop/cart")
    assert (reply.status, stack.reached(reply)) == (404, [])
    assert reply.headers["server"] == "envoy"
    assert stack.service.state()["requests"] == []


def test_without_the_service_everything_goes_long(stack: Stack) -> None:
    """The service gone, every request is answered."""
    stack.service.process.stop()
    assert stack.lands(chat("How are you?", max_tokens=10), headers={"x-token-pool": "short"}) == "long"


def test_embeddings_of_any_size_pass(stack: Stack, pools: Pools) -> None:
    """A big answer on such a path is read by no filter."""
    pools.behave(Behaviour(padding=20_000_000))
    body: dict[str, Any] = {"model": "m", "input": "hello"}
    reply = stack.send(body, path="/v1/embeddings")
    assert reply.status == 200
    assert len(reply.body) > 20_000_000
