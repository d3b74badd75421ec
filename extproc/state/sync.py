"""The loop that keeps and shares what is learned, while requests go on.

Stores are asked in order. The first that answers is the one whose figures are used; the others are given a copy, so
that a start, or a time without the first, goes on from there. What a store has not got stays pending until it has.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from extproc.budget.learner import Learner
from extproc.state.store import Store, StoreError

log = logging.getLogger(__name__)

CLOSE_SECONDS = 5.0

T = TypeVar("T")


class Sync:
    """Syncs `learner` with `stores` every `interval` seconds. `report(store, worked)` is told of every exchange.

    `quiet`: held while an exchange goes on; whoever rebuilds the learner holds it too.
    """

    def __init__(
        self,
        learner: Learner,
        stores: Sequence[Store],
        interval: float,
        report: Callable[[str, bool], None],
    ) -> None:
        self._learner = learner
        self._stores = tuple(stores)
        self._interval = interval
        self._report = report
        self._failing: set[str] = set()
        self.quiet = asyncio.Lock()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="state")  # a slow disk holds up nothing else

    async def start(self) -> None:
        """Take over what the first store that has something has kept. Never raises."""
        for store in self._stores:
            with suppress(StoreError):
                table = await self._ask(store, store.read)
                if table:
                    self._learner.adopt(table)
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
        """Exchange a last time, within a bound."""
        if self._stores:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._last(), CLOSE_SECONDS)
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _last(self) -> None:
        for _ in range(2):  # an offer that had failed is made again as it was; what came since follows
            await self.exchange()

    async def exchange(self) -> None:
        """Exchange once with every store. Never raises."""
        answered = changed = False
        async with self.quiet:
            for store in self._stores:
                with suppress(StoreError):
                    if answered:
                        await self._copy(store, changed)
                    else:
                        changed = await self._share(store)
                        answered = True

    async def _share(self, store: Store) -> bool:
        """Exchange with `store`; False when nothing is new on either side."""
        offer = self._learner.offer(store.name)
        table = await self._ask(store, lambda: store.exchange(offer.pending, offer.whole))
        self._learner.settle(store.name, table)
        return table is not None

    async def _copy(self, store: Store, changed: bool) -> None:
        if self._learner.has_news(store.name) or changed:
            whole = self._learner.export()
            await self._ask(store, lambda: store.replace(whole))
            self._learner.copied(store.name)

    async def _ask(self, store: Store, call: Callable[[], T]) -> T:
        """Run `call` outside the loop, and tell once when a store fails and once when it works again."""
        try:
            result = await asyncio.get_running_loop().run_in_executor(self._executor, call)
        except StoreError as error:
            if store.name not in self._failing:
                log.warning("%s; learning goes on, and it is tried again", error)
            self._failing.add(store.name)
            self._report(store.name, False)
            raise
        if store.name in self._failing:
            log.info("state: %s works again", store.name)
        self._failing.discard(store.name)
        self._report(store.name, True)
        return result
