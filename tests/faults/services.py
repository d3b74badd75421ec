"""Faults of the service: each scenario breaks something under load and returns what clients saw."""

import os
import signal
import time
from functools import partial
from typing import Any

import yaml

from extproc.demo.pool import Behaviour
from extproc.demo.service import Service
from tests.envoy.changes import served_at, served_by
from tests.envoy.client import chat
from tests.envoy.load import Load
from tests.envoy.pools import POOLS
from tests.envoy.stack import Stack, healthy, until
from tests.faults.ground import Figure, Ground, Outcome, added
from tests.process.talk import serving

STOPPED_SECONDS = 5.0


def kill(service: Service) -> None:
    """SIGKILL, and wait for the end."""
    service.process.send_signal(signal.SIGKILL)
    service.process.popen.wait()


def killed_ten_times(ground: Ground) -> Outcome:
    """The service is killed and restarted ten times."""
    stack = ground.start()
    settings = {"pools": POOLS, "server": {"listen": f"127.0.0.1:{stack.service.port}"}}
    service = stack.service
    with Load(stack.url) as load:
        until(load.more(5))
        for _ in range(10):
            kill(service)
            until(load.more(5))
            service = ground.service(settings)
            until(lambda: healthy(stack.envoy) == 1)
            until(load.more(5))
    return Outcome(load.sent)


def streamed() -> dict[str, Any]:
    """A request whose answer comes in pieces."""
    return chat("Tell me something.", max_tokens=40, stream=True)


def stopped(ground: Ground) -> Outcome:
    """The service is stopped (SIGSTOP) for five seconds, while answers are streamed through it too."""
    stack = ground.start(hasty=True)
    stack.pools.behave(Behaviour(pace=0.05))
    with Load(stack.url, users=1) as load, Load(stack.url, users=2, body=streamed) as streams:
        until(load.more(30))
        began = time.monotonic()
        stack.service.process.send_signal(signal.SIGSTOP)
        until(lambda: time.monotonic() > began + STOPPED_SECONDS)
        ended = time.monotonic()
        stack.service.process.send_signal(signal.SIGCONT)
        until(load.more(5))
    before = [s for s in load.sent if s.started < began]
    during = [s for s in load.sent if began + 1 < s.started < ended]
    silence = max(s.silence for s in streams.sent)
    return Outcome(
        [*load.sent, *streams.sent],
        [
            *added("after 1 s", before, during),
            Figure("longest silence of a stream, s", round(silence, 3), 1, timed=True),
        ],
    )


def rolling_restart(ground: Ground) -> Outcome:
    """Two replicas are restarted one after the other by SIGTERM."""
    drain = {"lame_duck_seconds": 2, "drain_seconds": 2}
    replicas = [ground.service({"pools": POOLS, "server": drain}) for _ in range(2)]
    stack = ground.start(service=False, change=served_by(*(replica.port for replica in replicas)))
    until(lambda: healthy(stack.envoy) == 2)
    with Load(stack.url) as load:
        until(load.more(20))
        for replica in replicas:
            replica.process.send_signal(signal.SIGTERM)
            replica.process.popen.wait(30)
            ground.service({"pools": POOLS, "server": {**drain, "listen": f"127.0.0.1:{replica.port}"}})
            until(lambda: healthy(stack.envoy) == 2)
        until(load.more(20))
    return Outcome(load.sent, [Figure("sent long for it", len(stack.pools["long"].pool.received), 0)])


def worker_signalled(ground: Ground, number: signal.Signals, for_good: bool = False) -> Outcome:
    """One of two workers is killed, asked to end or stopped, `for_good` or until it has been missed."""
    place = ground.place()
    listen = f"unix://{place}/d.sock"
    service = ground.enter(serving(place, {"pools": POOLS, "server": {"listen": listen}}, "--workers", "2"))
    stack = ground.start(service=False, hasty=True, change=served_at(listen, 2))
    until(lambda: healthy(stack.envoy) == 2)
    worker = service.children[0]
    with Load(stack.url) as load:
        until(load.more(20))
        os.kill(worker, number)
        if number == signal.SIGSTOP and not for_good:
            until(lambda: healthy(stack.envoy) == 1)
            until(load.more(20))
            os.kill(worker, signal.SIGCONT)
        else:
            until(lambda: service.metric("dualpool_worker_restarts_total") == 1)
        until(load.more(20))
        until(lambda: healthy(stack.envoy) == 2)
        until(load.more(20))
    return Outcome(load.sent)


def reloaded_a_hundred_times(ground: Ground) -> Outcome:
    """The configuration is replaced a hundred times, a third of the files are broken."""
    stack = ground.start()
    file = next(ground.directory.rglob("dualpool.yaml"))
    settings = yaml.safe_load(file.read_text("utf-8"))
    with Load(stack.url) as load:
        until(load.more(10))
        for turn in range(100):
            broken = turn % 3 == 0
            settings["estimation"] = {"min_samples": 20 + turn}
            text = "routing: {shadow: maybe}" if broken else yaml.safe_dump(settings)
            (file.parent / "new.yaml").write_text(text, "utf-8")
            noticed = partial(_more_reloads, stack, broken, _reloads(stack, broken))
            (file.parent / "new.yaml").replace(file)
            stack.service.process.send_signal(signal.SIGHUP)
            until(noticed)
        until(load.more(10))
    return Outcome(load.sent, [Figure("sent long for it", len(stack.pools["long"].pool.received), 0)])


def _more_reloads(stack: Stack, broken: bool, before: float) -> bool:
    return _reloads(stack, broken) > before


def _reloads(stack: Stack, broken: bool) -> float:
    sample = f'dualpool_config_reloads_total{{result="{"rejected" if broken else "ok"}"}} '
    lines = stack.service.get("/metrics").splitlines()
    return sum(float(line.removeprefix(sample)) for line in lines if line.startswith(sample))


MOST_CALLS = 8


def overloaded(ground: Ground) -> Outcome:
    """Many more requests at once than the service takes calls: the others go long, until there are fewer again."""
    stack = ground.start(settings={"server": {"max_exchanges": MOST_CALLS}}, hasty=True)
    most = 0.0
    with Load(stack.url, users=40, pause=0.0) as load:
        enough = load.more(2000)
        while not enough():
            most = max(most, _exchanges(stack))
    short, long = (pool.pool.received for pool in (stack.pools["short"], stack.pools["long"]))
    asked = len(short)
    checked = _checks_passed(stack)
    # A check that the crowd has slowed down may still fail after it, and Envoy takes a second to believe in health.
    until(lambda: _checks_passed(stack) >= checked + 2 and healthy(stack.envoy) == 1)
    with Load(stack.url) as after:
        until(lambda: len(short) > asked)
        before = len(long)
        until(after.more(30))
    late = len(long) - before
    return Outcome(
        [*load.sent, *after.sent],
        [Figure("calls open at once", most, MOST_CALLS), Figure("sent long for it afterwards", late, 0)],
    )


def _checks_passed(stack: Stack) -> float:
    name = "cluster.dualpool.health_check.success"
    return stack.envoy.stats(name)[name]


def _exchanges(stack: Stack) -> float:
    name = "dualpool_exchanges_in_flight "
    lines = stack.service.get("/metrics").splitlines()
    return max(float(line.removeprefix(name)) for line in lines if line.startswith(name))
