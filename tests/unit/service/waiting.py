"""Waiting for what happens on the loop, beside the test."""

import asyncio
from collections.abc import Callable
from typing import Any

SECONDS = 60.0


async def until(condition: Callable[[], Any]) -> None:
    """Give the loop its turns until `condition` returns something true; raise `TimeoutError` after `SECONDS`."""
    async with asyncio.timeout(SECONDS):
        while not condition():
            await asyncio.sleep(0.001)
