"""What `make test-matrix` runs on each supported Envoy: the modes it has, each with a request for either pool.

And what once went wrong on some of them: bodies that are cut, and long ones that are sent again.
"""

from pathlib import Path

import pytest

from extproc.body.bounds import LARGEST_BODY
from extproc.demo.pool import Behaviour
from tests.envoy.client import chat
from tests.envoy.counts import OBSERVATIONS
from tests.envoy.modes import BODY, LOGGED, Mode, heard, mode_stack, name
from tests.envoy.stack import Stack
from tests.envoy.test_cut import asking, small_buffer
from tests.envoy.test_routing import with_image
from tests.envoy.version import Version

ACCESS_LOG_SINCE = (1, 38, 3)
USAGE_IN_STREAM = {"stream": True, "stream_options": {"include_usage": True}}


def both_pools(stack: Stack, mode: Mode) -> None:
    """A short request, a long one and a streamed one land where they belong, and all three teach."""
    assert stack.lands(chat("word " * 200, max_tokens=50)) == "short"
    assert stack.lands(chat("word " * 3000, max_tokens=50)) == "long"
    assert stack.lands(chat("word " * 200, max_tokens=50, **USAGE_IN_STREAM)) == "short"
    heard(stack, mode, 3)
    assert stack.count(OBSERVATIONS, verdict="used") == 3


def test_body(tmp_path: Path, envoy: Version) -> None:
    """The body mode, learning from response bodies, works on every version."""
    with mode_stack(tmp_path, BODY, envoy=envoy[:2]) as stack:
        both_pools(stack, BODY)


def test_a_cut_body_that_ends_at_once(tmp_path: Path, envoy: Version) -> None:
    """It is answered by the long pool, which gets all of it, though the default route is the short pool's."""
    with mode_stack(tmp_path, BODY, small_buffer, envoy=envoy[:2]) as stack:
        long = stack.pools["long"].pool
        with asking(stack.envoy, long) as send_body:
            send_body()
        assert stack.count("dualpool_requests_total", reason="cut") == 1


def test_the_longest_body_that_is_read_is_sent_again(tmp_path: Path, envoy: Version) -> None:
    """When its pool refuses it. Envoy 1.36 and 1.37 count it twice before they do so."""
    with mode_stack(tmp_path, BODY, envoy=envoy[:2], estimation={"tokens_per_media": 1}) as stack:
        stack.pools["short"].pool.behaviour = Behaviour(status=400)
        reply = stack.send(with_image(LARGEST_BODY - 500))
        assert (reply.status, stack.reached(reply)) == (200, ["short", "long"])


@pytest.mark.parametrize("mode", LOGGED, ids=name)
def test_access_log(tmp_path: Path, envoy: Version, mode: Mode) -> None:
    """The modes that learn from the access log work since 1.38.3."""
    if envoy < ACCESS_LOG_SINCE:
        pytest.skip(f"Envoy {envoy}: sse_to_metadata came with 1.38.3")
    with mode_stack(tmp_path, mode, envoy=envoy[:2]) as stack:
        both_pools(stack, mode)
