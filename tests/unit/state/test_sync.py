"""The loop between a learner and its stores."""

import asyncio
import gc
import itertools
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from extproc.budget.learner import TURN, Learner
from extproc.budget.linear import LinearEstimator
from extproc.budget.output import OutputReserve
from extproc.budget.ratio import RatioEstimator
from extproc.budget.sums import Table
from extproc.config import Estimation, Output
from extproc.config_service import Redis
from extproc.state import sync as module
from extproc.state.file import FileStore
from extproc.state.redis import RedisStore
from extproc.state.store import Store, StoreError
from extproc.state.sync import Sync
from extproc.state.thread import in_thread
from tests.unit.budget.figures import GLOBAL, figure
from tests.unit.budget.test_ratio import observation
from tests.unit.budget.test_sharing import learner, ratio, teach
from tests.unit.service.waiting import until
from tests.unit.state.standin import StandIn

COMMON: Table = {("output", "x", ""): figure(1, 1.0, (1.0,))}
"""What is kept in a store before any test writes to it."""


class Fake:
    """A store in memory that can be told to fail."""

    def __init__(self, name: str, kept: Table | None = None) -> None:
        self.name = name
        self.kept = dict(kept or {})
        self.broken = False
        self.lineage = ""

    def read(self) -> Table:
        self._check()
        return self.kept

    def exchange(self, pending: Table, whole: Table, limit: int) -> Table:
        assert limit >= len(pending)
        self._check()
        if not self.kept:
            self.kept = whole
        else:
            for key, sums in pending.items():
                self.kept[key] = self.kept[key].then(sums) if key in self.kept else sums
        return dict(self.kept)

    def replace(self, whole: Table, limit: int) -> None:
        assert limit >= len(whole)
        self._check()
        self.kept = whole

    def _check(self) -> None:
        if self.broken:
            raise StoreError(f"state.{self.name}: broken")


def samples(of: Learner | Fake) -> int:
    table = of.kept if isinstance(of, Fake) else of.export()
    return table[GLOBAL].samples


class Quiet(Fake):
    """A store with nothing new to tell when it is offered nothing. `replaced`: how often it was given a copy."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.replaced = 0

    def exchange(self, pending: Table, whole: Table, limit: int) -> Table | None:  # type: ignore[override]
        return super().exchange(pending, whole, limit) if pending else None

    def replace(self, whole: Table, limit: int) -> None:
        self.replaced += 1
        super().replace(whole, limit)


def sync(of: Learner, *stores: Store, reports: list[tuple[str, bool]] | None = None) -> Sync:
    def report(store: str, worked: bool) -> None:
        if reports is not None:
            reports.append((store, worked))

    return Sync(of, stores, 0.01, report)


async def test_a_start_reads_the_first_store_that_has_something() -> None:
    """Redis before the file; the file when Redis is empty or broken."""
    known, one = learner(), learner("redis", "file")
    teach(known, 4.0, 30)
    redis = Fake("redis")
    redis.broken = True
    await sync(one, redis, Fake("file", known.export())).start()
    assert ratio(one) == pytest.approx(4.0, rel=0.01)


async def test_a_start_takes_no_lineage_from_an_empty_store() -> None:
    """The first store's figures are still what it was known to hold."""
    known = learner()
    teach(known, 4.0, 30)
    redis = Fake("redis", known.export())
    redis.lineage = "begun"
    await sync(learner("redis", "file"), redis, Fake("file")).start()
    assert redis.lineage == "begun"


async def test_two_learners_converge_to_the_same_figures(tmp_path: Path) -> None:
    """After both have exchanged, and once more, both have learned from all observations of both."""
    one, two = learner("file"), learner("file")
    stores = [FileStore(tmp_path / "state", 3600) for _ in range(2)]
    syncs = [sync(one, stores[0]), sync(two, stores[1])]
    teach(one, 3.0, 40)
    teach(two, 5.0, 40)
    for each in (*syncs, *syncs):
        await each.exchange()
    assert one.snapshot() == two.snapshot()
    assert samples(one) == 80


