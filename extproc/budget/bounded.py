"""A dictionary of bounded size, for whatever is keyed by what clients send."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Bounded(Generic[K, V]):
    """At most `limit` entries; making one more drops the least recently used. O(1) in every operation."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K) -> V | None:
        """Return the entry without counting it as used."""
        return self._entries.get(key)

    def use(self, key: K, make: Callable[[], V]) -> V:
        """Return the entry, made first where there is none, as the most recently used."""
        entry = self._entries.get(key)
        if entry is None:
            entry = make()
            self.put(key, entry)
        else:
            self._entries.move_to_end(key)
        return entry

    def put(self, key: K, entry: V) -> None:
        """Make `entry` the entry of `key`, as the most recently used."""
        self._entries[key] = entry
        self._entries.move_to_end(key)
        if len(self._entries) > self._limit:
            self._entries.popitem(last=False)

    def items(self) -> Iterator[tuple[K, V]]:
        """Iterate over a copy, oldest first: other threads may read while the service learns."""
        return iter(list(self._entries.items()))

    def __len__(self) -> int:
        return len(self._entries)
