"""Where requests land, by the pools' own logs, through a real Envoy."""

import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from extproc.body.bounds import LARGEST_BODY
from extproc.demo.envoy import Tree
from tests.envoy.changes import default_is_short
from tests.envoy.client import Reply, chat
from tests.envoy.conftest import Start
from tests.envoy.stack import Stack, until
from tests.envoy.texts import text

CAP = 64


def test_a_cut_body_lands_long_though_the_default_route_is_short(start_stack: Start) -> None:
    """Envoy keeps the route picked at the headers for a body over its buffer: that must be the long pool's."""

    def small_buffer(tree: Tree) -> Tree:
        listener = default_is_short(tree)["static_resources"]["listeners"][0]
        listener["per_connection_buffer_limit_bytes"] = 16_384
        return tree

    stack = start_stack(change=small_buffer)
    batch = {"model": "m", "prompt": "hello " * 20_000, "max_tokens": CAP}  # its size alone says nothing
    assert stack.lands(batch, path="/v1/completions") == "long"
    assert stack.reasons() == {"cut": 1}


def with_image(size: int) -> dict[str, object]:
    """A question about an image of `size` bytes."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * size}}
    content = [{"type": "text", "text": "What is this?"}, image]
    return {"model": "m", "messages": [{"role": "user", "content": content}], "max_tokens": CAP}


def test_an_image_is_a_few_tokens(start_stack: Start) -> None:
    """However many bytes of the body it takes."""
    stack = start_stack(settings={"estimation": {"tokens_per_media": 100}})
    assert stack.lands(with_image(1_000_000)) == "short"


def test_an_oversized_body_lands_long_before_it_has_come(start_stack: Start) -> None:
    """A body too long to be read goes long, past a default route that is not; the service is not sent it."""
    stack = start_stack(change=default_is_short)
    assert stack.lands(with_image(LARGEST_BODY)) == "long"
    assert stack.reasons() == {"oversized": 1}
    sent = stack.envoy.stats("cluster.dualpool.upstream_cx_tx_bytes_total")
    assert sum(sent.values()) < 20_000


@pytest.mark.parametrize("up", [True, False], ids=["service up", "service down"])
def test_a_spoofed_header_has_no_effect(start_stack: Start, up: bool) -> None:
    """A client that names its pool is not heard, with the service there or gone."""
    stack = start_stack(service=up)
    little, much = chat("hello", max_tokens=CAP), chat(text("prose", 3000), max_tokens=CAP)
    assert stack.lands(much, headers={"x-token-pool": "short"}) == "long"
    assert stack.lands(little, headers={"x-token-pool": "long"}) == ("short" if up else "long")


def test_headers_without_room_for_another_fail_no_request(stack: Stack) -> None:
    """Envoy would answer 500 to the routing header: such a request goes where it goes without the service."""
    for more, length, pool in ((80, 1, "short"), (90, 1, "long"), (8, 7300, "short"), (8, 7648, "long")):
        headers = {f"x-{n}": "y" * length for n in range(more)}
        assert stack.lands(chat("hello", max_tokens=CAP), headers=headers) == pool
    assert stack.reasons() == {"fits": 2, "many_headers": 2}


def test_a_killed_service_loses_nothing(stack: Stack) -> None:
    """Without the service every request is answered, by the long pool."""
    assert stack.lands(chat("hello", max_tokens=CAP)) == "short"
    stack.service.process.stop(signal.SIGKILL)
    for _ in range(20):
        assert stack.lands(chat("hello", max_tokens=CAP)) == "long"


def test_a_burst_of_misroutes_is_answered_by_the_long_pool(start_stack: Start) -> None:
    """Fifty requests at once that a wrong prior calls short are refused there and answered after the retry."""
    stack = start_stack(
        settings={"estimation": {"estimator": "ratio", "prior_bytes_per_token": 16, "min_samples": 1000}}
    )
    body = chat(text("prose", 3000), max_tokens=CAP)
    with ThreadPoolExecutor(50) as threads:
        replies: list[Reply] = list(threads.map(lambda _: stack.send(body), range(50)))
    assert [reply.status for reply in replies] == [200] * 50
    assert [stack.reached(reply) for reply in replies] == [["short", "long"]] * 50
    until(lambda: stack.count("dualpool_misroutes_total", kind="rejected", pool="short") == 50)