async def test_what_one_alone_has_learned_is_the_same_for_both(tmp_path: Path) -> None:
    """The weights of a model are solved for at some observations only, but both end with those of all."""
    one, two = learner("file", estimator=LinearEstimator), learner("file", estimator=LinearEstimator)
    syncs = [sync(each, FileStore(tmp_path / "state", 3600)) for each in (one, two)]
    for bytes_per_token in (4.0, 4.2):  # too near each other to be two tokenizers
        teach(one, bytes_per_token, 50)
    for each in (*syncs, *syncs):
        await each.exchange()
    mine, theirs = ({fit["model"]: fit["weights"] for fit in of.snapshot()["linear"]} for of in (one, two))
    assert mine["m"] == pytest.approx(theirs["m"], rel=1e-9)
    assert mine[""] == pytest.approx(theirs[""], rel=1e-9)


async def test_a_broken_store_loses_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Learning goes on, failure and recovery are logged once, and all is delivered when the store works again."""
    caplog.set_level("INFO")
    reports: list[tuple[str, bool]] = []
    one, store = learner("redis"), Fake("redis", COMMON)
    each = sync(one, store, reports=reports)
    store.broken = True
    for _ in range(3):
        teach(one, 4.0, 10)
        await each.exchange()
    store.broken = False
    for _ in range(2):  # the offer that failed, as it was, then what came since
        await each.exchange()
    assert samples(store) == 30
    assert reports == [("redis", False)] * 3 + [("redis", True)] * 2
    assert caplog.text.count("state.redis: broken") == 1
    assert caplog.text.count("redis works again") == 1
    store.broken = True
    await each.exchange()
    assert caplog.text.count("state.redis: broken") == 2


async def test_later_stores_are_given_a_copy() -> None:
    """While Redis answers, the file has what Redis has; when it does not, the file is what is shared."""
    one, redis, file = learner("redis", "file"), Fake("redis"), Fake("file")
    each = sync(one, redis, file)
    teach(one, 4.0, 10)
    await each.exchange()
    assert file.kept == redis.kept
    redis.broken = True
    teach(one, 4.0, 10)
    await each.exchange()
    assert samples(file) == 20
    redis.broken = False
    await each.exchange()
    assert samples(redis) == 20


async def test_a_store_that_was_emptied_is_filled_again() -> None:
    """A Redis that was restarted empty is given all that is known."""
    one, redis = learner("redis"), Fake("redis")
    each = sync(one, redis)
    teach(one, 4.0, 10)
    await each.exchange()
    redis.kept = {}
    teach(one, 4.0, 1)
    await each.exchange()
    assert samples(redis) == 11


async def test_the_loop_survives_what_nobody_thought_of(caplog: pytest.LogCaptureFixture) -> None:
    """A store that raises anything else does not end the loop."""

    class Odd(Fake):
        tries = 0

        def exchange(self, pending: Table, whole: Table, limit: int) -> Table:
            self.tries += 1
            if self.tries == 1:
                raise ValueError("odd")
            return super().exchange(pending, whole, limit)

    one, store = learner("odd"), Odd("odd")
    teach(one, 4.0, 10)
    task = asyncio.create_task(sync(one, store).run())
    while not store.kept:
        await asyncio.sleep(0)
    task.cancel()
    assert "an exchange failed" in caplog.text


async def test_closing_survives_what_nobody_thought_of(caplog: pytest.LogCaptureFixture) -> None:
    """The service ends in order."""

    class Odd(Fake):
        def _check(self) -> None:
            raise ValueError("odd")

    await sync(learner("odd"), Odd("odd")).close()
    assert "the last exchange failed" in caplog.text


async def test_closing_exchanges_a_last_time() -> None:
    """What was learned in the last interval is kept at a shutdown."""
    one, store = learner("file"), Fake("file")
    teach(one, 4.0, 10)
    await sync(one, store).close()
    assert samples(store) == 10


class Slow(Fake):
    """A store whose exchange has `begun`, and waits until it may `go_on`."""

    def __init__(self, name: str, kept: Table) -> None:
        super().__init__(name, kept)
        self.begun, self.go_on = threading.Event(), threading.Event()

    def exchange(self, pending: Table, whole: Table, limit: int) -> Table:
        self.begun.set()
        assert self.go_on.wait(30)
        return super().exchange(pending, whole, limit)


async def test_a_shutdown_during_an_exchange_delivers_once() -> None:
    """What a store is taking when the loop ends is not offered to it again."""
    one, store = learner("file"), Slow("file", COMMON)
    each = sync(one, store)
    teach(one, 4.0, 10)
    task = asyncio.create_task(each.run())
    assert await asyncio.to_thread(store.begun.wait, 30)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    store.go_on.set()
    await each.close()
    assert samples(store) == 10


@pytest.mark.parametrize("kept", [{}, COMMON])
async def test_a_reload_during_an_exchange_loses_nothing_and_counts_nothing_twice(kept: Table) -> None:
    """Estimators may be rebuilt while a store is taking its offer, and learn meanwhile."""
    one, store = learner("file"), Slow("file", kept)
    each = sync(one, store)
    teach(one, 4.0, 10)
    exchange = asyncio.create_task(each.exchange())
    assert await asyncio.to_thread(store.begun.wait, 30)
    teach(one, 4.0, 5)
    one.rebuild(RatioEstimator(Estimation(), 16), OutputReserve(Output(), 16), one.limit)
    teach(one, 4.0, 3)
    store.go_on.set()
    await exchange
    assert samples(one) == 18
    await each.exchange()
    assert samples(store) == samples(one) == 18


async def test_closing_after_a_failure_keeps_everything() -> None:
    """A store that failed and works again at a shutdown is given what came since the failure too."""
    one, store = learner("file"), Fake("file", COMMON)
    each = sync(one, store)
    store.broken = True
    for _ in range(2):
        teach(one, 4.0, 10)
        await each.exchange()
    store.broken = False
    await each.close()
    assert samples(store) == 20


async def test_what_failed_to_reach_one_store_is_not_forgotten_when_it_works_again() -> None:
    """While Redis is away two processes share a file; back, it is told by each what that one learned, once."""
    redis, file = Fake("redis"), Fake("file")
    both = [learner("redis", "file") for _ in range(2)]
    syncs = [sync(one, redis, file) for one in both]

    async def turn() -> None:
        for each in syncs:
            await each.exchange()

    for one in both:
        teach(one, 4.0, 10)
    await turn()
    await turn()
    redis.broken = True
    for one in both:
        teach(one, 4.0, 5)
    await turn()
    await turn()
    assert [samples(one) for one in both] == [30, 30]
    redis.kept = {}  # restarted empty
    redis.broken = False
    for _ in range(3):
        await turn()
    assert samples(redis) == 30
    assert [samples(one) for one in both] == [30, 30]


async def test_a_restart_while_the_first_store_is_away_counts_nothing_twice(
    server: StandIn, tmp_path: Path
) -> None:
    """The file says whose figures it holds: who reads it does not give Redis what others have yet to deliver."""
    redis = Redis(url=f"redis://127.0.0.1:{server.port}")

    def started() -> tuple[Learner, Sync]:
        one = learner("redis", "file")
        return one, sync(one, RedisStore(redis, 3600, clock=itertools.count(0, 10).__next__), file())

    def file() -> FileStore:
        return FileStore(tmp_path / "state", 3600)

    both = [started() for _ in range(2)]
    teach(both[0][0], 4.0, 20)
    for _ in range(2):
        for _, each in both:
            await each.exchange()
    server.errors["WATCH"] = server.errors["GETRANGE"] = "ERR away"
    for one, each in both:
        teach(one, 4.0, 5)
        await each.exchange()
    again, each = started()
    await each.start()
    assert samples(again) == 30
    server.errors.clear()
    await each.exchange()
    await both[1][1].exchange()
    await each.exchange()
    assert samples(again) == 25


async def test_a_start_is_not_overruled_by_an_older_copy(server: StandIn, tmp_path: Path) -> None:
    """What Redis knew at the start stays known when it is away before the file has a copy of that."""
    redis = Redis(url=f"redis://127.0.0.1:{server.port}")

    def started(name: str) -> tuple[Learner, Sync]:
        one = learner("redis", "file")
        stores = RedisStore(redis, 3600, clock=itertools.count(0, 10).__next__), FileStore(tmp_path / name, 3600)
        return one, sync(one, *stores)

    for name, times in (("a", 10), ("b", 90)):
        one, each = started(name)
        await each.start()
        teach(one, 4.0, times)
        await each.exchange()
        await each.close()
    again, each = started("a")
    await each.start()
    assert samples(again) == 100
    server.errors["WATCH"] = server.errors["GETRANGE"] = "ERR away"
    await each.exchange()
    assert samples(again) == 100


async def test_a_start_prefers_the_first_store() -> None:
    """What Redis has is what counts, whatever a copy of it in the file has come to."""
    shared, old, one = learner(), learner(), learner("redis", "file")
    teach(shared, 4.0, 30)
    teach(old, 8.0, 60)
    await sync(one, Fake("redis", shared.export()), Fake("file", old.export())).start()
    assert ratio(one) == pytest.approx(4.0, rel=0.01)


async def test_replicas_that_begin_to_share_bring_what_each_has_kept(server: StandIn, tmp_path: Path) -> None:
    """Whoever comes later to Redis finds figures there, and gives it those that only its own file has."""
    redis = Redis(url=f"redis://127.0.0.1:{server.port}")
    both = []
    for model in ("a", "b"):
        alone, one, path = learner("file"), learner("redis", "file"), tmp_path / model
        alone.learn(observation(100, model=model))
        await sync(alone, FileStore(path, 3600)).exchange()
        both.append((one, sync(one, RedisStore(redis, 3600), FileStore(path, 3600))))
    for _, each in both:
        await each.start()
        await each.exchange()
    await both[0][1].exchange()
    for one, _ in both:
        assert {key[2] for key in one.export() if key[0] == "ratio"} == {"", "a", "b"}


async def test_a_copy_has_what_others_taught() -> None:
    """A file beside Redis goes on from all that Redis has, not only from what was learned here."""
    one, redis, file = learner("redis", "file"), Fake("redis"), Fake("file")
    each, other = sync(one, redis, file), learner("redis")
    teach(one, 4.0, 10)
    await each.exchange()
    teach(other, 4.0, 10)
    await sync(other, redis).exchange()
    await each.exchange()
    assert samples(file) == 20


async def test_a_copy_is_written_only_when_there_is_news() -> None:
    """While no traffic comes nothing is written."""
    one, redis, file = learner("redis", "file"), Quiet("redis"), Quiet("file")
    each = sync(one, redis, file)
    teach(one, 4.0, 10)
    for _ in range(3):
        await each.exchange()
    assert file.replaced == 1


async def test_a_copy_waits_for_its_time_and_comes_at_the_end() -> None:
    """What is shared is exchanged more often than it is written to a disk."""
    one, shared, file = learner("shared", "file"), Fake("shared"), Fake("file")
    each = Sync(one, [shared, file], 0.01, lambda *_: None, copies=1e9)
    teach(one, 4.0, 10)
    await each.exchange()
    assert (samples(shared), file.kept) == (10, {})
    await each.close()
    assert samples(file) == 10


async def test_copies_are_as_far_apart_as_they_are_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """From one to the next, not only from the start to the first."""
    loop, later = asyncio.get_running_loop(), [0.0]
    clock = loop.time
    monkeypatch.setattr(loop, "time", lambda: clock() + later[0])
    one, file = learner("shared", "file"), Quiet("file")
    each = Sync(one, [Fake("shared"), file], 0.01, lambda *_: None, copies=1000.0)
    copies = []
    for seconds in (0.0, 1000.0, 1500.0, 2500.0):
        later[0] = seconds
        teach(one, 4.0, 1)
        await each.exchange()
        copies.append(file.replaced)
    assert copies == [0, 1, 1, 2]


async def test_what_others_taught_is_copied_when_it_is_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though nothing has come since, and it was not learned here."""
    other, one, shared, file = learner("shared"), learner("shared", "file"), Fake("shared"), Fake("file")
    each = Sync(one, [shared, file], 0.01, lambda *_: None, copies=1e9)
    teach(other, 4.0, 10)
    await sync(other, shared).exchange()
    await each.exchange()
    assert file.kept == {}
    monkeypatch.setattr(shared, "exchange", lambda *_: None)
    monkeypatch.setattr(each, "_copies", 0.0)
    await each.exchange()
    assert samples(file) == 10


