"""What `make test-matrix` runs on each supported Envoy: the modes it has, each with a request for either pool."""

from pathlib import Path

import pytest

from tests.envoy.attached import Attached
from tests.envoy.client import chat
from tests.envoy.modes import BODY, LOGGED, OBSERVATIONS, Mode, count, heard, name, running
from tests.envoy.version import Version

ACCESS_LOG_SINCE = (1, 38, 3)
USAGE_IN_STREAM = {"stream": True, "stream_options": {"include_usage": True}}


def both_pools(stack: Attached, mode: Mode) -> None:
    """A short request, a long one and a streamed one land where they belong, and all three teach."""
    assert stack.lands(chat("word " * 200, max_tokens=50)) == "short"
    assert stack.lands(chat("word " * 3000, max_tokens=50)) == "long"
    assert stack.lands(chat("word " * 200, max_tokens=50, **USAGE_IN_STREAM)) == "short"
    heard(stack, mode, 3)
    assert count(stack, OBSERVATIONS, verdict="used") == 3


def test_body(tmp_path: Path, envoy: Version) -> None:
    """The body mode, learning from response bodies, works on every version."""
    with running(tmp_path, BODY, envoy=envoy[:2]) as stack:
        both_pools(stack, BODY)


@pytest.mark.parametrize("mode", LOGGED, ids=name)
def test_access_log(tmp_path: Path, envoy: Version, mode: Mode) -> None:
    """The modes that learn from the access log work since 1.38.3."""
    if envoy < ACCESS_LOG_SINCE:
        pytest.skip(f"Envoy {envoy}: sse_to_metadata came with 1.38.3")
    with running(tmp_path, mode, envoy=envoy[:2]) as stack:
        both_pools(stack, mode)
