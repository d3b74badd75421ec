"""Each way to exchange, through a real Envoy: where requests land, and what is learned of every one of them."""

import http.client
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from extproc.config import Config
from extproc.demo.envoy import Tree
from extproc.demo.envoy import http as manager_of
from extproc.demo.pool import Behaviour
from extproc.render.layout import Exchange, Options
from extproc.render.target import render
from tests.envoy.attached import Attached, attached
from tests.envoy.client import CHAT, chat
from tests.envoy.stack import default_is_short, until

SETS = {"default": {"short": 2048, "long": 131_072}}
LOGGED: tuple[Exchange, ...] = ("body", "bodyless", "in-proxy")
ENTRIES = "dualpool_access_log_entries_total"
OBSERVATIONS = "dualpool_observations_total"

Start = Callable[..., Attached]


def short_by_default(tree: Tree) -> Tree:
    """Both changes at once."""
    return hasty_log(default_is_short(tree))


def hasty_log(tree: Tree) -> Tree:
    """Entries are sent at once: a test need not wait a second for each."""
    for log in manager_of(tree["static_resources"]["listeners"][0])["access_log"]:
        log["typed_config"]["common_config"]["buffer_flush_interval"] = "0.05s"
    return tree


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a stack in one of the modes, the seed of the in-proxy filter in place."""
    with ExitStack() as stack:

        def begin(exchange: Exchange, change: Callable[[Tree], Tree] = hasty_log, **settings: Any) -> Attached:
            file = tmp_path / "filter" / "in-proxy.yaml"
            file.parent.mkdir()
            in_proxy = {"file": str(file), "interval_seconds": 0.1} if exchange == "in-proxy" else {}
            whole = {"pools": named_pools(), "in_proxy": in_proxy, **settings}
            file.write_text(render("in-proxy-filter", Config.model_validate(whole), Options())["in-proxy.yaml"])
            options = Options(exchange=exchange, usage="access-log", envoy=(1, 38))
            settings = {"in_proxy": in_proxy, **settings}
            return stack.enter_context(attached(tmp_path / "run", SETS, settings, options, change))

        yield begin


def named_pools() -> dict[str, list[dict[str, Any]]]:
    return {
        name: [{"name": n, "capacity": c, "endpoints": ["127.0.0.1:1"]} for n, c in pools.items()]
        for name, pools in SETS.items()
    }


def count(stack: Attached, name: str, **labels: str) -> float:
    """Sum a metric of the service over the series that have `labels`."""
    total = 0.0
    for line in stack.service.get("/metrics").splitlines():
        if line.startswith(f"{name}{{") and all(f'{key}="{value}"' in line for key, value in labels.items()):
            total += float(line.rpartition(" ")[2])
    return total


def arrived(stack: Attached, entries: int) -> None:
    """Wait until the service has received so many access-log entries."""
    until(lambda: count(stack, ENTRIES) >= entries)
    assert count(stack, ENTRIES) == entries


@pytest.mark.parametrize("exchange", LOGGED)
def test_requests_land_and_each_teaches(start: Start, exchange: Exchange) -> None:
    """Short and long requests, plain and streamed, land where they belong, and every answer is learned from."""
    stack = start(exchange, short_by_default)
    short = chat("word " * 200, max_tokens=50)
    long = chat("word " * 3000, max_tokens=50)
    for body, pool in ((short, "short"), (long, "long")) * 3:
        assert stack.lands(body) == pool
        assert stack.lands({**body, "stream": True, "stream_options": {"include_usage": True}}) == pool
    arrived(stack, 12)
    assert count(stack, OBSERVATIONS, verdict="used") + count(stack, OBSERVATIONS, verdict="outlier") == 12
    assert count(stack, "dualpool_prompt_tokens_total", pool="long", model="m") > 6 * 2000
    learned = stack.service.state()["learned"]
    assert (bool(learned["linear"]), bool(learned["ratios"])) == (exchange == "body", exchange != "body")


@pytest.mark.parametrize("exchange", ["bodyless", "in-proxy"])
def test_what_the_filters_do_not_understand_goes_long(start: Start, exchange: Exchange) -> None:
    """No JSON, no length, other types and other requests: the long pool, whatever the default route is."""
    stack = start(exchange, short_by_default)
    good = chat("word " * 20, max_tokens=50)
    assert stack.lands(good) == "short"
    for body, headers in ((b"{", {}), (json.dumps(good).encode(), {"content-type": "text/plain"})):
        reply = stack.send(body, headers=headers)
        assert stack.reached(reply) == ["long"], body
    assert stack.reached(stack.send({**good, "max_tokens": "many"})) == ["long"]
    assert stack.reached(stack.send(None, method="GET", path="/v1/models")) == ["long"]


@pytest.mark.parametrize("exchange", ["bodyless", "in-proxy"])
def test_chunked_requests(start: Start, exchange: Exchange) -> None:
    """A body whose length nobody announced is measured by Envoy."""
    stack = start(exchange, short_by_default)
    parts = urlsplit(stack.envoy.url)
    body = json.dumps(chat("word " * 200, max_tokens=50)).encode()
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=30)
    headers = {"content-type": "application/json", "x-marker": "chunked"}
    connection.request("POST", CHAT, iter((body[:100], body[100:])), headers, encode_chunked=True)
    assert connection.getresponse().status == 200
    connection.close()
    (received,) = [r for r in stack.servers["short"].pool.received if r.headers.get("x-marker") == "chunked"]
    assert received.size == len(body)


@pytest.mark.parametrize("exchange", LOGGED)
def test_how_requests_end(start: Start, exchange: Exchange) -> None:
    """A 5xx, an answer without usage and a retried misroute are each counted as what they are."""
    stack = start(exchange, estimation={"estimator": "ratio", "prior_bytes_per_token": 12})
    pools = stack.servers
    pools["short"].pool.behaviour = Behaviour(status=503)
    assert stack.send(chat("hello", max_tokens=5)).status == 503
    pools["short"].pool.behaviour = Behaviour(usage=False)
    assert stack.send(chat("hello", max_tokens=5)).status == 200
    pools["short"].pool.behaviour = Behaviour()
    misrouted = stack.send(chat("word " * 2500, max_tokens=5))
    assert (misrouted.status, stack.reached(misrouted)) == (200, ["short", "long"])
    arrived(stack, 3)
    assert count(stack, ENTRIES, pool="short", end="failed") == 1
    assert count(stack, ENTRIES, pool="short", end="completed") == 1
    assert count(stack, ENTRIES, pool="short", end="rejected") == 1
    assert count(stack, OBSERVATIONS, verdict="no_usage") == 2
    assert count(stack, "dualpool_upstream_retries_total", pool="short") == 1
    assert count(stack, "dualpool_misroutes_total", pool="short", kind="rejected") == 1


@pytest.mark.parametrize("exchange", LOGGED)
def test_a_client_that_leaves(start: Start, exchange: Exchange) -> None:
    """A client that hangs up in the middle of its answer is counted as that, and teaches no length."""
    stack = start(exchange)
    parts = urlsplit(stack.envoy.url)
    body = json.dumps({**chat("hello", max_tokens=1000), "stream": True}).encode()
    head = (
        f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    for server in stack.servers.values():
        server.pool.behaviour = Behaviour(pace=0.05)
    with socket.create_connection((parts.hostname, parts.port or 0), timeout=30) as client:
        client.sendall(head.encode() + body)
        assert client.recv(64).startswith(b"HTTP/1.1 200")
    arrived(stack, 1)
    assert count(stack, ENTRIES, end="disconnected") == 1
    assert count(stack, "dualpool_completion_tokens_total") == 0


@pytest.mark.parametrize("path", ["/v1/embeddings", CHAT])
def test_a_big_answer_arrives(start: Start, path: str) -> None:
    """Ten megabytes of JSON pass the filters, embeddings unread and chat answers within the limit."""
    stack = start("body")
    for server in stack.servers.values():
        server.pool.behaviour = Behaviour(padding=10_000_000)
    body = {"model": "m", "input": "hello"} if path != CHAT else chat("hello", max_tokens=5)
    reply = stack.send(body, path=path)
    assert reply.status == 200
    assert len(reply.body) > 10_000_000


def test_in_proxy_goes_on_without_the_service(start: Start) -> None:
    """The service gone, requests land as before, by the last figures, and none fails."""
    stack = start("in-proxy", short_by_default)
    assert stack.lands(chat("word " * 20, max_tokens=50)) == "short"
    stack.service.process.stop()
    for _ in range(20):
        assert stack.lands(chat("word " * 20, max_tokens=50)) == "short"
        assert stack.lands(chat("word " * 3000, max_tokens=50)) == "long"


def test_in_proxy_follows_what_is_learned(start: Start) -> None:
    """Figures learned from the access log reach Envoy by the file, and change where a request lands."""
    stack = start("in-proxy", estimation={"min_samples": 3, "prior_bytes_per_token": 1})
    body = chat("hello there " * 300, max_tokens=50)
    assert stack.lands(body) == "long"  # 3,700 bytes, at a byte a token
    for _ in range(5):
        stack.send(body)
    until(lambda: stack.lands(body) == "short")


def test_shadow_mode_in_proxy(start: Start) -> None:
    """Decided and counted, not acted on."""
    stack = start("in-proxy", routing={"shadow": True})
    assert stack.lands(chat("word " * 20, max_tokens=50)) == "long"
    arrived(stack, 1)
    assert count(stack, ENTRIES, pool="long", end="completed") == 1
    assert count(stack, "dualpool_requests_total", pool="long", chosen="short", reason="shadow") == 1
