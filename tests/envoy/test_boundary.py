"""Either side of the short pool's capacity, for each shape of request and kind of text, by the pools' own logs."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.envoy.changes import default_is_short
from tests.envoy.pools import SHORT_CAPACITY, Pools
from tests.envoy.shapes import CAP, SHAPES
from tests.envoy.stack import Stack, shipped_stack
from tests.envoy.texts import KINDS, text

FACTORS = {0.5: "short", 0.9: "short", 1.1: "long", 2.0: "long"}
"""Prompt and output together as a share of the short pool's capacity, and where that belongs."""

LESSONS = 60
TEMPLATE = 20
"""What the shapes add to a text, in tokens, at most."""


def of_model(body: Any, kind: str) -> Any:
    """Each kind of text has a model that is asked nothing else: what a prompt there costs is soon known well."""
    if isinstance(body, bytes):
        return json.dumps({**json.loads(body), "model": kind}).encode()
    return {**body, "model": kind}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, _pool_servers: Pools) -> Iterator[Stack]:
    """A stack whose default route is the short pool, taught by other pieces of each kind of text."""
    with shipped_stack(tmp_path_factory.mktemp("boundary"), _pool_servers, change=default_is_short) as stack:
        for lesson in range(LESSONS):
            for kind in KINDS:
                path, body = SHAPES["chat"](text(kind, 200 + 50 * (lesson % 36), start=0.5 * lesson / LESSONS))
                assert stack.send(of_model(body, kind), path=path).status == 200
        yield stack


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("kind", KINDS)
def test_requests_land_where_they_belong(stack: Stack, kind: str, factor: float) -> None:
    """What prompt and output need, by the tokenizer's count, decides between the pools, at the first attempt."""
    wrong = []
    for name, shape in SHAPES.items():
        cap = 0 if name == "embedding" else CAP
        path, body = shape(text(kind, int(factor * SHORT_CAPACITY) - cap - TEMPLATE, start=0.6))
        reply = stack.send(of_model(body, kind), path=path)
        assert reply.status == 200
        reached = stack.reached(reply)
        (received,) = stack.pools.received(reached[-1], reply)
        assert received.prompt_tokens is not None
        true = (received.prompt_tokens + cap) / SHORT_CAPACITY
        assert true == pytest.approx(factor, abs=0.015)
        if reached != [FACTORS[factor]]:
            wrong.append((name, round(true, 3), reached))
    assert wrong == []