async def test_a_copy_does_not_age_while_the_service_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is written again after a while, though nothing is new."""
    one, redis, file = learner("redis", "file"), Fake("redis"), Fake("file")
    monkeypatch.setattr(redis, "exchange", lambda *_: None)
    each = sync(one, redis, file)
    teach(one, 4.0, 10)
    await each.exchange()
    file.kept = {}
    await each.exchange()
    assert file.kept == {}
    monkeypatch.setattr(module, "AGEING_SECONDS", 0.0)
    await each.exchange()
    assert samples(file) == 10


async def test_a_store_that_hangs_does_not_hold_up_a_shutdown(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The last exchange is given up after a while."""
    monkeypatch.setattr(module, "CLOSE_SECONDS", 0.05)
    one, store = learner("file"), Slow("file", {})
    teach(one, 4.0, 10)
    await sync(one, store).close()
    store.go_on.set()
    assert "the last exchange was given up after 0.05 s" in caplog.text


class Late(Fake):
    """A store that does not answer until it is told to go on. `asked`: what it was asked."""

    def __init__(self, name: str, kept: Table | None = None) -> None:
        super().__init__(name, kept)
        self.go_on = threading.Event()
        self.asked: list[str] = []

    def _check(self) -> None:
        self.asked.append(sys._getframe(1).f_code.co_name)
        assert self.go_on.wait(30)
        super()._check()


