"""Fixtures: stand-in pools (one pair a worker) and, before them, an Envoy with the service."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.envoy import modes
from tests.envoy.attached import Attached
from tests.envoy.pools import Pools, running_pools
from tests.envoy.stack import Stack, running
from tests.envoy.version import KEPT, Version, version

StartStack = Callable[..., Stack]
StartMode = Callable[..., Attached]


@pytest.fixture(scope="session")
def _pool_servers() -> Iterator[Pools]:
    with running_pools() as pools:
        yield pools


@pytest.fixture
def pools(_pool_servers: Pools) -> Pools:
    """Two pools with empty logs that behave."""
    _pool_servers.reset()
    return _pool_servers


@pytest.fixture
def start_stack(tmp_path: Path, pools: Pools) -> Iterator[StartStack]:
    """Start a stack with options of the test's own (see `stack.running`); stopped after the test."""
    with ExitStack() as stack:
        started = iter(range(100))

        def start(**options: Any) -> Stack:
            return stack.enter_context(running(tmp_path / str(next(started)), pools, **options))

        yield start


@pytest.fixture
def start_mode(tmp_path: Path) -> Iterator[StartMode]:
    """Start a stack in one of the modes (see `modes.running`); stopped after the test."""
    with ExitStack() as stack:
        yield lambda *args, **options: stack.enter_context(modes.running(tmp_path, *args, **options))


@pytest.fixture(scope="module")
def _started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartMode]:
    """Start each mode once for the tests of a module."""
    with ExitStack() as stack:
        started: dict[str, Attached] = {}

        def start(*args: Any, **options: Any) -> Attached:
            key = repr((args, options))
            if key not in started:
                place = tmp_path_factory.mktemp("mode")
                started[key] = stack.enter_context(modes.running(place, *args, **options))
            return started[key]

        yield start


@pytest.fixture
def shared_mode(_started: StartMode) -> StartMode:
    """A stack in one of the modes that the tests of a module share, where each finds it as if it were its own.

    But for what others taught it.
    """
    return lambda *args, **options: modes.anew(_started(*args, **options))


@pytest.fixture
def stack(start_stack: StartStack) -> Stack:
    """A stack of the test's own with the shipped configuration, nothing learned yet."""
    return start_stack()


@pytest.fixture(scope="module")
def shared_stack(tmp_path_factory: pytest.TempPathFactory, _pool_servers: Pools) -> Iterator[Stack]:
    """One stack for the tests of a module that do not mind what others taught it."""
    with running(tmp_path_factory.mktemp("stack"), _pool_servers) as stack:
        yield stack


@pytest.fixture(params=os.environ.get("ENVOYS", "").split() or [""])
def envoy(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Version:
    """Version of the Envoy that a test starts: each of $ENVOYS (see `make test-matrix`), else the one at hand."""
    if request.param:
        monkeypatch.setenv("ENVOY", str(KEPT / request.param / "envoy" / "_bin" / "envoy"))
    return version()
