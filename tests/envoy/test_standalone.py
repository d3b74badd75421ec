"""envoy/standalone/envoy.yaml is what Envoy accepts and what it says it is."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from extproc.config import DEFAULT_POOL_SET, Config
from extproc.demo.envoy import binary, connection_manager, shipped
from extproc.render.typed import check
from tests.envoy.changes import cluster, ext_proc
from tests.envoy.client import chat
from tests.envoy.conftest import Start
from tests.envoy.stack import WRONG_PRIOR, Stack

STANDALONE = Path(__file__).parents[2] / "envoy" / "standalone"
FILE = STANDALONE / "envoy.yaml"
SHARED_DIRECTORY = "/var/lib/dualpool"
BOOTSTRAP = "envoy.config.bootstrap.v3.Bootstrap"


@pytest.mark.parametrize(
    "name", sorted(file.name for file in STANDALONE.glob("envoy*.yaml") if "filter" not in file.name)
)
def test_envoy_accepts_it(name: str, tmp_path: Path) -> None:
    """`envoy --mode validate` finds nothing wrong with any complete configuration.

    The directory that Envoy and the service share is one of the test's, with the seed file in it.
    """
    (tmp_path / "in-proxy.yaml").write_text((STANDALONE / "in-proxy.yaml").read_text("utf-8"))
    config = tmp_path / name
    config.write_text((STANDALONE / name).read_text("utf-8").replace(SHARED_DIRECTORY, str(tmp_path)))
    command = [binary(), "--mode", "validate", "--config-path", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_field_is_one_of_envoys() -> None:
    """It parses into the typed messages, where an unknown field is an error."""
    check(shipped(), BOOTSTRAP)


def test_a_wrong_field_inside_a_filter_is_an_error() -> None:
    """The strict reading sees into `typed_config`, else the test above would prove little."""
    tree = shipped()
    ext_proc(tree)["message_timeuot"] = "1s"
    with pytest.raises(ValueError, match="message_timeuot"):
        check(tree, BOOTSTRAP)


def test_the_demo_and_the_tests_run_the_file_itself() -> None:
    """`shipped` is the file, not a copy that could lag behind."""
    assert shipped() == yaml.safe_load(FILE.read_text("utf-8"))


def test_it_agrees_with_the_defaults_of_the_service() -> None:
    """Routing header, pool names and address are those the service has without a configuration."""
    config = Config()
    tree = shipped()
    manager = connection_manager(tree)
    routes = manager["route_config"]["virtual_hosts"][0]["routes"]
    matched = routes[0]["match"]["headers"][0]
    removed = manager["early_header_mutation_extensions"][0]["typed_config"]["mutations"]
    short, long = config.pools[DEFAULT_POOL_SET]
    assert matched == {"name": config.routing.header, "string_match": {"exact": short.name}}
    assert removed == [{"remove": config.routing.header}]
    assert routes[-1]["route"]["cluster"] == long.name
    assert _endpoint(tree, "dualpool") == config.server.listen


def _endpoint(tree: dict[str, Any], name: str) -> str:
    assignment = cluster(tree, name)["load_assignment"]
    address = assignment["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]["socket_address"]
    return f"{address['address']}:{address['port_value']}"


def test_a_short_request_reaches_the_short_pool_and_a_long_one_the_long_pool(stack: Stack) -> None:
    """The shipped configuration, the service and two pools route by budget."""
    assert stack.lands(chat("How are you?", max_tokens=10)) == "short"
    assert stack.lands(chat("word " * 4000, max_tokens=10)) == "long"


def test_without_the_service_everything_goes_long(start_stack: Start) -> None:
    """Nobody answers ext_proc: the request does not fail, whatever header it claims its pool with."""
    stack = start_stack(service=False)
    assert stack.lands(chat("How are you?", max_tokens=10), headers={"x-token-pool": "short"}) == "long"


def test_a_refused_request_is_answered_by_the_long_pool(start_stack: Start) -> None:
    """A 400 of the short pool is retried once, on the long pool; the client sees only the success."""
    stack = start_stack(settings=WRONG_PRIOR)
    reply = stack.send(chat("a1 b2 c3 d4 " * 500, max_tokens=10))
    assert reply.status == 200
    assert stack.reached(reply) == ["short", "long"]
    assert [r.status for r in stack.pools.received("short", reply)] == [400]
    retries = "cluster.short-then-long.upstream_rq_retry"  # docs/operations.md names it
    assert stack.envoy.stats(f"{retries}$") == {retries: 1}
