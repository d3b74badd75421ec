"""Health, as Envoy and Kubernetes ask for it by the gRPC health protocol.

A process that answers a ping can still be too slow to route. A probe therefore waits for a turn of the event loop
and takes one decision, as an exchange does, and fails when both together take too long.
"""

import asyncio
from collections.abc import AsyncIterator
from time import perf_counter

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from extproc.routing.router import Head, Router

_PROBE_HEAD = Head(method="POST", path="/v1/chat/completions")
_PROBE_BODY = b'{"model":"","messages":[{"role":"user","content":"Is anybody there?"}],"max_tokens":16}'

WATCH_SECONDS = 1.0
"""Seconds between two probes of a `Watch` call."""


class Health:
    """Whether the service should be sent requests. `limit`: how long a probe may take, in seconds."""

    def __init__(self, router: Router, limit: float) -> None:
        self.router = router
        self._limit = limit
        self._draining = False

    def drain(self) -> None:
        """Report unhealthy from now on: the service is about to stop."""
        self._draining = True

    @property
    def draining(self) -> bool:
        """Whether the service is about to stop."""
        return self._draining

    async def healthy(self) -> bool:
        """Take a probe decision on the loop that serves exchanges. True when it was in time and nothing drains."""
        started = perf_counter()
        await asyncio.sleep(0)
        self.router.decide(_PROBE_HEAD, _PROBE_BODY, whole=True)
        return not self._draining and perf_counter() - started <= self._limit


class HealthService(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # the package has no type information
    """`grpc.health.v1.Health`. Answers for the whole server, whichever service is asked about."""

    def __init__(self, health: Health) -> None:
        self._health = health

    async def Check(  # noqa: N802 - the name is gRPC's
        self, _request: health_pb2.HealthCheckRequest, _context: grpc.aio.ServicerContext
    ) -> health_pb2.HealthCheckResponse:
        """Run a probe."""
        return await self._probe()

    async def Watch(  # noqa: N802
        self, _request: health_pb2.HealthCheckRequest, _context: grpc.aio.ServicerContext
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """Probe every `WATCH_SECONDS`. Report the first result, and then each that differs from the one before."""
        told = None
        while not self._health.draining:
            answer = await self._probe()
            if answer != told:
                yield answer
                told = answer
            await asyncio.sleep(WATCH_SECONDS)
        yield await self._probe()  # the call ends here, so that it does not hold up the drain

    async def _probe(self) -> health_pb2.HealthCheckResponse:
        serving = await self._health.healthy()
        status = health_pb2.HealthCheckResponse
        return status(status=status.SERVING if serving else status.NOT_SERVING)
