"""Pool choice before endpoint choice: each pool's own picker chooses among its servers, once the pool is chosen."""

import copy
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from extproc.demo.envoy import Tree, connection_manager
from extproc.demo.pool import Pool
from extproc.demo.pool_server import HOST, PoolServer
from extproc.render.clusters import HTTP_OPTIONS
from extproc.render.typed import any_of
from tests.envoy.changes import cluster
from tests.envoy.client import MARKER, chat
from tests.envoy.picker import DESTINATION, PREFILL, Picker
from tests.envoy.pools import SETS
from tests.envoy.stack import Stack, rendered_stack

EXT_PROC = "envoy.extensions.filters.http.ext_proc.v3"
PREFILLS = {"short": f"{HOST}:1", "long": f"{HOST}:2"}
"""Where each pool prefills; nobody listens there, since a stand-in that decodes asks nobody to prefill."""


def filter_of(pool: str) -> str:
    return f"envoy.filters.http.ext_proc/endpointpicker/{pool}"


def with_pickers(tree: Tree, ports: dict[str, int]) -> Tree:
    """As a gateway renders InferencePools: each has a picker's filter, off on the others' routes, and a cluster
    that goes where the picker says."""
    tree = copy.deepcopy(tree)
    manager = connection_manager(tree)
    manager["http_filters"][-1:-1] = [_picker_filter(pool) for pool in ports]
    for route in manager["route_config"]["virtual_hosts"][0]["routes"]:
        pool = route["name"]
        off = any_of(f"{EXT_PROC}.ExtProcPerRoute", {"disabled": True})
        route["typed_per_filter_config"] = {filter_of(other): off for other in ports if other != pool}
        route["route"] = {"cluster": pool, "timeout": "0s"}
    kept = cluster(tree, "dualpool")
    pools = [_following_cluster(pool) for pool in ports]
    pickers = [_picker_cluster(pool, port) for pool, port in ports.items()]
    tree["static_resources"]["clusters"] = [kept, *pools, *pickers]
    return tree


def _picker_filter(pool: str) -> Tree:
    duplex = {f"{side}_body_mode": "FULL_DUPLEX_STREAMED" for side in ("request", "response")}
    sent = {f"{side}_{part}_mode": "SEND" for side in ("request", "response") for part in ("header", "trailer")}
    settings = {
        "grpc_service": {"envoy_grpc": {"cluster_name": f"picker-{pool}"}},
        "processing_mode": {**duplex, **sent},
        "message_timeout": "10s",
    }
    return {"name": filter_of(pool), "typed_config": any_of(f"{EXT_PROC}.ExternalProcessor", settings)}


def _following_cluster(pool: str) -> Tree:
    return {
        "name": pool,
        "type": "ORIGINAL_DST",
        "lb_policy": "CLUSTER_PROVIDED",
        "connect_timeout": "2s",
        "original_dst_lb_config": {"use_http_header": True, "http_header_name": DESTINATION},
    }


def _picker_cluster(pool: str, port: int) -> Tree:
    name = f"picker-{pool}"
    address = {"socket_address": {"address": HOST, "port_value": port}}
    http2 = any_of(HTTP_OPTIONS, {"explicit_http_config": {"http2_protocol_options": {}}})
    return {
        "name": name,
        "type": "STATIC",
        "typed_extension_protocol_options": {HTTP_OPTIONS: http2},
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    }


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[tuple[Stack, dict[str, list[PoolServer]]]]:
    """Two servers that decode for each pool, and a picker for each; the default route is the long pool's."""
    with ExitStack() as running:
        decode = {
            pool: [running.enter_context(PoolServer(Pool(f"{pool}-{i}", capacity))) for i in range(2)]
            for pool, capacity in SETS["default"].items()
        }
        pickers = {
            pool: running.enter_context(Picker([f"{HOST}:{s.port}" for s in servers], PREFILLS[pool]))
            for pool, servers in decode.items()
        }
        ports = {pool: picker.port for pool, picker in pickers.items()}
        change = rendered_stack(tmp_path, SETS, change=lambda tree: with_pickers(tree, ports))
        yield running.enter_context(change), decode


def requests(server: PoolServer, marker: str) -> list[dict[str, str]]:
    """Headers of what reached `server` under `marker`."""
    return [r.headers for r in server.pool.received if r.headers.get(MARKER) == marker]


@pytest.mark.parametrize(("words", "pool"), [(100, "short"), (4000, "long")])
@pytest.mark.parametrize("stream", [False, True])
def test_the_pools_own_picker_chooses(stack: Any, words: int, pool: str, stream: bool) -> None:
    """A request reaches a decoding server of the pool its budget asks for, with a prefilling one of the same pool;
    whatever server and pool the client names."""
    running, decode = stack
    spoofed = {"x-token-pool": "short", DESTINATION: f"{HOST}:1", PREFILL: "elsewhere"}
    body = chat("word " * words, max_tokens=20, stream=stream)
    for turn in range(4):
        reply = running.send(body, headers=spoofed)
        assert reply.status == 200
        found = {
            (name, i): requests(server, reply.marker)
            for name, servers in decode.items()
            for i, server in enumerate(servers)
        }
        reached = {place: headers for place, headers in found.items() if headers}
        assert list(reached) == [(pool, turn % 2)]
        assert [headers[PREFILL] for headers in reached[pool, turn % 2]] == [PREFILLS[pool]]
    assert running.service.state()["requests"][0]["pool"] == pool


def test_without_the_service_the_long_pools_picker_chooses(stack: Any) -> None:
    """Dualpool gone, endpoint picking goes on in the long pool."""
    running, decode = stack
    running.service.process.stop()
    reply = running.send(chat("hello", max_tokens=20))
    assert reply.status == 200
    assert len(requests(decode["long"][0], reply.marker)) == 1