@pytest.fixture
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a store that does not answer yet is given up soon: on a busy machine the others need their time."""
    in_time = Sync._in_time

    async def patient(self: Sync, store: Store, answer: asyncio.Future[Any], seconds: float) -> Any:
        assert seconds in (module.START_SECONDS, module.ANSWER_SECONDS)
        late = isinstance(store, Late) and not store.go_on.is_set()
        return await in_time(self, store, answer, 0.05 if late else 30.0)

    monkeypatch.setattr(Sync, "_in_time", patient)


@pytest.mark.usefixtures("_soon")
async def test_a_store_that_hangs_holds_up_no_other(caplog: pytest.LogCaptureFixture) -> None:
    """It has failed for this time, and the next is asked."""
    reports: list[tuple[str, bool]] = []
    one, hanging, file = learner("redis", "file"), Late("redis"), Fake("file")
    each = sync(one, hanging, file, reports=reports)
    teach(one, 4.0, 10)
    await each.exchange()
    hanging.go_on.set()
    assert samples(file) == 10
    assert reports == [("redis", False), ("file", True)]
    assert "state: redis: no answer within 0.05 s" in caplog.text


@pytest.mark.usefixtures("_soon")
async def test_a_late_answer_is_the_answer_to_what_was_offered() -> None:
    """What the store has taken is not given to it again, nor is it asked anything else meanwhile."""
    one, store = learner("file"), Late("file", COMMON)
    each = sync(one, store)
    teach(one, 4.0, 10)
    for _ in range(3):
        await each.exchange()
    await until(lambda: store.asked)
    assert store.asked == ["exchange"]
    store.go_on.set()
    teach(one, 4.0, 1)
    for _ in range(2):
        await each.exchange()
    assert store.asked == ["exchange"] * 2
    assert samples(store) == 11


async def test_what_is_up_to_date_is_said_to_be() -> None:
    """A store with nothing to be copied to it is no store that has not been written for long."""
    reports: list[tuple[str, bool]] = []
    each = sync(learner("redis", "file"), Quiet("redis"), Fake("file"), reports=reports)
    await each.exchange()
    assert reports == [("redis", True), ("file", True)]


async def test_stores_keep_as_many_figures_as_the_learner_does_now() -> None:
    """The limit may be raised while it runs."""
    limits: list[int] = []

    class Counting(Fake):
        def exchange(self, pending: Table, whole: Table, limit: int) -> Table:
            limits.append(limit)
            return super().exchange(pending, whole, limit)

    one = learner("file")
    each = sync(one, Counting("file"))
    await each.exchange()
    one.rebuild(one.estimator, one.output, 4096)
    await each.exchange()
    assert limits[1] == 4096


async def test_requests_get_turns_before_a_store_is_asked() -> None:
    """What takes long with thousands of models is done step by step."""
    turns, asked_at = 0, []

    class Counting(Fake):
        def exchange(self, pending: Table, whole: Table, limit: int) -> Table:
            asked_at.append(turns)
            return super().exchange(pending, whole, limit)

    most = 20 * TURN
    one = Learner(RatioEstimator(Estimation(), most), OutputReserve(Output(), most), 4 * most, ("file",))
    for model in range(most):
        one.learn(observation(80, model=f"m{model}"))
    exchange = asyncio.create_task(sync(one, Counting("file")).exchange())
    while not exchange.done():
        turns += 1
        await asyncio.sleep(0)
    await exchange
    assert asked_at[0] >= 20


async def test_requests_have_turns_while_what_a_store_gave_is_made_ready() -> None:
    """Solving for the weights of thousands of models takes half a second."""
    turns = 0
    noted: list[int] = []

    class Noting(Learner):
        def ready(self, table: Table) -> Iterator[None]:
            noted.append(turns)
            return super().ready(table)

        def settle(self, store: str, table: Table | None) -> None:
            noted.append(turns)
            super().settle(store, table)

    most = 20 * TURN
    one = Noting(LinearEstimator(Estimation(), most), OutputReserve(Output(), most), most, ("file",))
    given: Table = {("output", f"m{model}", ""): figure(1, 1.0, (1.0,)) for model in range(most)}
    exchange = asyncio.create_task(sync(one, Fake("file", given)).exchange())
    while not exchange.done():
        turns += 1
        await asyncio.sleep(0)
    await exchange
    began, settled = noted
    assert settled - began >= 20


@pytest.mark.usefixtures("_soon")
@pytest.mark.parametrize("worked", [True, False])
async def test_a_late_copy_is_not_taken_for_a_later_one(worked: bool) -> None:
    """What it held counts once, whether the store wrote it in the end or not, and whoever is asked first then."""
    one, redis, file = learner("redis", "file"), Fake("redis", COMMON), Late("file", COMMON)
    each = sync(one, redis, file)
    teach(one, 4.0, 5)
    await each.exchange()
    teach(one, 4.0, 3)
    await each.exchange()
    await until(lambda: file.asked)
    assert file.asked == ["replace"]
    redis.broken, file.broken = True, not worked
    file.go_on.set()
    await each._end(file)
    file.broken = False
    await each.exchange()
    assert samples(one) == 8
    redis.broken = False
    for _ in range(2):
        await each.exchange()
    assert (samples(one), samples(redis), samples(file)) == (8, 8, 8)


@pytest.mark.usefixtures("_soon")
async def test_a_late_read_is_no_answer_to_an_offer() -> None:
    """What was learned meanwhile goes to the store, and what it has is known then."""
    known, one = learner(), learner("file")
    teach(known, 4.0, 30)
    store = Late("file", known.export())
    each = sync(one, store)
    await each.start()
    teach(one, 4.0, 7)
    store.go_on.set()
    await each.exchange()
    assert samples(one) == samples(store) == 37


async def test_a_copy_that_failed_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though nothing has come since, and who copies learns nothing itself, as a supervisor."""
    worker, supervisor = learner("shared"), learner("shared", "file")
    shared, file = Fake("shared"), Fake("file")
    each = sync(supervisor, shared, file)
    file.broken = True
    teach(worker, 4.0, 7)
    await sync(worker, shared).exchange()
    await each.exchange()
    monkeypatch.setattr(shared, "exchange", lambda *_: None)
    file.broken = False
    await each.exchange()
    assert samples(file) == 7


