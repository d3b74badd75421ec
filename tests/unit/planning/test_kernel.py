"""The compiled part of the simulator, where it is installed."""

import pytest
from numba.core.caching import CacheImpl

from extproc.planning.kernel import compiled


def test_what_cannot_be_kept_is_compiled_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """A read-only install, used by somebody without a home: numba has no directory for what it compiled."""
    monkeypatch.setattr(CacheImpl, "_locator_classes", [])

    @compiled
    def twice(number: int) -> int:
        return 2 * number

    assert twice(21) == 42
