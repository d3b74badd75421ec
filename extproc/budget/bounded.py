"""A dictionary of bounded size (LRU), for keys that clients choose."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Bounded(Generic[K, V]):
    """At most `limit` entries: one more drops the least recently used. Every operation but `items` is O(1)."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K) -> V | None:
        """Return the entry without counting it as used."""
        return self._entries.get(key)

    def use(self, key: K, make: Callable[[], V]) -> V:
        """Return the entry, created by `make` if there is none, and mark it as the most recently used."""
        entry = self._entries.get(key)
        if entry is None:
            entry = make()
            self.put(key, entry)
        else:
            self._entries.move_to_end(key)
        return entry

    def put(self, key: K, entry: V) -> None:
        """Set the entry of `key`, and mark it as the most recently used."""
        self._entries[key] = entry
        self._entries.move_to_end(key)
        if len(self._entries) > self._limit:
            self._entries.popitem(last=False)

    def items(self) -> Iterator[tuple[K, V]]:
        """Iterate over a copy, least recently used first: other threads may read while the service learns."""
        return iter(list(self._entries.items()))
