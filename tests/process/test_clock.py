"""A clock that steps under a running service: the time of day, by a stand-in; monotonic clocks do not step."""

import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.envoy.stack import until
from tests.process.redis_server import RedisServer, needs_redis
from tests.process.talk import QUICK, exchange, serving, two_workers
from tests.process.test_state import kept

YEARS = 365 * 86_400.0


class Clock:
    """Of a service: `seconds` off the true time."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "clock"
        self.step(0)

    def step(self, seconds: float) -> None:
        """Set it so many seconds off, in one step."""
        new = self._file.with_suffix(".new")
        new.write_text(str(seconds), "utf-8")
        new.replace(self._file)

    @property
    def python(self) -> tuple[str, ...]:
        """What runs a service by this clock."""
        return sys.executable, "-m", "tests.process.stepping", str(self._file)


@pytest.mark.parametrize("steps", [(20 * YEARS, -20 * YEARS), (-20 * YEARS, 20 * YEARS)])
def test_what_is_learned_and_kept_survives_steps(tmp_path: Path, steps: tuple[float, float]) -> None:
    """Forwards and back: requests are decided, learned from and kept, and nothing that was known ages by a step."""
    clock = Clock(tmp_path)
    state = tmp_path / "state.json"
    with serving(tmp_path, {"state": {"file": str(state), **QUICK}}, python=clock.python) as service:
        for count, seconds in enumerate((0.0, *steps), 1):
            clock.step(seconds)
            assert exchange(service.address) == "short"
            until(lambda count=count: kept(state) == service.samples() == count)  # type: ignore[misc]
            assert service.get("/readyz") == (200, "ok\n")


def test_a_state_from_the_future_is_read(tmp_path: Path) -> None:
    """Kept by a clock that was ahead, it counts in full."""
    clock = Clock(tmp_path)
    state = {"state": {"file": str(tmp_path / "state.json"), **QUICK}}
    clock.step(20 * YEARS)
    with serving(tmp_path, state, python=clock.python) as service:
        exchange(service.address)
        until(lambda: kept(tmp_path / "state.json") == 1)
    with serving(tmp_path, state) as service:
        assert service.samples() == 1


def test_what_workers_share_does_not_age(tmp_path: Path) -> None:
    """It lives as long as their service: a worker by whose clock it is old takes nothing off for all the others."""
    clock = Clock(tmp_path)
    clock.step(-20 * YEARS)
    state = {"state": {"file": str(tmp_path / "state.json"), **QUICK}}
    with serving(tmp_path, state, python=clock.python) as service:
        for _ in range(4):
            exchange(service.address)
        until(lambda: kept(tmp_path / "state.json") == 4)
    with two_workers(tmp_path, state, clock.python) as (service, addresses):  # who go by the true clock
        for address in addresses:
            exchange(address)
        until(lambda: service.metric('dualpool_observations_total{verdict="used"}') == 2)
        until(lambda: service.samples() == 6)


@needs_redis
def test_replicas_whose_clocks_disagree_learn_as_one(tmp_path: Path) -> None:
    """The time of Redis is what counts."""
    clock = Clock(tmp_path)
    clock.step(20 * YEARS)
    with RedisServer(tmp_path) as redis, ExitStack() as stack:
        settings = {"state": {"redis": {"url": redis.url}, **QUICK}}
        for name in "ab":
            (tmp_path / name).mkdir()
        one = stack.enter_context(serving(tmp_path / "a", settings))
        other = stack.enter_context(serving(tmp_path / "b", settings, python=clock.python))
        for service in (one, other):
            exchange(service.address)
        until(lambda: one.samples() == other.samples() == 2)
        clock.step(-20 * YEARS)
        exchange(other.address)
        until(lambda: one.samples() == other.samples() == 3)
