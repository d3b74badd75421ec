"""What `make test-matrix` runs on each supported Envoy: the modes it has, each with a request for either pool."""

from pathlib import Path

import pytest

from extproc.config import Config
from extproc.render.layout import Exchange, Options
from extproc.render.target import render
from tests.envoy.attached import Attached, attached
from tests.envoy.client import chat
from tests.envoy.test_modes import LOGGED, SETS, arrived, hasty_log, named_pools
from tests.envoy.version import version

ACCESS_LOG_SINCE = (1, 38, 3)


def both_pools(stack: Attached) -> None:
    """A short request, a long one and a streamed one land where they belong."""
    assert stack.lands(chat("word " * 200, max_tokens=50)) == "short"
    assert stack.lands(chat("word " * 3000, max_tokens=50)) == "long"
    assert stack.lands(chat("word " * 200, max_tokens=50, stream=True)) == "short"


def test_body(tmp_path: Path) -> None:
    """The body mode, learning from response bodies, works on every version."""
    options = Options(envoy=version()[:2])
    with attached(tmp_path, SETS, options=options) as stack:
        both_pools(stack)
        assert stack.service.state()["learned"]["linear"]


@pytest.mark.skipif(version() < ACCESS_LOG_SINCE, reason=f"Envoy {version()}: sse_to_metadata came with 1.38.3")
@pytest.mark.parametrize("exchange", LOGGED)
def test_access_log(tmp_path: Path, exchange: Exchange) -> None:
    """The modes that learn from the access log work since 1.38.3."""
    file = tmp_path / "in-proxy.yaml"
    in_proxy = {"in_proxy": {"file": str(file)}} if exchange == "in-proxy" else {}
    seed = Config.model_validate({"pools": named_pools(), **in_proxy})
    file.write_text(render("in-proxy-filter", seed, Options())["in-proxy.yaml"], "utf-8")
    options = Options(exchange=exchange, usage="access-log", envoy=version()[:2])
    with attached(tmp_path / "run", SETS, in_proxy, options, hasty_log) as stack:
        both_pools(stack)
        arrived(stack, 3)
