"""A tenth of `make fuzz`, spread over the workers that run the tests."""

import pytest

from tests.fuzz.run import fuzz


@pytest.mark.parametrize("seed", range(10))
def test_no_input_raises_and_none_is_slow(seed: int) -> None:
    """Whatever comes from outside, nothing is raised and no decision takes more than 50 ms of thread CPU time."""
    found = fuzz(10_000, seed)
    assert found.failures == []
    assert found.slow == 0
