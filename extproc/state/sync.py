"""The loop that keeps and shares what is learned, while requests go on.

Stores are asked in order. The first that answers is the one whose figures are used; the others are given a copy, so
that a start, or a time without the first, goes on from there. What a store has not got stays pending until it has.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from extproc.budget.learner import Learner
from extproc.state.codec import AGEING_SECONDS
from extproc.state.store import Store, StoreError
from extproc.state.thread import in_thread

log = logging.getLogger(__name__)

START_SECONDS = 15.0
ANSWER_SECONDS = 2.0
"""A store that has not answered by then has failed for this time, at a start or later. A late answer is
still used."""

CLOSE_SECONDS = 5.0
"""The last exchange, at the end of the process, may take so long."""

T = TypeVar("T")


class Sync:
    """Syncs `learner` with `stores` every `interval` seconds. `report(store, worked)` is told of every exchange.

    `copies`: seconds between two copies for a store that is not the one shared, by default as often as that.
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
        self._behind: set[str] = set()  # stores whose copy lacks what others have learned
        self._failing: set[str] = set()
        self._copied: dict[str, float] = {}  # when each store was given one, or first seen, s
        self._turn = asyncio.Lock()  # one exchange at a time: at the end one may still be going on
        self._running: dict[str, tuple[str, asyncio.Future[Any]]] = {}

    async def start(self) -> None:
        """Take over what the first store that has something has kept; one that fails is reported."""
        for store in self._stores:
            with suppress(StoreError):
                table = await self._ask(store, "read", store.read, START_SECONDS)
                if table:
                    self._learner.adopt(table)
                    for each in self._stores[: self._stores.index(store)]:  # a later one may hold an older copy
                        each.lineage = store.lineage
                    log.info("state: %d learned figures read from %s", len(table), store.name)
                    return

    async def run(self) -> None:
        """Exchange until cancelled."""
        while self._stores:
            await asyncio.sleep(self._interval)
            exchange = asyncio.create_task(self.exchange())
            try:
                # Cancelled half way, it would offer again what its store, in another thread, is taking already.
                await asyncio.shield(exchange)
            except Exception:  # whatever it was, the next turn may work, and learning must not end here
                log.exception("state: an exchange failed")

    async def close(self) -> None:
        """Exchange a last time, within a bound. Never raises."""
        if not self._stores:
            return
        try:
            await asyncio.wait_for(self._last(), CLOSE_SECONDS)
        except TimeoutError:
            log.warning("state: the last exchange is given up after %g s", CLOSE_SECONDS)
        except Exception:  # the service is to end in order all the same
            log.exception("state: the last exchange failed")

    async def _last(self) -> None:
        for _ in range(2):  # an offer that had failed is made again as it was; what came since follows
            await self.exchange(last=True)

    async def exchange(self, last: bool = False) -> None:
        """Exchange once with every store. A store that fails is reported, and tried again the next time.

        `last`: give copies now, there is no later.
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
        """Exchange with `store`; False when nothing is new on either side."""
        await self._end(store, unless="exchange")
        offer, limit = self._learner.offer(store.name), self._learner.limit
        table = await self._ask(store, "exchange", lambda: store.exchange(offer.pending, offer.whole, limit))
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
        if behind or waited >= AGEING_SECONDS:
            self._copied[store.name] = now
            self._behind.discard(store.name)
            whole, limit = self._learner.copy(store.name), self._learner.limit
            worked = False
            try:
                await self._ask(store, "replace", lambda: store.replace(whole, limit))
                worked = True
            finally:
                if store.name not in self._running:
                    self._learner.copied(store.name, worked)
        else:
            self._report(store.name, True)  # it has all there is

    async def _end(self, store: Store, unless: str = "") -> None:
        """Wait for a call of `store` that is late, unless it is one that is to be awaited, and note what it did.

        The same offer is made until it is taken, so a late answer to an exchange is the answer to the next.
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

    async def _ask(self, store: Store, what: str, call: Callable[[], T], seconds: float | None = None) -> T:
        """Run `call` outside the loop, or go on waiting for the one before, which asked the same.

        Tells once when a store fails and once when it works again.
        """
        answer: asyncio.Future[T]
        _, answer = self._running.get(store.name) or (what, in_thread(call, f"state-{store.name}"))
        self._running[store.name] = what, answer
        try:
            result = await self._in_time(store, answer, seconds or ANSWER_SECONDS)
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
            log.warning("%s; learning goes on, and it is tried again", error)
        self._failing.add(store.name)
        self._report(store.name, False)

    async def _in_time(self, store: Store, answer: asyncio.Future[T], seconds: float) -> T:
        """Return the answer, if it comes within `seconds`; else it is running still."""
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.shield(answer)
        except TimeoutError:
            if answer.done():  # just now
                return answer.result()
            raise StoreError(f"state: {store.name}: no answer within {seconds:g} s") from None
        finally:
            if answer.done():
                self._running.pop(store.name, None)
