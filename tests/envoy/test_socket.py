"""A service on Unix sockets, and the file that is rendered for it."""

from pathlib import Path

from extproc.config import Config
from extproc.demo.envoy import Envoy, with_addresses
from tests.envoy.client import chat, send
from tests.envoy.pools import Pools, section
from tests.envoy.stack import healthy, rendered, until
from tests.process.talk import serving


def test_workers_are_found_at_their_sockets(tmp_path: Path, pools: Pools) -> None:
    """Envoy finds each, with nothing changed in what was rendered but where it listens itself."""
    server = {"listen": f"unix://{tmp_path}/dualpool.sock", "workers": 2}
    settings = {"pools": section(pools=pools), "server": server}
    tree = with_addresses(rendered(Config.model_validate(settings)), {})
    with serving(tmp_path, settings), Envoy(tree, tmp_path / "envoy") as envoy:
        until(lambda: healthy(envoy) == 2)
        until(lambda: pools.reached(send(envoy.url, chat("How are you?", max_tokens=10))) == ["short"])
