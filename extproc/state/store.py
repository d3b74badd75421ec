"""The interface of stores, which keep and share learned figures, and the merge at the heart of an exchange.

A store may be emptied while services run. Then the first process to come begins its state anew, and may know next
to nothing. So every state has a lineage, a random name given when it is begun and kept through all merges. A
process that finds the lineage of its last exchange knows that everything it had delivered is still there; one
that finds another gives everything it knows.
"""

import secrets
from typing import Protocol

from extproc.budget.sums import Table, merge, surest
from extproc.state.codec import AGEING_SECONDS, Stored


class StoreError(Exception):
    """A store cannot be used now. The message names the store and the reason."""


class Store(Protocol):
    """One store. Its methods block; they are called one at a time, in threads that serve nothing else."""

    name: str
    lineage: str
    """Lineage of the state that this process last read or merged into, "" for none. Set by `read` and `exchange`,
    and for a store that is given copies by `Sync`, to that of the store whose figures they are."""

    def read(self) -> Table:
        """Return the stored figures, faded by age; empty when there are none. Raises `StoreError`."""
        ...

    def exchange(self, pending: Table, whole: Table, limit: int) -> Table | None:
        """Merge `pending` into the stored figures and return the result; None when that is what was last returned.

        If nothing is stored, store `whole`, unless it is empty too. `limit`: entries stored. The exchange is atomic
        among all who share the store: nobody's `pending` is lost, nor anything in `whole` when the state was begun
        anew. Raises `StoreError`; then the same `pending` and `whole` must be offered again, unchanged.
        """
        ...

    def replace(self, whole: Table, limit: int) -> None:
        """Store `whole` in the place of what is stored, at most `limit` entries. Raises `StoreError`."""
        ...


def updated(kept: Stored, pending: Table, whole: Table, limit: int, lineage: str, now: float) -> Stored | None:
    """Return the state that an exchange makes of `kept`; None when `kept` stays as it is.

    A state `AGEING_SECONDS` old is written again though nothing is new, so that no process that starts fades it.

    `lineage`: that of this process's last exchange. A state of another lineage may share observations with `whole`,
    so each figure is taken from the side that has seen more. `now`: seconds since 1970.
    """
    if not kept.table:
        return Stored(whole, now, kept.writers, new_lineage()) if whole else None
    table = merge(kept.table, pending, limit) if pending else kept.table
    if not kept.lineage or kept.lineage != lineage:
        table = surest(table, whole, max(limit, len(table)))
    if table == kept.table and now - kept.saved < AGEING_SECONDS:
        return None
    return Stored(table, now, kept.writers, kept.lineage or new_lineage())


def new_lineage() -> str:
    """Return the lineage of a new state."""
    return secrets.token_hex(8)
