"""Health as Envoy and Kubernetes ask for it: the gRPC health protocol, judged by a real decision.

A process that answers a ping can still be too slow to route. A probe therefore takes a turn of the event loop and
one decision, as an exchange does, and fails when both together take too long.
"""

import asyncio
from time import perf_counter

import grpc
from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio as health_aio

from extproc.routing.router import Head, Router

_PROBE_HEAD = Head(method="POST", path="/v1/chat/completions")
_PROBE_BODY = b'{"model":"","messages":[{"role":"user","content":"Is anybody there?"}],"max_tokens":16}'


class Health:
    """Whether the service should be sent requests. `limit`: seconds a probe may take."""

    def __init__(self, router: Router, limit: float) -> None:
        self.router = router
        self._limit = limit
        self._draining = False

    def drain(self) -> None:
        """Fail from now on: the service is about to stop."""
        self._draining = True

    @property
    def draining(self) -> bool:
        """Whether the service is about to stop."""
        return self._draining

    async def healthy(self) -> bool:
        """Run a probe decision on the loop that serves exchanges and say whether it was in time."""
        started = perf_counter()
        await asyncio.sleep(0)
        self.router.decide(_PROBE_HEAD, _PROBE_BODY, whole=True)
        return not self._draining and perf_counter() - started <= self._limit


class HealthService(health_aio.HealthServicer):  # type: ignore[misc]  # the package has no type information
    """`grpc.health.v1.Health`: `Check` runs a probe; `Watch` reports what `drain` sets."""

    def __init__(self, health: Health) -> None:
        super().__init__()
        self._health = health

    async def Check(  # noqa: N802 - the name is gRPC's
        self, _request: health_pb2.HealthCheckRequest, _context: grpc.aio.ServicerContext
    ) -> health_pb2.HealthCheckResponse:
        """Answer for the whole server, whatever service is asked for: there is only one."""
        serving = await self._health.healthy()
        status = health_pb2.HealthCheckResponse
        return status(status=status.SERVING if serving else status.NOT_SERVING)
