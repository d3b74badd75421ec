"""What a place that keeps and shares learned figures can do."""

from typing import Protocol

from extproc.budget.sums import Table


class StoreError(Exception):
    """A store that cannot be used now. The message names it and says why."""


class Store(Protocol):
    """One place. Its methods block, and are called one at a time, in threads that serve nothing else."""

    name: str

    def read(self) -> Table:
        """Return what is kept, faded by its age; empty when there is nothing. Raises `StoreError`."""
        ...

    def exchange(self, pending: Table, whole: Table, limit: int) -> Table | None:
        """Merge `pending` into what is kept and return the result; None when that is what was last returned.

        `limit`: entries kept. Where nothing is kept, keep `whole`. One step for all who share the store: nobody's
        `pending` is lost. Raises `StoreError`, after which the same `pending` and `whole` are to be offered again,
        and nothing more.
        """
        ...

    def replace(self, whole: Table, limit: int) -> None:
        """Keep `whole` in the place of what is kept, at most `limit` entries. Raises `StoreError`."""
        ...
