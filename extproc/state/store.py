"""What a place that keeps and shares learned figures can do, and what comes of an exchange with it.

A store may be emptied while services run. Whoever comes first begins it anew then, and may know next to nothing. So
what is begun has a lineage, a random name that goes along with all that is merged into it. Who meets the lineage of
its last exchange knows that all it had is in there; who meets another gives back what it knows.
"""

import secrets
from typing import Protocol

from extproc.budget.sums import Table, merge, surest
from extproc.state.codec import AGEING_SECONDS, Stored


class StoreError(Exception):
    """A store that cannot be used now. The message names it and says why."""


class Store(Protocol):
    """One place. Its methods block, and are called one at a time, in threads that serve nothing else."""

    name: str
    lineage: str
    """Of the state that the figures of this process go on from; "" is none. Set by `read` and `exchange`."""

    def read(self) -> Table:
        """Return what is kept, faded by its age; empty when there is nothing. Raises `StoreError`."""
        ...

    def exchange(self, pending: Table, whole: Table, limit: int) -> Table | None:
        """Merge `pending` into what is kept and return the result; None when that is what was last returned.

        `limit`: entries kept. Where nothing is kept, keep `whole`, unless that is nothing too. One step for all who
        share the store: nobody's `pending` is lost, nor what is in `whole` when the store was begun anew. Raises
        `StoreError`, after which the same `pending` and `whole` are to be offered again, and nothing more.
        """
        ...

    def replace(self, whole: Table, limit: int) -> None:
        """Keep `whole` in the place of what is kept, at most `limit` entries. Raises `StoreError`."""
        ...


def updated(kept: Stored, pending: Table, whole: Table, limit: int, lineage: str, now: float) -> Stored | None:
    """Return what an exchange makes of what is `kept`; None when that stays, empty as it may be.

    What is `AGEING_SECONDS` old is written again, so that nobody who starts takes it for old.

    `lineage`: that of the process's last exchange. Of another, which may hold some of what `whole` holds besides
    `pending`, each figure stays by the side that has seen more. `now`: seconds since 1970.
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
    """Return the lineage of a state that is begun."""
    return secrets.token_hex(8)
