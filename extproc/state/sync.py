"""The loop that exchanges learned figures with the stores while requests pass.

Stores are tried in order. The first that answers is shared: its figures are used, and later stores are given a
copy, from which a start, or a time without the first store, can go on. What a store lacks stays pending until it
has it.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from extproc.budget.learner import Learner
from extproc.budget.sums import Table, surest
from extproc.state.codec import AGEING_SECONDS
from extproc.state.store import Store, StoreError
from extproc.state.thread import in_thread

log = logging.getLogger(__name__)

START_SECONDS = 15.0
ANSWER_SECONDS = 2.0
"""A store that has not answered by then counts as failed, at the start and later. A late answer is still used."""

CLOSE_SECONDS = 5.0
"""How long the last exchange, at the end of the process, may take."""

T = TypeVar("T")


class Sync:
    """Syncs `learner` with `stores` every `interval` seconds.

    `report(store, worked)` is called after every exchange. `copies`: least time between two copies given to a store
    that is not shared, in seconds; by default one at every exchange.
    """

    def __init__(
        self,
        learner: Learner,
        stores: Sequence[Store],
        interval: float,
        report: Callable[[str, bool], None],
        copies: float = 0.0,
    ) -> None:
        self._learner = learner
        self._stores = tuple(stores)
        self._interval = interval
        self._report = report
        self._copies = copies
        self._behind: set[str] = set()  # stores whose copy lacks what other processes have learned
        self._failing: set[str] = set()
        self._copied: dict[str, float] = {}  # when each store was last given a copy, or first seen: seconds
        self._turn = asyncio.Lock()  # one exchange at a time: at the end one may still be going on
        self._running: dict[str, tuple[str, asyncio.Future[Any]]] = {}

    async def start(self) -> None:
        """Adopt the figures of the first store that has any. Stores that fail are reported.

        A later store usually holds an older copy of them. One of another lineage does not: it was written before
        the stores were used together, and may know what the first does not.
        """
        known: Table = {}
        lineage = ""
        for number, store in enumerate(self._stores):
            with suppress(StoreError):
                seconds = ANSWER_SECONDS if known else START_SECONDS
                table = await self._ask(store, "read", store.read, seconds)
                if not table or (known and store.lineage == lineage):
                    continue
                known, lineage = surest(known, table, self._learner.limit), store.lineage
                for each in self._stores[:number]:  # so that each takes over what it lacks
                    each.lineage = lineage
                log.info("state: %d learned figures read from %s", len(table), store.name)
        if known:
            self._learner.adopt(known)

    async def run(self) -> None:
        """Exchange until cancelled."""
        while self._stores:
            await asyncio.sleep(self._interval)
            exchange = asyncio.create_task(self.exchange())
            try:
                # If it were cancelled, it would offer again what a store is already taking in another thread.
                await asyncio.shield(exchange)
            except Exception:  # whatever it was: the next exchange may work, and learning must go on
                log.exception("state: an exchange failed")

    async def close(self) -> None:
        """Exchange for the last time, within `CLOSE_SECONDS`. Never raises."""
        if not self._stores:
            return
        try:
            await asyncio.wait_for(self._last(), CLOSE_SECONDS)
        except TimeoutError:
            log.warning("state: the last exchange was given up after %g s", CLOSE_SECONDS)
        except Exception:  # the service must stop in order all the same
            log.exception("state: the last exchange failed")

    async def _last(self) -> None:
        for _ in range(2):  # an offer that failed is made again unchanged; the second turn delivers what came since
            await self.exchange(last=True)

    async def exchange(self, last: bool = False) -> None:
        """Exchange once with every store. A store that fails is reported, and tried again the next time.

        `last`: give copies now, whatever `copies` says.
        """
        shared: Store | None = None
        changed = False
        async with self._turn:
            for store in self._stores:
                with suppress(StoreError):
                    if shared is None:
                        changed = await self._share(store)
                        shared = store
                    else:
                        await self._copy(store, shared, changed, last)

    async def _share(self, store: Store) -> bool:
        """Exchange with `store`. False when neither side had anything new."""
        await self._end(store, unless="exchange")
        await _in_turns(self._learner.prepare())
        offer, limit = self._learner.offer(store.name), self._learner.limit
        table = await self._ask(store, "exchange", lambda: store.exchange(offer.pending, offer.whole, limit))
        await _in_turns(self._learner.ready(table or {}))
        self._learner.settle(store.name, table)
        return table is not None

    async def _copy(self, store: Store, shared: Store, changed: bool, last: bool) -> None:
        now = asyncio.get_running_loop().time()
        waited = now - self._copied.setdefault(store.name, now)
        if changed:
            self._behind.add(store.name)
        if waited < self._copies and not last:
            return
        await self._end(store)
        store.lineage = shared.lineage
        behind = self._learner.has_news(store.name) or store.name in self._behind | self._failing
        if not behind and waited < AGEING_SECONDS:
            self._report(store.name, True)  # its copy is up to date
            return
        self._copied[store.name] = now
        self._behind.discard(store.name)
        await _in_turns(self._learner.prepare())
        whole, limit = self._learner.copy(store.name), self._learner.limit
        worked = False
        try:
            await self._ask(store, "replace", lambda: store.replace(whole, limit))
            worked = True
        finally:
            if store.name not in self._running:  # otherwise `_end` notes it when it comes
                self._learner.copied(store.name, worked)

    async def _end(self, store: Store, unless: str = "") -> None:
        """Wait for a late call of `store`, unless it is of kind `unless`, and note its result.

        An offer stays the same until it is taken, so the late answer to an exchange also answers the next one.
        """
        what, call = self._running.get(store.name, ("", None))
        if call is None or what == unless:
            return
        result, worked = None, False
        try:
            result = await self._in_time(store, call, ANSWER_SECONDS)
            worked = True
        except StoreError as error:
            if not call.done():
                self._failed(store, error)
                raise
        if what == "replace":
            self._learner.copied(store.name, worked)
        elif what == "exchange" and worked:
            self._learner.settle(store.name, None)
        elif what == "read" and result and store is self._stores[0]:
            self._learner.adopt(result)

    async def _ask(self, store: Store, what: str, call: Callable[[], T], seconds: float = ANSWER_SECONDS) -> T:
        """Run `call` in a thread, or go on waiting for a late one, which asked for the same.

        Logs once when a store fails and once when it works again.
        """
        answer: asyncio.Future[T]
        _, answer = self._running.get(store.name) or (what, in_thread(call, f"state-{store.name}"))
        self._running[store.name] = what, answer
        try:
            result = await self._in_time(store, answer, seconds)
        except StoreError as error:
            self._failed(store, error)
            raise
        if store.name in self._failing:
            log.info("state: %s works again", store.name)
        self._failing.discard(store.name)
        self._report(store.name, True)
        return result

    def _failed(self, store: Store, error: StoreError) -> None:
        if store.name not in self._failing:
            log.warning("%s; learning goes on, and the store is tried again", error)
        self._failing.add(store.name)
        self._report(store.name, False)

    async def _in_time(self, store: Store, answer: asyncio.Future[T], seconds: float) -> T:
        """Return the answer if it comes within `seconds`. Otherwise raises `StoreError`, and the call runs on."""
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.shield(answer)
        except TimeoutError:
            if answer.done():  # at the last moment
                return answer.result()
            raise StoreError(f"state: {store.name}: no answer within {seconds:g} s") from None
        finally:
            if answer.done():
                self._running.pop(store.name, None)


async def _in_turns(work: Iterator[None]) -> None:
    """Do `work`, and give requests a turn wherever it yields."""
    for _ in work:
        await asyncio.sleep(0)
