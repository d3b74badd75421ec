"""The filter that decides in the proxy: where its figures come from, and what holds without the service."""

from tests.envoy.client import chat
from tests.envoy.conftest import StartMode
from tests.envoy.modes import IN_PROXY, arrived, count, short_by_default
from tests.envoy.stack import until


def test_goes_on_without_the_service(start_mode: StartMode) -> None:
    """The service gone, requests land as before, by the last figures, and none fails."""
    stack = start_mode(IN_PROXY, short_by_default)
    assert stack.lands(chat("word " * 20, max_tokens=50)) == "short"
    stack.service.process.stop()
    for _ in range(20):
        assert stack.lands(chat("word " * 20, max_tokens=50)) == "short"
        assert stack.lands(chat("word " * 3000, max_tokens=50)) == "long"


def test_follows_what_is_learned(start_mode: StartMode) -> None:
    """Figures learned from the access log reach Envoy by the file, and change where a request lands."""
    stack = start_mode(IN_PROXY, estimation={"min_samples": 3, "prior_bytes_per_token": 1})
    body = chat("hello there " * 300, max_tokens=50)
    assert stack.lands(body) == "long"  # 3,700 bytes, at a byte a token
    for _ in range(5):
        stack.send(body)
    until(lambda: stack.lands(body) == "short")


def test_shadow_mode(start_mode: StartMode) -> None:
    """Decided and counted, not acted on."""
    stack = start_mode(IN_PROXY, routing={"shadow": True})
    assert stack.lands(chat("word " * 20, max_tokens=50)) == "long"
    arrived(stack, 1)
    assert count(stack, "dualpool_access_log_entries_total", pool="long", end="completed") == 1
    assert count(stack, "dualpool_requests_total", pool="long", chosen="short", reason="shadow") == 1
