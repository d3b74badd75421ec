"""Rules of `extproc.budget.bounded`."""

from extproc.budget.bounded import Bounded


def test_the_least_recently_used_goes_first() -> None:
    """Using an entry keeps it; looking at one does not."""
    entries: Bounded[str, int] = Bounded(2)
    entries.use("a", lambda: 1)
    entries.use("b", lambda: 2)
    entries.use("a", lambda: 9)
    assert entries.get("b") == 2
    entries.use("c", lambda: 3)
    assert list(entries.items()) == [("a", 1), ("c", 3)]
    assert entries.get("b") is None


def test_what_is_put_is_used() -> None:
    """An entry that takes the place of one of its key is the last to go."""
    entries: Bounded[str, int] = Bounded(2)
    for key, value in (("a", 1), ("b", 2), ("a", 3), ("c", 4)):
        entries.put(key, value)
    assert list(entries.items()) == [("a", 3), ("c", 4)]
