"""Each way to exchange, started before stand-in pools, and what its service has counted."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from extproc.config import Config
from extproc.demo.envoy import Tree
from extproc.render.layout import Exchange, Options, Usage
from extproc.render.target import render
from tests.envoy.attached import Attached, attached
from tests.envoy.changes import hasty_log
from tests.envoy.counts import AT_REST, OBSERVATIONS, total
from tests.envoy.pools import SETS, PoolSets, section
from tests.envoy.stack import until

Mode = tuple[Exchange, Usage]
BODY: Mode = ("body", "response-body")
IN_PROXY: Mode = ("in-proxy", "access-log")
LOGGED: tuple[Mode, ...] = (("body", "access-log"), ("bodyless", "access-log"), IN_PROXY)
UNSEEN = LOGGED[1:]
"""Those whose service sees no body."""

MODES = (BODY, *LOGGED)

ENTRIES = "dualpool_access_log_entries_total"
WRITTEN = "access_logs.grpc_access_log.logs_written"
ACTIVE = "http.llm.downstream_rq_active"


def name(mode: Mode) -> str:
    """How a test calls a mode."""
    return "+".join(mode)


def options(mode: Mode, envoy: tuple[int, int] = Options().envoy) -> Options:
    """How Envoy is rendered for a mode."""
    exchange, usage = mode
    return Options(exchange=exchange, usage=usage, envoy=envoy)


def in_proxy_settings(directory: Path) -> dict[str, Any]:
    """Settings of a service that writes the filter into `directory`, as soon as a figure has moved."""
    return {"in_proxy": {"file": str(directory / "in-proxy.yaml"), "interval_seconds": 0.1}}


def configured(sets: PoolSets, settings: dict[str, Any]) -> Config:
    """Return the configuration of `sets`, which nobody serves."""
    return Config.model_validate({"pools": section(sets), **settings})


def write_seed(directory: Path, sets: PoolSets, settings: dict[str, Any]) -> Path:
    """Write the filter file to start with, as `dualpool render in-proxy-filter` does."""
    file = directory / "in-proxy.yaml"
    seed = render("in-proxy-filter", configured(sets, settings), Options())["in-proxy.yaml"]
    file.write_text(seed, "utf-8")
    return file


@contextmanager
def running(
    directory: Path,
    mode: Mode,
    change: Callable[[Tree], Tree] = hasty_log,
    sets: PoolSets = SETS,
    envoy: tuple[int, int] = Options().envoy,
    **settings: Any,
) -> Iterator[Attached]:
    """Start a stack in `mode`, the seed of the in-proxy filter in place; see `attached`."""
    if mode == IN_PROXY:
        place = directory / "filter"
        place.mkdir(parents=True)
        settings = {**in_proxy_settings(place), **settings}
        write_seed(place, sets, settings)
    with attached(directory / "run", sets, settings, options(mode, envoy), change) as stack:
        yield stack


def anew(stack: Attached) -> Attached:
    """Return `stack` as another test may use it: at rest, its pools behave, nothing received, counts at 0."""
    until(lambda: _at_rest(stack))
    stack.pools.reset()
    return replace(stack, before=stack.service.get("/metrics"))


def _at_rest(stack: Attached) -> bool:
    """No request is under way, no exchange is open, and every entry written has come."""
    figures, page = stack.envoy.stats(f"{ACTIVE}|{WRITTEN}"), stack.service.get("/metrics")
    quiet = not figures[ACTIVE] and AT_REST in page
    return quiet and figures.get(WRITTEN, 0) == total(page, ENTRIES)


def count(stack: Attached, metric: str, **labels: str) -> float:
    """Sum a metric of the service over the series that have `labels`: what a test has added to it."""
    return total(stack.service.get("/metrics"), metric, **labels) - total(stack.before, metric, **labels)


def arrived(stack: Attached, entries: int) -> None:
    """Wait until the service has received so many access-log entries."""
    until(lambda: count(stack, ENTRIES) >= entries)
    assert count(stack, ENTRIES) == entries


def heard(stack: Attached, mode: Mode, answers: int) -> None:
    """Wait until the service has been told of so many answers, the way that `mode` has."""
    if mode != BODY:
        arrived(stack, answers)
        return
    until(lambda: count(stack, OBSERVATIONS) >= answers)
    assert count(stack, OBSERVATIONS) == answers
