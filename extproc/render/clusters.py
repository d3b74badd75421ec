"""Clusters: the pools, the pairs that take a retry to the larger pool, and the service."""

from collections.abc import Mapping

from extproc.config_types import host_and_port, socket_path
from extproc.render.filters import SERVICE_CLUSTER
from extproc.render.layout import Layout, Options, name_clashes
from extproc.render.routes import COMPOSITE_SINCE, retrying_cluster
from extproc.render.text import Tree
from extproc.render.typed import any_of
from extproc.service.workers import address as worker_address

MANY = 20_000
"""Connections, requests, retries at once. Envoy's default, 1,024, is soon reached by answers that last a minute."""

LOG_ROOM = 256 * 1024 * 1024
"""Bytes that may wait on the connection to the service. The default of 1 MiB is a few request bodies."""

IDLE_COMMENT = (
    "# vLLM closes connections that are idle for 5 s. Close them here first, so that no request is caught by it."
)

HANG_COMMENT = (
    "# A streamed answer that is passing through a service that hangs would freeze. This cuts the connection, and "
    "the answer goes on without the service."
)
LOG_COMMENT = (
    "# Cuts a connection that leads nowhere. No sooner, since the access log on it is lost with it, and a busy "
    "machine answers late."
)

HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def clusters(layout: Layout, options: Options) -> list[Tree]:
    """Return all clusters that routes and filters name."""
    return [
        *(retrying(layout, pool, options) for pool in layout.larger),
        *(_pool(name, list(pool.endpoints)) for name, pool in layout.pools.items()),
        service(options),
    ]


def name_problems(layout: Layout) -> list[str]:
    """Say of each pool whose name another cluster has: Envoy takes no two of one name."""
    taken = {SERVICE_CLUSTER: "Dualpool's own cluster"}
    for pool in layout.larger:
        larger = layout.larger[pool]
        taken[retrying_cluster(layout, pool)] = f"the cluster of {pool} and, for what that refuses, {larger}"
    return name_clashes(layout, taken)


def service(options: Options) -> Tree:
    """Return the cluster of Dualpool itself."""
    endpoints = _workers(options)
    return {
        "name": SERVICE_CLUSTER,
        **_discovery(endpoints),
        "connect_timeout": "0.2s",
        "# A service that hangs would make every request wait for the whole message_timeout. So it is "
        "checked twice a second, and not asked while the check fails (panic threshold 0).": None,
        "health_checks": [
            {
                "interval": "0.5s",
                "no_traffic_interval": "0.5s",
                "timeout": "0.25s",
                "unhealthy_threshold": 1,
                "healthy_threshold": 1,
                "grpc_health_check": {},
            }
        ],
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "circuit_breakers": _breakers(),
        **(_log_room() if options.usage == "access-log" else {}),
        "typed_extension_protocol_options": {
            HTTP_OPTIONS: any_of(
                HTTP_OPTIONS,
                {"explicit_http_config": {"http2_protocol_options": _keepalive(options)}},
            )
        },
        "load_assignment": _assignment(SERVICE_CLUSTER, endpoints),
        **({"lb_policy": "LEAST_REQUEST"} if options.workers > 1 else {}),
    }


def _keepalive(options: Options) -> Tree:
    comment, timeout = (LOG_COMMENT, "5s") if options.usage == "access-log" else (HANG_COMMENT, "0.25s")
    return {comment: None, "connection_keepalive": {"interval": "0.5s", "timeout": timeout}}


def _log_room() -> Tree:
    return {
        "# The access log waits while more than this waits on its connection, and what does not fit its own buffer "
        "meanwhile is dropped. Request bodies take the same connection.": None,
        "per_connection_buffer_limit_bytes": LOG_ROOM,
    }


def _pool(name: str, endpoints: list[str]) -> Tree:
    return {
        "name": name,
        "type": "STRICT_DNS",
        "connect_timeout": "2s",
        "# Requests differ a thousandfold in length, so balance by requests in flight, not in turn.": None,
        "lb_policy": "LEAST_REQUEST",
        "circuit_breakers": _breakers(),
        "typed_extension_protocol_options": {
            HTTP_OPTIONS: any_of(
                HTTP_OPTIONS,
                {
                    "explicit_http_config": {"http_protocol_options": {}},
                    IDLE_COMMENT: None,
                    "common_http_protocol_options": {"idle_timeout": "4s"},
                },
            )
        },
        "load_assignment": _assignment(name, endpoints),
    }


def retrying(layout: Layout, pool: str, options: Options, names: Mapping[str, str] | None = None) -> Tree:
    """Return the cluster whose second attempt goes to the larger pool.

    `names`: of the pools' clusters, where they are not those of the pools.
    """
    pools = [pool, layout.larger[pool]]
    members = [names[member] for member in pools] if names else pools
    if options.envoy >= COMPOSITE_SINCE:
        kind, name = "composite", "envoy.extensions.clusters.composite.v3.ClusterConfig"
        config: Tree = {"clusters": [{"name": member} for member in members]}
    else:
        kind, name = "aggregate", "envoy.extensions.clusters.aggregate.v3.ClusterConfig"
        config = {"clusters": members}
    return {
        f"# First attempt to {pools[0]}, second to {pools[1]}.": None,
        "name": retrying_cluster(layout, pool),
        "connect_timeout": "2s",
        "lb_policy": "CLUSTER_PROVIDED",
        "cluster_type": {"name": f"envoy.clusters.{kind}", "typed_config": any_of(name, config)},
        "# Retries are limited by this cluster, not by the pools. The default of 3 at once fails in a burst.": None,
        "circuit_breakers": _breakers(),
    }


def _discovery(endpoints: list[str]) -> Tree:
    if endpoints[0].startswith("unix:"):
        return {"# A socket has no name to resolve, so STRICT_DNS would never find it.": None, "type": "STATIC"}
    return {"type": "STRICT_DNS"}


def _workers(options: Options) -> list[str]:
    """Addresses of the service: one, or one for each worker."""
    if options.workers == 1:
        return [options.service]
    return [worker_address(options.service, number) for number in range(options.workers)]


def _breakers() -> Tree:
    kinds = ("max_connections", "max_pending_requests", "max_requests", "max_retries")
    return {"thresholds": [dict.fromkeys(kinds, MANY)]}


def _assignment(cluster: str, endpoints: list[str]) -> Tree:
    hosts = [{"endpoint": {"address": address(endpoint)}} for endpoint in endpoints]
    return {"cluster_name": cluster, "endpoints": [{"lb_endpoints": hosts}]}


def address(endpoint: str) -> Tree:
    """Return `HOST:PORT` or `unix:///path` as an Envoy address."""
    if endpoint.startswith("unix:"):
        return {"pipe": {"path": socket_path(endpoint)}}
    host, port = host_and_port(endpoint)
    return {"socket_address": {"address": host, "port_value": port}}
