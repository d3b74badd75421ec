"""The sources of pool pressure: vLLM's metrics, Envoy's cluster gauges, our own count."""

import math
import re
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from extproc.config import Config, Spillover
from extproc.routing.in_flight import Tally, standing
from extproc.routing.spillover import Reading, Server, Source, by_requests, by_servers
from extproc.service.polls import Polls, Terms

VLLM_PATH = "/metrics"
VLLM_GAUGES = (
    b"vllm:num_requests_waiting",
    b"vllm:num_requests_running",
    b"vllm:kv_cache_usage_perc",
    b"vllm:gpu_cache_usage_perc",  # the older name of the one before
)
_SAMPLE = re.compile(rb"vllm:(\w+)(\{.*\})?[ \t]+(\S+)")

ENVOY_PATH = "/stats?filter=^cluster%5C..*%5C.upstream_rq_(pending_)%3Factive$"
_ENVOY = re.compile(rb"^cluster\.(\S+)\.upstream_rq_(?:pending_)?active: (\d{1,15})\r?$", re.MULTILINE)

TURNS = 2
"""Polls that may fail in a row before the last answer is too old."""


class PressureSource(Protocol):
    """A source that knows how full pools are."""

    name: Source

    def follow(self, config: Config) -> None:
        """Watch the pools of `config` from now on."""
        ...

    def readings(self) -> Mapping[str, Reading]:
        """Return the latest readings by pool, without pools of which nothing recent is known."""
        ...

    def results(self) -> Mapping[str, int]:
        """Return how many questions were answered (`ok`) and how many were not (`failed`)."""
        ...

    async def close(self) -> None:
        """Stop watching."""
        ...


class VllmSource:
    """The metrics of each pool's servers (`pools.*.endpoints`)."""

    name: Source = "vllm"

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._polls = Polls(VLLM_PATH, read_servers, clock)
        self._endpoints: dict[str, set[str]] = {}
        self._settings = Spillover()

    def follow(self, config: Config) -> None:
        """Watch the servers of all pools."""
        self._settings = config.spillover
        self._endpoints = {}
        for pool in (pool for members in config.pools.values() for pool in members):
            self._endpoints.setdefault(pool.name, set()).update(pool.endpoints)
        self._polls.follow(set().union(*self._endpoints.values()), _terms(config.spillover))

    def readings(self) -> dict[str, Reading]:
        """Return the pressure of each pool with a server that answered recently."""
        found = {}
        for pool, endpoints in self._endpoints.items():
            answers = [a for e in endpoints for a in self._polls.last(e, self._settings.stale_seconds)]
            reading = by_servers([server for servers in answers for server in servers], self._settings)
            if reading is not None:
                found[pool] = reading
        return found

    def results(self) -> Mapping[str, int]:
        """Return how many questions were answered."""
        return self._polls.results

    async def close(self) -> None:
        """Stop watching."""
        await self._polls.close()


class EnvoySource:
    """The gauges of each pool's cluster, summed over all Envoys (`spillover.envoy`)."""

    name: Source = "envoy"

    def __init__(self) -> None:
        self._polls = Polls(ENVOY_PATH, read_clusters, time.monotonic)
        self._settings = Spillover()

    def follow(self, config: Config) -> None:
        """Watch all Envoys."""
        self._settings = config.spillover
        self._polls.follow(config.spillover.envoy, _terms(config.spillover))

    def readings(self) -> dict[str, Reading]:
        """Return the pressure of pools with a mark; none while any Envoy is silent, as a partial sum misleads."""
        each = [self._polls.last(address, self._settings.stale_seconds) for address in self._settings.envoy]
        if not all(each):
            return {}
        pages = [page for pages in each for page in pages]
        return {
            pool: by_requests(sum(page.get(pool, 0) for page in pages), mark)
            for pool, mark in self._settings.requests.items()
            if any(pool in page for page in pages)
        }

    def results(self) -> Mapping[str, int]:
        """Return how many questions were answered."""
        return self._polls.results

    async def close(self) -> None:
        """Stop watching."""
        await self._polls.close()


class InFlightSource:
    """The service's own count. `tallies(longest)`: of all its processes (see `extproc.routing.in_flight`)."""

    name: Source = "in_flight"

    def __init__(self, tallies: Callable[[float], Iterable[Tally]]) -> None:
        self._tallies = tallies
        self._settings = Spillover()

    def follow(self, config: Config) -> None:
        """Watch the pools with a mark."""
        self._settings = config.spillover

    def readings(self) -> dict[str, Reading]:
        """Return the pressure of pools with a mark; none while the access log cannot be relied on."""
        longest = self._settings.longest_request_seconds
        if not self._settings.requests:
            return {}
        present = standing(self._tallies(longest), time.monotonic(), longest)
        if present is None:
            return {}
        return {pool: by_requests(present.get(pool, 0), mark) for pool, mark in self._settings.requests.items()}

    def results(self) -> Mapping[str, int]:
        """Return nothing: nobody is asked."""
        return {}

    async def close(self) -> None:
        """Do nothing: there is nothing to stop."""


def _terms(settings: Spillover) -> Terms:
    return Terms(settings.interval_seconds, settings.stale_seconds / TURNS)


def read_servers(page: bytes) -> list[Server]:
    """Return the engines, told apart by labels, in a page of vLLM's metrics. Raises `ValueError` without any."""
    engines: dict[bytes, dict[bytes, float]] = {}
    for line in page.split(b"\n"):
        sample = _SAMPLE.match(line) if line.startswith(VLLM_GAUGES) else None
        if sample and (value := _number(sample[3])) is not None:
            engines.setdefault(sample[2] or b"", {})[sample[1]] = value
    servers = [
        Server(
            waiting=found[b"num_requests_waiting"],
            running=found.get(b"num_requests_running", 0.0),
            kv_use=found.get(b"kv_cache_usage_perc", found.get(b"gpu_cache_usage_perc", 0.0)),
        )
        for found in engines.values()
        if b"num_requests_waiting" in found
    ]
    if not servers:
        raise ValueError("there is no vllm:num_requests_waiting")
    return servers


def read_clusters(page: bytes) -> dict[str, int]:
    """Return the requests at each cluster, active and pending, in a page of Envoy's statistics.

    Raises `ValueError` when the page names no cluster.
    """
    clusters: dict[str, int] = {}
    for name, value in _ENVOY.findall(page):
        cluster = name.decode("utf-8", "replace")
        clusters[cluster] = clusters.get(cluster, 0) + int(value)
    if not clusters:
        raise ValueError("there is no cluster.*.upstream_rq_active")
    return clusters


def _number(text: bytes) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None
