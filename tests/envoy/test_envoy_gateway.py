"""The manifests for Envoy Gateway, turned into an Envoy configuration by its own translator, in a real Envoy."""

import http.client
import json
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from extproc.demo.envoy import Envoy, Tree
from extproc.demo.pool import Behaviour
from extproc.demo.pool_server import HOST
from extproc.demo.service import Service
from tests.envoy.changes import PATIENCE
from tests.envoy.client import CHAT, chat
from tests.envoy.conftest import Start
from tests.envoy.counts import ENTRIES, OBSERVATIONS
from tests.envoy.egctl import digest, gateway, manager, recorded
from tests.envoy.pools import POOLS, Pools
from tests.envoy.stack import WRONG_PRIOR, Stack, until


def patient(tree: Tree) -> Tree:
    """Let Envoy wait for a service on a busy machine (see `changes.patient`), and send the access log at once."""
    found = manager(tree)
    found["httpFilters"][0]["typedConfig"]["messageTimeout"] = PATIENCE
    (log,) = [log for log in found["accessLog"] if "commonConfig" in log["typedConfig"]]
    log["typedConfig"]["commonConfig"]["bufferFlushInterval"] = "0.05s"
    for cluster in tree["static_resources"]["clusters"]:
        for check in cluster.get("healthChecks", ()):
            check["timeout"] = PATIENCE
        for options in cluster.get("typedExtensionProtocolOptions", {}).values():
            http2 = options.get("explicitHttpConfig", {}).get("http2ProtocolOptions", {})
            if "connectionKeepalive" in http2:
                http2["connectionKeepalive"]["timeout"] = PATIENCE
    return tree


@pytest.fixture
def start(tmp_path: Path, pools: Pools) -> Iterator[Start]:
    """Start the service and the gateway's Envoy.

    `change`: what to change in its configuration. `hasty`: keep its short timeouts.
    """
    with ExitStack() as running:

        def begin(
            change: Callable[[Tree], Tree] = lambda tree: tree, hasty: bool = False, **settings: Any
        ) -> Stack:
            whole = {"pools": POOLS, **settings}
            service = running.enter_context(Service(whole, tmp_path))
            servers = {f"vllm-{name}": (HOST, server.port) for name, server in pools.items()}
            tree = gateway({**servers, "dualpool": (HOST, service.port)})
            envoy = running.enter_context(Envoy(change(tree if hasty else patient(tree)), tmp_path / "envoy"))
            until(lambda: envoy.stats("extproc.*membership_healthy"))
            return Stack(envoy, pools, service, whole)

        yield begin


def test_the_manifests_are_those_that_were_translated() -> None:
    """When they change, `python -m tests.envoy.egctl` has to record them again."""
    assert recorded()["manifests"] == digest()


def test_every_policy_is_accepted() -> None:
    """Envoy Gateway follows each of them."""
    accepted = recorded()["accepted"]
    assert {name.split()[0] for name in accepted} == {
        "BackendTrafficPolicy",
        "ClientTrafficPolicy",
        "EnvoyExtensionPolicy",
    }
    assert all(accepted.values())


def test_it_routes_and_retries(start: Start) -> None:
    """By budget, whatever header the client sends; what the short pool refuses is answered by the long one."""
    stack = start(**WRONG_PRIOR)
    assert stack.lands(chat("How are you?", max_tokens=10), headers={"x-token-pool": "long"}) == "short"
    assert stack.lands(chat("word " * 8000, max_tokens=10), headers={"x-token-pool": "short"}) == "long"
    misrouted = stack.send(chat("a1 b2 c3 d4 " * 500, max_tokens=10))
    assert (misrouted.status, stack.reached(misrouted)) == (200, ["short", "long"])


def test_a_long_prompt_is_read_whole(start: Start) -> None:
    """Half a megabyte of prompts, far over Envoy Gateway's own 32 KiB, is not cut and no 413: its items fit."""
    stack = start()
    assert (
        stack.lands({"model": "m", "prompt": ["word " * 500] * 200, "max_tokens": 10}, path="/v1/completions")
        == "short"
    )


def test_answers_teach_once(start: Start) -> None:
    """Plain and streamed, usage is learned from the answer; the access log adds how the request ended."""
    stack = start()
    options = {"stream": True, "stream_options": {"include_usage": True}}
    for turn in range(6):
        assert stack.send(chat("How are you?", max_tokens=10, **(options if turn % 2 else {}))).status == 200
    until(lambda: stack.count(ENTRIES, end="completed", pool="short") == 6)
    assert stack.count(OBSERVATIONS) == stack.count(OBSERVATIONS, verdict="used") == 6


def test_an_annotation_of_the_route(start: Start) -> None:
    """What `gateway.envoyproxy.io/dualpool-shadow` says is followed: Envoy Gateway leaves the prefix out."""

    def annotated(tree: Tree) -> Tree:
        # egctl reads no annotations; the control plane puts them here.
        for route in manager(tree)["routeConfig"]["virtualHosts"][0]["routes"]:
            (resource,) = route["metadata"]["filterMetadata"]["envoy-gateway"]["resources"]
            resource["annotations"] = {"dualpool-shadow": "true"}
        return tree

    stack = start(annotated)
    assert stack.lands(chat("How are you?", max_tokens=10)) == "long"
    assert stack.reasons() == {"shadow": 1}


def test_without_the_service_everything_goes_long(start: Start) -> None:
    """The service gone, every request is answered, whatever pool the client names."""
    stack = start()
    stack.service.process.stop()
    assert stack.lands(chat("How are you?", max_tokens=10), headers={"x-token-pool": "short"}) == "long"


def test_a_streamed_answer_goes_on_without_a_service_that_hangs(start: Start) -> None:
    """Its connection is cut, and the rest of the answer passes it by."""
    stack = start(hasty=True)
    stack.pools.behave(Behaviour(pace=0.005, completion=130_000))  # lasts longer than the client waits
    request = json.dumps(chat("How are you?", max_tokens=130_000, stream=True))
    with closing(http.client.HTTPConnection(urlsplit(stack.url).netloc, timeout=30)) as client:
        client.request("POST", CHAT, request, {"content-type": "application/json"})
        response = client.getresponse()
        assert response.read(1) == b"d"
        stack.service.process.send_signal(signal.SIGSTOP)
        try:
            assert len(response.read(20_000)) == 20_000
        finally:
            stack.service.process.send_signal(signal.SIGCONT)
