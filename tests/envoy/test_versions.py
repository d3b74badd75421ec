"""What is rendered works with the Envoy at hand, and with every one of `make test-matrix`."""

import subprocess
from pathlib import Path

from extproc.demo.envoy import Tree, binary
from extproc.render.layout import Options
from tests.envoy.changes import cluster
from tests.envoy.client import chat
from tests.envoy.pools import SETS
from tests.envoy.stack import WRONG_PRIOR, rendered_stack
from tests.envoy.version import Version

STANDALONE = Path(__file__).parents[2] / "envoy" / "standalone"


def test_requests_reach_their_pools(tmp_path: Path, envoy: Version) -> None:
    """Short requests reach the short pool, long ones the long pool, whatever header the client sends."""
    with rendered_stack(tmp_path, SETS, options=Options(envoy=envoy[:2])) as stack:
        assert stack.lands(chat("How are you?", max_tokens=10)) == "short"
        assert stack.lands(chat("word " * 4000, max_tokens=10), headers={"x-token-pool": "short"}) == "long"


def test_a_misroute_is_answered_by_the_long_pool(tmp_path: Path, envoy: Version) -> None:
    """A request that the short pool refuses is answered by the long pool."""
    with rendered_stack(tmp_path, SETS, WRONG_PRIOR, Options(envoy=envoy[:2])) as stack:
        reply = stack.send(chat("a1 b2 c3 d4 " * 500, max_tokens=10))
        assert (reply.status, stack.reached(reply)) == (200, ["short", "long"])


def without_servers(tree: Tree) -> Tree:
    """The short pool's name leads nowhere."""
    cluster(tree, "short")["load_assignment"]["endpoints"] = []
    return tree


def test_a_pool_without_servers(tmp_path: Path, envoy: Version) -> None:
    """Its requests are answered by the long pool."""
    with rendered_stack(tmp_path, SETS, options=Options(envoy=envoy[:2]), change=without_servers) as stack:
        assert stack.lands(chat("How are you?", max_tokens=10)) == "long"


def test_the_shipped_file_is_accepted(tmp_path: Path, envoy: Version) -> None:
    """`envoy --mode validate` accepts the shipped file for this version."""
    name = "envoy.yaml" if envoy >= (1, 40) else "envoy-1.36.yaml"
    command = [binary(), "--mode", "validate", "--config-path", str(STANDALONE / name)]
    command += ["--base-id-path", str(tmp_path / "base-id"), "--use-dynamic-base-id"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
