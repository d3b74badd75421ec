"""Each way to exchange, started before stand-in pools, and what its service has counted."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from extproc.config import Config
from extproc.demo.envoy import Tree
from extproc.render.layout import Exchange, Options, Usage
from extproc.render.target import render
from tests.envoy.changes import hasty_log
from tests.envoy.counts import ENTRIES, OBSERVATIONS
from tests.envoy.pools import SETS, PoolSets, section
from tests.envoy.stack import Stack, rendered_stack, until

Mode = tuple[Exchange, Usage]
BODY: Mode = ("body", "response-body")
IN_PROXY: Mode = ("in-proxy", "access-log")
LOGGED: tuple[Mode, ...] = (("body", "access-log"), ("bodyless", "access-log"), IN_PROXY)
UNSEEN = LOGGED[1:]
"""Those whose service sees no body."""

MODES = (BODY, *LOGGED)


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
def mode_stack(
    directory: Path,
    mode: Mode,
    change: Callable[[Tree], Tree] = hasty_log,
    sets: PoolSets = SETS,
    envoy: tuple[int, int] = Options().envoy,
    **settings: Any,
) -> Iterator[Stack]:
    """Start a stack in `mode`, the seed of the in-proxy filter in place; see `rendered_stack`."""
    if mode == IN_PROXY:
        place = directory / "filter"
        place.mkdir(parents=True)
        settings = {**in_proxy_settings(place), **settings}
        write_seed(place, sets, settings)
    with rendered_stack(directory / "run", sets, settings, options(mode, envoy), change=change) as stack:
        yield stack


def arrived(stack: Stack, entries: int) -> None:
    """Wait until the service has received so many access-log entries."""
    until(lambda: stack.count(ENTRIES) >= entries)
    assert stack.count(ENTRIES) == entries


def heard(stack: Stack, mode: Mode, answers: int) -> None:
    """Wait until the service has been told of so many answers, the way that `mode` has."""
    if mode != BODY:
        arrived(stack, answers)
        return
    until(lambda: stack.count(OBSERVATIONS) >= answers)
    assert stack.count(OBSERVATIONS) == answers
