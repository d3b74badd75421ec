"""Compares each pool's configured capacity with the max_model_len that its servers report at /v1/models.

The likeliest configuration mistake is a capacity that is not the server's: if it is too large, the pool refuses
requests that were said to fit; if it is too small, the pool stays emptier than it could be.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec

from extproc.config import Pool
from extproc.config_types import host_and_port
from extproc.metrics import Metrics
from extproc.service.fetch import FetchError, fetch

log = logging.getLogger(__name__)

PATH = "/v1/models"
INTERVAL_SECONDS = 60.0
ANSWER_SECONDS = 2.0
ANSWER_LIMIT = 4 * 1024 * 1024
"""Bytes read of an answer: vLLM writes some 500 for each model and adapter. This many are parsed in 40 ms."""

MOST_AT_ONCE = 128
"""Servers asked at once: on many systems a process may open 1,024 descriptors, and Envoy needs some of them."""

Verdict = Literal["equal", "differs", "unknown"]


class Comparison(msgspec.Struct, frozen=True):
    """One server of one pool. `verdict`: `unknown` when the server could not be asked. `text`: for people."""

    pool: str
    endpoint: str
    verdict: Verdict
    text: str


async def compare(pools: Mapping[str, tuple[Pool, ...]]) -> list[Comparison]:
    """Ask every endpoint of every pool, `MOST_AT_ONCE` at once, each for `ANSWER_SECONDS` at most."""
    places = asyncio.Semaphore(MOST_AT_ONCE)
    return await asyncio.gather(
        *(
            _compare(places, f"pools.{name}.{i}.capacity: {pool.capacity}", pool, endpoint)
            for name, members in pools.items()
            for i, pool in enumerate(members)
            for endpoint in pool.endpoints
        )
    )


async def _compare(places: asyncio.Semaphore, key: str, pool: Pool, endpoint: str) -> Comparison:
    url = f"http://{endpoint}{PATH}"
    try:
        async with places:
            page = await fetch(*host_and_port(endpoint), PATH, ANSWER_SECONDS, ANSWER_LIMIT)
        lengths = _lengths(page)
    except (FetchError, ValueError, RecursionError) as error:
        return Comparison(pool.name, endpoint, "unknown", f"{key}: {url} cannot be read: {error}")
    if not lengths:
        return Comparison(pool.name, endpoint, "unknown", f"{key}: {url} names no model with a max_model_len")
    wrong = {model: length for model, length in lengths.items() if length != pool.capacity}
    if wrong:
        told = ", ".join(f"{length} for {model!r}" for model, length in sorted(wrong.items()))
        text = f"{key}: {url} says max_model_len {told}: make them equal"
        return Comparison(pool.name, endpoint, "differs", text)
    return Comparison(pool.name, endpoint, "equal", f"{key}: {url} says the same")


def _lengths(page: bytes) -> dict[str, int]:
    """Return `max_model_len` by model, without adapters, which report none. Raises `ValueError`."""
    found: Any = json.loads(page)
    models = found.get("data") if isinstance(found, dict) else None
    return {
        str(model.get("id", ""))[:128]: model["max_model_len"]
        for model in (models if isinstance(models, list) else ())
        if isinstance(model, dict) and isinstance(model.get("max_model_len"), int)
    }


class CapacityCheck:
    """Compares every minute, warns of new differences, sets the metric. `pools`: returns the current pool sets."""

    def __init__(self, pools: Callable[[], Mapping[str, tuple[Pool, ...]]], metrics: Metrics) -> None:
        self._pools = pools
        self._metrics = metrics
        self._said: frozenset[str] = frozenset()

    async def run(self) -> None:
        """Compare now and then every minute, until cancelled: servers start later than we do, or are replaced."""
        while True:
            self.report(await compare(self._pools()))
            await asyncio.sleep(INTERVAL_SECONDS)

    def report(self, comparisons: list[Comparison]) -> None:
        """Set the metric of each pool, and warn of each difference that the last comparison did not have."""
        troubles = frozenset(found.text for found in comparisons if found.verdict != "equal")
        for text in sorted(troubles - self._said):
            log.warning("%s", text)
        self._said = troubles
        verdicts: dict[str, list[str]] = {}
        # A pool may be in several sets.
        for pool, _, verdict in {(found.pool, found.endpoint, found.verdict) for found in comparisons}:
            verdicts.setdefault(pool, []).append(verdict)
        self._metrics.capacities_compared(verdicts)