@pytest.mark.usefixtures("_soon")
async def test_what_a_late_read_tells_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the store has nothing new to tell after it."""
    known, one = learner(), learner("file")
    teach(known, 4.0, 30)
    store = Late("file", known.export())
    monkeypatch.setattr(store, "exchange", lambda *_: None)
    each = sync(one, store)
    await each.start()
    store.go_on.set()
    await each.exchange()
    assert samples(one) == 30


@pytest.mark.usefixtures("_soon")
async def test_a_late_read_of_nothing_takes_nothing_away() -> None:
    """What was learned meanwhile is in another store already."""
    one, redis = learner("redis", "file"), Late("redis")
    each = sync(one, redis, Fake("file"))
    await each.start()
    teach(one, 4.0, 3)
    await each.exchange()
    redis.go_on.set()
    await each.exchange()
    assert samples(one) == samples(redis) == 3


@pytest.mark.usefixtures("_soon")
async def test_a_store_that_goes_on_hanging_goes_on_failing() -> None:
    """Each time it is waited for in vain, whatever it is that it does not end."""
    reports: list[tuple[str, bool]] = []
    one, file = learner("redis", "file"), Late("file")
    each = sync(one, Fake("redis", COMMON), file, reports=reports)
    for _ in range(3):
        teach(one, 4.0, 1)
        await each.exchange()
    file.go_on.set()
    assert reports == [("redis", True), ("file", False)] * 3


@pytest.mark.usefixtures("_soon")
@pytest.mark.parametrize("worked", [True, False])
async def test_what_a_late_exchange_offered_counts_once(worked: bool) -> None:
    """Whether the store took it in the end or not, though a copy that failed came in between."""
    one, redis, file = learner("redis", "file"), Fake("redis", COMMON), Late("file", COMMON)
    each = sync(one, redis, file)
    redis.broken, file.broken = True, not worked
    teach(one, 4.0, 5)
    await each.exchange()
    file.go_on.set()
    await each._end(file)
    redis.broken, file.broken = False, True
    await each.exchange()
    redis.broken, file.broken = True, False
    await each.exchange()
    assert samples(one) == samples(file) == 5


@pytest.mark.usefixtures("_soon")
async def test_a_late_read_of_a_copy_takes_no_place_of_what_is_shared() -> None:
    """The first store has answered since: the file beside it may be old."""
    shared, old, one = learner(), learner(), learner("redis", "file")
    teach(shared, 4.0, 30)
    teach(old, 8.0, 30)
    redis, file = Fake("redis", shared.export()), Late("file", old.export())
    each = sync(one, redis, file)
    redis.broken = True
    await each.start()
    redis.broken = False
    file.go_on.set()
    await each.exchange()
    assert ratio(one) == pytest.approx(4.0, rel=0.01)


@pytest.mark.parametrize("cancelled", [True, False])
async def test_a_call_that_nobody_awaits_any_more_ends_in_silence(cancelled: bool) -> None:
    """Though it fails. Nor is it waited for at the end of the process."""
    go_on, errors = threading.Event(), []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))

    def fail() -> None:
        go_on.wait(30)
        raise StoreError

    answer = in_thread(fail, "a call")
    (thread,) = (thread for thread in threading.enumerate() if thread.name == "a call")
    assert thread.daemon
    if cancelled:
        answer.cancel()
    del answer
    go_on.set()
    await asyncio.to_thread(thread.join)
    await asyncio.sleep(0)
    gc.collect()  # asyncio tells of an error when the future that holds it goes
    assert errors == []
