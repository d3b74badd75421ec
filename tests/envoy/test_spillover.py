"""A short pool that saturates, through a real Envoy: short requests land long, and come back when it drains."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from extproc.demo import tokens
from extproc.demo.envoy import Tree
from extproc.demo.pool import Behaviour
from extproc.render.layout import Options
from tests.envoy.changes import hasty_log
from tests.envoy.client import Reply, chat
from tests.envoy.conftest import Start
from tests.envoy.pools import SETS
from tests.envoy.stack import Stack, rendered_stack, until

MARK = 8
NOT_YET = "nobody.invalid:9901"
LITTLE = chat("How are you?", max_tokens=10)
QUICK = {"enabled": True, "interval_seconds": 0.05, "waiting": 4}
REQUESTS = {"short": MARK, "long": 64}
LOGGED = Options(usage="access-log")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a stack with a `spillover` section; `hidden`: the pools do not show vLLM's metrics."""
    with ExitStack() as running:

        def begin(
            spillover: dict[str, Any],
            hidden: bool = False,
            options: Options | None = None,
            change: Callable[[Tree], Tree] = lambda tree: tree,
            **settings: Any,
        ) -> Stack:
            tokens.count("")  # a pool that loads its vocabulary at a request answers nobody meanwhile
            settings = {"spillover": {**QUICK, **spillover}, **settings}
            behaviour = Behaviour(metrics=not hidden)
            return running.enter_context(
                rendered_stack(tmp_path, SETS, settings, options, behaviour, change=change)
            )

        yield begin


@contextmanager
def crowd(stack: Stack, many: int, slots: int = 256) -> Iterator[list["Future[Reply]"]]:
    """Have `many` short requests held in the short pool, `slots` of them running, until left; all must succeed."""
    pool = stack.pools["short"].pool
    before = pool.behaviour
    pool.behaviour = Behaviour(held=True, slots=slots, metrics=before.metrics)
    with ThreadPoolExecutor(many) as threads:
        sent = [threads.submit(stack.send, LITTLE) for _ in range(many)]
        try:
            yield sent
        finally:
            pool.behaviour = before
    assert {future.result().status for future in sent} == {200}


def pools(stack: Stack) -> dict[str, Any]:
    found: dict[str, Any] = stack.service.state()["spillover"]["pools"]
    return found


def is_saturated(stack: Stack, source: str) -> bool:
    level = pools(stack).get("short", {})
    return bool(level.get("saturated")) and level["source"] == source


def has_room(stack: Stack, source: str) -> bool:
    found = pools(stack)
    return all(
        not found[p]["saturated"] and found[p]["source"] == source if p in found else False
        for p in ("short", "long")
    )


def spills_and_comes_back(stack: Stack, source: str, many: int, slots: int = 256) -> None:
    """The whole of it, by the pools' own logs."""
    until(lambda: has_room(stack, source))
    assert stack.lands(LITTLE) == "short"
    until(stack.at_rest)  # the end of that request may be told late, and it would count as one of the crowd
    with crowd(stack, many, slots):
        until(lambda: is_saturated(stack, source))
        assert [stack.lands(LITTLE) for _ in range(3)] == ["long"] * 3
        assert stack.count("dualpool_requests_total", chosen="short", pool="long", reason="spillover") == 3
        assert stack.count("dualpool_spillovers_total", acted="true", pool="short", to="long") == 3
        assert stack.count("dualpool_pool_saturated", pool="short") == 1
        assert stack.count("dualpool_pool_pressure", pool="short", source=source) >= 1
        assert pools(stack)["short"]["why"] == "saturated: at its mark or above"
    until(lambda: has_room(stack, source))
    assert stack.lands(LITTLE) == "short"
    assert stack.count("dualpool_pool_saturated", pool="short") == 0


def test_by_vllms_metrics(start: Start) -> None:
    """Four requests wait at the short pool's server, which runs two at once."""
    spills_and_comes_back(start({}), "vllm", many=6, slots=2)


def test_by_envoys_gauges(start: Start) -> None:
    """Eight requests are at the cluster of the short pool. The pool answers no question."""
    stack = start({"requests": REQUESTS, "envoy": [NOT_YET]}, hidden=True)
    name_envoy(stack)
    spills_and_comes_back(stack, "envoy", many=MARK)


def name_envoy(stack: Stack) -> None:
    """Name the admin port that Envoy got: Envoy starts after the service, which notices the changed file."""
    file = stack.service.process.log.parent / "dualpool.yaml"
    text = file.read_text("utf-8")
    assert NOT_YET in text
    file.write_text(text.replace(NOT_YET, stack.envoy.admin), "utf-8")


def test_by_the_access_log(start: Start) -> None:
    """Eight decisions without an end. Neither the pools nor Envoy are asked."""
    stack = start({"requests": REQUESTS}, hidden=True, options=LOGGED, change=hasty_log)
    assert stack.lands(LITTLE) == "short"  # the log has to speak once, to be believed
    spills_and_comes_back(stack, "in_flight", many=MARK)


def test_a_request_that_only_the_largest_pool_holds_goes_there_whatever_is_full(start: Start) -> None:
    """A full long pool passes nothing on, and takes nothing over."""
    stack = start({})
    long = stack.pools["long"].pool
    until(lambda: has_room(stack, "vllm"))
    with ThreadPoolExecutor(7) as threads, crowd(stack, 6, 2):
        until(lambda: is_saturated(stack, "vllm"))
        long.behaviour = Behaviour(held=True, slots=2)
        much = [threads.submit(stack.send, chat("word " * 4000, max_tokens=10)) for _ in range(6)]
        until(lambda: pools(stack)["long"]["saturated"])
        little = threads.submit(stack.send, LITTLE)
        until(lambda: stack.pools["short"].pool.waiting == 5)
        long.behaviour = Behaviour()
    assert {stack.reached(f.result())[0] for f in much} == {"long"}
    assert (little.result().status, stack.reached(little.result())) == (200, ["short"])


def test_shadow_mode_counts(start: Start) -> None:
    """Nothing is sent elsewhere for it, and what would have been is counted."""
    stack = start({}, routing={"shadow": True})
    server = stack.pools["short"].pool
    server.waiting = 4  # nobody is sent to the short pool in shadow mode: somebody else fills it
    until(lambda: is_saturated(stack, "vllm"))
    assert stack.lands(LITTLE) == "long"
    assert stack.count("dualpool_spillovers_total", acted="false", pool="short", to="long") == 1
    assert stack.count("dualpool_requests_total", chosen="short", pool="long", reason="shadow") == 1


def test_servers_that_do_not_answer_change_nothing(start: Start) -> None:
    """Of a pool that says nothing nothing is known: requests go where they would without spillover."""
    stack = start({"stale_seconds": 0.2}, hidden=True)
    until(lambda: stack.count("dualpool_pressure_questions_total", result="failed", source="vllm") >= 4)
    with crowd(stack, 6, 2):
        until(lambda: stack.pools["short"].pool.waiting == 4)
        assert pools(stack)["short"]["source"] is None
    assert stack.lands(LITTLE) == "short"
