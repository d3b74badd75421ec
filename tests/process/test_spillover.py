"""Workers decide alike about what is saturated."""

import os
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc

from extproc.demo.pool import Pool
from extproc.demo.pool_server import HOST, PoolServer
from extproc.pb import dualpool_accesslog_pb2 as log_pb
from extproc.pb import dualpool_extproc_pb2 as pb
from tests.envoy.stack import until
from tests.process.talk import LOG_METHOD, decide, exchange, two_workers
from tests.unit.service.test_exchange import pool


def settings(pools: list[dict[str, Any]], **spillover: Any) -> dict[str, Any]:
    return {
        "pools": {"default": pools},
        "spillover": {"enabled": True, "interval_seconds": 0.05, **spillover},
    }


def test_all_workers_spill_by_one_judgement(tmp_path: Path) -> None:
    """The supervisor asks the servers, once for all; a worker that is replaced spills as its predecessor did."""
    with ExitStack() as stack:
        short, long = (stack.enter_context(PoolServer(Pool(n, c))) for n, c in (("short", 8192), ("long", 131_072)))
        pools = [
            {"name": s.pool.name, "capacity": s.pool.capacity, "endpoints": [f"{HOST}:{s.port}"]}
            for s in (short, long)
        ]
        service, addresses = stack.enter_context(two_workers(tmp_path, settings(pools, waiting=4)))
        assert [exchange(address) for address in addresses] == ["short", "short"]
        until(lambda: service.metric('dualpool_capacity_servers{pool="short",verdict="equal"}') == 1)
        short.pool.waiting = 4
        for address in addresses:
            until(lambda address=address: exchange(address) == "long")  # type: ignore[misc]
        assert service.metric('dualpool_pool_saturated{pool="short"}') == 1
        assert service.metric('dualpool_pool_pressure{pool="short",source="vllm"}') == 1
        os.kill(service.children[0], signal.SIGKILL)
        until(lambda: service.metric("dualpool_worker_restarts_total") == 1)
        until(lambda: exchange(addresses[0]) == "long")
        short.pool.waiting = 0
        for address in addresses:
            until(lambda address=address: exchange(address) == "short")  # type: ignore[misc]


def ended(address: str, decision: pb.ProcessingResponse) -> None:
    """Tell the worker at `address` that a request has ended, as Envoy does: with the metadata of its decision."""
    entry = log_pb.HTTPAccessLogEntry()
    entry.response.response_code.value = 200
    space = entry.common_properties.metadata.filter_metadata["dualpool"]
    space.CopyFrom(decision.dynamic_metadata.fields["dualpool"].struct_value)
    message = log_pb.StreamAccessLogsMessage()
    message.http_logs.log_entry.append(entry)
    with grpc.insecure_channel(address) as channel:
        channel.stream_unary(LOG_METHOD)(iter([message.SerializeToString()]), timeout=30, wait_for_ready=True)


def test_what_one_worker_decides_and_another_hears_of_is_one_count(tmp_path: Path) -> None:
    """Decided by the first, ended at the second: neither fills up, nor does one that dies forget."""
    pools = [{"name": "short", "capacity": 8192}, {"name": "long", "capacity": 131_072}]
    marks = {"short": 4, "long": 400}
    with two_workers(tmp_path, settings(pools, requests=marks)) as (service, (one, other)):

        def requests() -> float | None:
            found: dict[str, Any] = service.state()["spillover"]["pools"].get("short", {})
            return found.get("requests")

        def lands(address: str) -> str:
            decision = decide(address)
            ended(other, decision)
            return pool(decision)

        decisions = [decide(one) for _ in range(5)]
        assert requests() is None  # the log has not spoken
        ended(other, decisions[0])
        until(lambda: requests() == 4)
        until(lambda: lands(other) == "long")
        os.kill(service.children[0], signal.SIGKILL)
        until(lambda: service.metric("dualpool_worker_restarts_total") == 1)
        until(lambda: service.metric("dualpool_workers_up") == 2)
        assert requests() == 4
        for decision in decisions[1:]:
            ended(other, decision)
        until(lambda: requests() == 0)
        until(lambda: lands(one) == "short")
