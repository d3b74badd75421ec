"""Work beside the exchanges."""

import asyncio

import pytest

from extproc.service.background import background
from tests.unit.service.waiting import until


async def test_what_ends_by_an_error_is_logged_and_the_rest_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    """The one that fails is named; the others run until the end and are cancelled there."""
    cancelled = asyncio.Event()

    async def lasting() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async def failing() -> None:
        raise LookupError("no such thing")

    async with background(lasting(), failing()):
        await until(lambda: "no such thing" in caplog.text)
        assert not cancelled.is_set()
    assert cancelled.is_set()
    assert [record.getMessage().split(" ")[0].rpartition(".")[2] for record in caplog.records] == ["failing"]
