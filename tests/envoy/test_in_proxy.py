"""The filter that decides in the proxy: where its figures come from, and what holds without the service."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from extproc.demo.process import StartError
from extproc.routing.router import in_rollout
from tests.envoy.changes import short_by_default
from tests.envoy.client import chat
from tests.envoy.conftest import Start
from tests.envoy.counts import ENTRIES
from tests.envoy.load import Load
from tests.envoy.modes import IN_PROXY, arrived, in_proxy_settings, options, write_seed
from tests.envoy.pools import SETS
from tests.envoy.stack import Stack, rendered_stack, until

REFUSED = "extension_config_discovery.http_filter.dualpool.in-proxy.config_fail"
SHORT = chat("word " * 20, max_tokens=50)
LONG = chat("word " * 3000, max_tokens=50)


@contextmanager
def alone(directory: Path, spoil: Callable[[Path], Any] = Path.exists) -> Iterator[tuple[Stack, Path]]:
    """Start a stack without the service; yields it, and its filter file. `spoil`: done to the seed before."""
    settings = in_proxy_settings(directory)
    file = write_seed(directory, SETS, settings)
    spoil(file)
    with rendered_stack(directory / "run", SETS, settings, options(IN_PROXY), service=False) as stack:
        yield stack, file


def test_starts_from_the_seed(tmp_path: Path) -> None:
    """Envoy starts without the service and decides by the figures of the seed."""
    with alone(tmp_path) as (stack, _):
        assert (stack.lands(SHORT), stack.lands(LONG)) == ("short", "long")


@pytest.mark.parametrize("broken", ["", "{", "resources: []", "resources: [{'@type': nothing}]"])
def test_starts_with_a_broken_file(tmp_path: Path, broken: str) -> None:
    """`default_config` stands in: everything goes the default way, and none fails."""
    with alone(tmp_path, lambda file: file.write_text(broken, "utf-8")) as (stack, _):
        assert (stack.lands(SHORT), stack.lands(LONG)) == ("long", "long")


def test_a_file_that_breaks_and_is_mended(tmp_path: Path) -> None:
    """Envoy goes on by the figures it has, whatever becomes of the file, and takes the next good one."""
    with alone(tmp_path) as (stack, file):
        good = file.read_text("utf-8")
        for bad in ("{", good.replace("function envoy_on_request", "function function")):
            before = rejected(stack)
            put(file, bad)
            until(partial(more_rejected, stack, before))
            assert (stack.lands(SHORT), stack.lands(LONG)) == ("short", "long")
        put(file, good.replace('["capacity"] = 2048', '["capacity"] = 20'))
        until(lambda: stack.lands(SHORT) == "long")


def put(file: Path, text: str) -> None:
    """Replace `file` as the service does: by a rename."""
    new = file.with_suffix(".new")
    new.write_text(text, "utf-8")
    new.replace(file)


def rejected(stack: Stack) -> int:
    """Files that Envoy has refused."""
    return stack.envoy.stats(REFUSED)[REFUSED]


def more_rejected(stack: Stack, before: int) -> bool:
    return rejected(stack) > before


def test_a_file_that_is_missing(tmp_path: Path) -> None:
    """Envoy does not start without the file: the one fault that the seed is there for."""
    with pytest.raises(StartError, match=r"in-proxy\.yaml"), alone(tmp_path, Path.unlink):
        pass


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_nothing_is_lost_without_the_service(start_mode: Start, number: signal.Signals) -> None:
    """The service dies or hangs under load: every request is answered, each by its own pool."""
    stack = start_mode(IN_PROXY)
    with Load(stack.url, body=lambda: SHORT) as short, Load(stack.url, body=lambda: LONG) as long:
        until(short.more(30))
        until(long.more(30))
        stack.service.process.send_signal(number)
        until(short.more(100))
        until(long.more(100))
    if number == signal.SIGSTOP:
        stack.service.process.send_signal(signal.SIGCONT)
    assert short.failed() == long.failed() == []
    posts = {n: [r for r in s.pool.received if r.method == "POST"] for n, s in stack.pools.items()}
    assert (len(posts["short"]), len(posts["long"])) == (len(short.sent), len(long.sent))


def test_follows_what_is_learned(start_mode: Start) -> None:
    """Figures learned from the access log reach Envoy by the file, and change where a request lands."""
    stack = start_mode(IN_PROXY, estimation={"min_samples": 3, "prior_bytes_per_token": 1})
    body = chat("hello there " * 300, max_tokens=50)
    assert stack.lands(body) == "long"  # 3,700 bytes, at a byte a token
    for _ in range(5):
        stack.send(body)
    until(lambda: stack.lands(body) == "short")


def test_follows_the_configuration(start_mode: Start, tmp_path: Path) -> None:
    """A reloaded configuration reaches Envoy by the file too."""
    stack = start_mode(IN_PROXY)
    assert stack.lands(SHORT) == "short"
    file = tmp_path / "run" / "dualpool.yaml"
    put(file, f"{file.read_text('utf-8')}\nrouting: {{shadow: true}}\n")
    stack.service.process.send_signal(signal.SIGHUP)
    until(lambda: stack.lands(SHORT) == "long")


def test_shadow_mode(start_mode: Start) -> None:
    """Decided and counted, not acted on."""
    stack = start_mode(IN_PROXY, routing={"shadow": True})
    assert stack.lands(SHORT) == "long"
    arrived(stack, 1)
    assert stack.count(ENTRIES, pool="long", end="completed") == 1
    assert stack.count("dualpool_requests_total", pool="long", chosen="short", reason="shadow") == 1


def test_roll_out(start_mode: Start) -> None:
    """A share of conversations goes where it belongs, each at every turn; the others go long."""
    stack = start_mode(IN_PROXY, short_by_default, routing={"rollout_percent": 50})
    landed = [stack.lands({**SHORT, "user": f"user-{number}"}) for number in range(40)]
    assert [stack.lands({**SHORT, "user": f"user-{number}"}) for number in range(40)] == landed
    expected = ["short" if in_rollout(f"user-{number}", 50) else "long" for number in range(40)]
    assert landed == expected
    assert set(landed) == {"short", "long"}
    arrived(stack, 80)
    assert stack.count("dualpool_requests_total", chosen="short", reason="rollout") == 2 * landed.count("long")


def test_pools_of_a_model(start_mode: Start) -> None:
    """The model that Envoy lifted picks the pool set, and its figures are its own."""
    sets = {**SETS, "coder": {"small": 1024, "big": 65_536}}
    stack = start_mode(IN_PROXY, short_by_default, sets, models={"code": "coder"})
    assert [stack.lands(body) for body in (SHORT, LONG)] == ["short", "long"]
    assert [stack.lands({**body, "model": "code"}) for body in (SHORT, LONG)] == ["small", "big"]
    arrived(stack, 4)
    models = {entry["model"] for entry in stack.service.state()["learned"]["ratios"]}
    assert models == {"", "m", "code"}
