"""What the tests of stores share."""

from collections.abc import Iterator

import pytest

from tests.unit.state.standin import StandIn, standing_in


@pytest.fixture
def server() -> Iterator[StandIn]:
    """A stand-in for a Redis server, empty."""
    with standing_in() as stand_in:
        yield stand_in
