"""A share of the answers is read once figures are learned, through a real Envoy; the metrics show the share."""

import pytest

from tests.envoy.client import chat
from tests.envoy.conftest import Start
from tests.envoy.counts import OBSERVATIONS
from tests.envoy.modes import BODY
from tests.envoy.stack import until

UNREAD = "dualpool_unread_answers_total"
SETTLED = 10
REQUESTS = 120


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("percent", [0, 30, 100])
def test_a_share_of_answers_is_read(start_mode: Start, percent: int, stream: bool) -> None:
    """All of them at first, then the configured share: the others arrive as whole, and are counted as not read."""
    stack = start_mode(BODY, estimation={"min_samples": SETTLED, "answers_percent": percent})
    body = chat("word " * 50, max_tokens=20, stream=stream, stream_options={"include_usage": True})
    for _ in range(REQUESTS):
        reply = stack.send(body)
        assert (reply.status, b'"completion_tokens": 20' in reply.body) == (200, True)
    until(lambda: stack.count(OBSERVATIONS) + stack.count(UNREAD, reason="sampling") == REQUESTS)
    read = stack.count(OBSERVATIONS)
    expected = SETTLED + (REQUESTS - SETTLED) * percent / 100
    assert abs(read - expected) <= (0 if percent in (0, 100) else 25)  # five standard deviations
