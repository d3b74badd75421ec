"""Fixtures: stand-in pools (one pair a worker) and, before them, an Envoy with the service."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.envoy.modes import mode_stack
from tests.envoy.pools import Pools, running_pools
from tests.envoy.stack import Stack, shipped_stack
from tests.envoy.version import KEPT, Version, version

Start = Callable[..., Stack]


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
def start_stack(tmp_path: Path, pools: Pools) -> Iterator[Start]:
    """Start a stack with options of the test's own (see `shipped_stack`); stopped after the test."""
    with ExitStack() as stack:
        started = iter(range(100))

        def start(**options: Any) -> Stack:
            return stack.enter_context(shipped_stack(tmp_path / str(next(started)), pools, **options))

        yield start


@pytest.fixture
def start_mode(tmp_path: Path) -> Iterator[Start]:
    """Start a stack in one of the modes (see `mode_stack`); stopped after the test."""
    with ExitStack() as stack:
        yield lambda *args, **options: stack.enter_context(mode_stack(tmp_path, *args, **options))


@pytest.fixture(scope="module")
def _started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Start each mode once for the tests of a module."""
    with ExitStack() as stack:
        started: dict[str, Stack] = {}

        def start(*args: Any, **options: Any) -> Stack:
            key = repr((args, options))
            if key not in started:
                place = tmp_path_factory.mktemp("mode")
                started[key] = stack.enter_context(mode_stack(place, *args, **options))
            return started[key]

        yield start


@pytest.fixture
def shared_mode(_started: Start) -> Start:
    """A stack in one of the modes that the tests of a module share, where each finds it as if it were its own.

    But for what others taught it.
    """
    return lambda *args, **options: _started(*args, **options).anew()


@pytest.fixture
def stack(start_stack: Start) -> Stack:
    """A stack of the test's own with the shipped configuration, nothing learned yet."""
    return start_stack()


@pytest.fixture(scope="module")
def _shipped(tmp_path_factory: pytest.TempPathFactory, _pool_servers: Pools) -> Iterator[Stack]:
    with shipped_stack(tmp_path_factory.mktemp("stack"), _pool_servers) as stack:
        yield stack


@pytest.fixture
def shared_stack(_shipped: Stack) -> Stack:
    """One stack for the tests of a module that do not mind what others taught it."""
    return _shipped.anew()


@pytest.fixture(params=os.environ.get("ENVOYS", "").split() or [""])
def envoy(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Version:
    """Version of the Envoy that a test starts: each of $ENVOYS (see `make test-matrix`), else the one at hand."""
    if request.param:
        monkeypatch.setenv("ENVOY", str(KEPT / request.param / "envoy" / "_bin" / "envoy"))
    return version()
