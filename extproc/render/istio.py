"""Istio: an ingress gateway with the filter, two destinations, and an access log to the service."""

from collections.abc import Iterable

import msgspec

from extproc.config import Config
from extproc.render.answers import READ_ANSWERS
from extproc.render.clusters import MANY, retrying, service
from extproc.render.envoy import manager_parts
from extproc.render.filters import buffer_bytes, http_filters
from extproc.render.kubernetes import GRPC_PORT, NAME, named, service_documents
from extproc.render.layout import Layout, Options, RenderError, backend_of, name_clashes, qualified
from extproc.render.routes import IDLE, retry_policy, retrying_cluster
from extproc.render.text import Tree
from extproc.render.typed import any_of, check

NETWORKING = "networking.istio.io/v1"
GATEWAY = "llm"
SELECTOR = {"istio": "ingressgateway"}
GATEWAY_NAMESPACE = "istio-system"
"""Namespace of the ingress gateway: what selects it has to live there."""

_MANAGER = "envoy.filters.network.http_connection_manager"
_MANAGER_TYPE = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_PROXIES: Tree = {
    "# Istio's ingress gateway.": None,
    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": GATEWAY_NAMESPACE}},
    "podSelector": {"matchLabels": SELECTOR},
}
_NO_SIDECAR = {"sidecar.istio.io/inject": "false"}

_WITH_AGGREGATE = (1, 36)
"""Istio builds its proxy with a list of extensions of its own: aggregate clusters and retry priorities have long
been on it, the composite cluster need not be, and a proxy refuses a cluster of a kind it does not know."""

_AWAKE = any_of(
    "envoy.config.route.v3.FilterConfig",
    {"is_optional": True, "config": any_of("google.protobuf.Struct", {"value": {}})},
)
"""What a route says of a filter that is disabled elsewhere. Istio refuses an empty `config` (its Any has no type),
by which Envoy's own files enable a filter. One of a type that no filter has does the same if it is optional."""

_TIMES: Tree = {
    "# No limit on how long an answer takes, only on silence. (A VirtualService takes no timeout of 0.)": None,
    "timeout": "0s",
    "idle_timeout": IDLE,
}

_MESSAGES = {
    "HTTP_FILTER": "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter",
    "NETWORK_FILTER": "envoy.config.listener.v3.Filter",
    "LISTENER": "envoy.config.listener.v3.Listener",
    "CLUSTER": "envoy.config.cluster.v3.Cluster",
    "HTTP_ROUTE": "envoy.config.route.v3.Route",
}
"""What Istio patches, and the Envoy message each value is."""


def istio(config: Config, layout: Layout, options: Options) -> dict[str, list[Tree]]:
    """Return the manifests: the service, the gateway with its destinations, the filter, the access log.

    Raises `RenderError` for a pool that has the name of one of our routes, or that no Service can be.
    """
    reading = {answers.route: "the route of answers that are read" for answers in READ_ANSWERS}
    if options.usage == "access-log" and (taken := name_clashes(layout, reading)):
        raise RenderError(taken)
    options = msgspec.structs.replace(
        options, envoy=_WITH_AGGREGATE, service=f"{_service_host(options)}:{GRPC_PORT}"
    )
    hosts = dict.fromkeys(_backend(layout, pool, options)[0] for pool in layout.pools)  # pools may share one
    destinations = [_destination(host, options) for host in hosts]
    return {
        "service.yaml": service_documents(config, options, _PROXIES, _NO_SIDECAR, headless=True),
        "gateway.yaml": [_gateway(options), _virtual_service(layout, options), *destinations],
        "filter.yaml": [_filter(layout, options)],
        "telemetry.yaml": [_telemetry(options)],
    }


def _gateway(options: Options) -> Tree:
    port = {"number": 80, "name": "http", "protocol": "HTTP"}
    return named(
        NETWORKING, "Gateway", GATEWAY, options, {"selector": SELECTOR, "servers": [{"port": port, "hosts": ["*"]}]}
    )


def _virtual_service(layout: Layout, options: Options) -> Tree:
    routes = [_route(layout, pool, options) for pool in layout.pools if pool != layout.default]
    default = {
        "# Everything else, and everything while Dualpool is away: the pool that holds it all.": None,
        **_route(layout, layout.default, options),
    }
    del default["match"]
    spec = {"hosts": ["*"], "gateways": [GATEWAY], "http": [*routes, *_read(layout, options), default]}
    return named(NETWORKING, "VirtualService", GATEWAY, options, spec)


def _route(layout: Layout, pool: str, options: Options) -> Tree:
    host, port = _backend(layout, pool, options)
    return {
        "name": _route_name(pool),
        "match": [{"headers": {layout.header: {"exact": pool}}}],
        "# The usage in a compressed answer cannot be read, so none is asked for.": None,
        "headers": {"request": {"remove": ["accept-encoding"]}},
        "# Istio's own retries are off: filter.yaml has ours.": None,
        "retries": {"attempts": 0},
        "route": [{"destination": {"host": host, "port": {"number": port}}}],
    }


def _read(layout: Layout, options: Options) -> list[Tree]:
    """Where requests begin whose answers are read by filters."""
    if options.usage != "access-log":
        return []
    default = _route(layout, layout.default, options)
    return [
        {**default, "name": _route_name(answers.route), "match": [{"uri": {"regex": answers.paths}}]}
        for answers in READ_ANSWERS
    ]


def _destination(host: str, options: Options) -> Tree:
    spec = {
        "host": host,
        "trafficPolicy": {
            "loadBalancer": {"simple": "LEAST_REQUEST"},
            "connectionPool": {"http": {"maxRetries": MANY, "idleTimeout": "4s"}},
        },
    }
    name = "-".join(host.split(".")[:2])  # of the Service and its namespace
    return named(NETWORKING, "DestinationRule", name, options, spec)


def _service_host(options: Options) -> str:
    return qualified(NAME, options.namespace)


def _backend(layout: Layout, pool: str, options: Options) -> tuple[str, int]:
    host, port = backend_of(layout.pools[pool])
    return qualified(host, options.namespace), port


def _filter(layout: Layout, options: Options) -> Tree:
    filters = http_filters(layout, options)
    reading = {name for answers in READ_ANSWERS for name in answers.filters}
    asking = [tree["name"] for tree in filters if tree["name"] not in reading]
    at_manager = {"listener": {"filterChain": {"filter": {"name": _MANAGER}}}}
    before_router = {"filter": {"name": _MANAGER, "subFilter": {"name": "envoy.filters.http.router"}}}
    parts = manager_parts(layout, options)
    del parts["http_filters"]
    parts.pop("access_log", None)  # Telemetry brings it; twice would teach everything twice
    manager = {"name": _MANAGER, "typed_config": any_of(_MANAGER_TYPE, parts)}
    limit = {
        "# How much of a request is buffered, for Dualpool and for the retry.": None,
        "per_connection_buffer_limit_bytes": buffer_bytes(layout, options.usage),
    }
    spec = {
        "workloadSelector": {"labels": SELECTOR},
        "configPatches": [
            *(
                _patch("HTTP_FILTER", "INSERT_BEFORE", _asleep(tree), {"listener": {"filterChain": before_router}})
                for tree in filters
            ),
            _patch("NETWORK_FILTER", "MERGE", manager, at_manager),
            _patch("LISTENER", "MERGE", limit, at_manager),
            _patch("CLUSTER", "ADD", service(options)),
            *(_patch("CLUSTER", "ADD", _retrying(layout, pool, options)) for pool in layout.larger),
            *(_route_patch(layout, pool, options, _awake(asking)) for pool in layout.pools),
            *_read_patches(options, asking),
        ],
    }
    return named("networking.istio.io/v1alpha3", "EnvoyFilter", NAME, _beside_gateway(options), spec)


def _asleep(http_filter: Tree) -> Tree:
    return {
        **http_filter,
        "# Active only on the routes that enable it, below (by an empty Struct, since Istio refuses an empty "
        "`config`): nothing else that the gateway serves passes through.": None,
        "disabled": True,
    }


def _awake(filters: Iterable[str]) -> Tree:
    return {"typed_per_filter_config": dict.fromkeys(filters, _AWAKE)}


def _beside_gateway(options: Options) -> Options:
    return msgspec.structs.replace(options, namespace=GATEWAY_NAMESPACE)


def _retrying(layout: Layout, pool: str, options: Options) -> Tree:
    """The pair of clusters, by the names that Istio gives them."""
    names = {}
    for member in (pool, layout.larger[pool]):
        host, port = _backend(layout, member, options)
        names[member] = f"outbound|{port}||{host}"
    return retrying(layout, pool, options, names)


def _route_patch(layout: Layout, pool: str, options: Options, fields: Tree) -> Tree:
    """What a route says beyond its VirtualService: the filters, times, and where a refused request goes."""
    action = dict(_TIMES)
    if pool in layout.larger:
        action |= {"cluster": retrying_cluster(layout, pool), "retry_policy": retry_policy(options)}
    return _patch("HTTP_ROUTE", "MERGE", {"route": action, **fields}, _at_route(pool))


def _read_patches(options: Options, asking: list[str]) -> list[Tree]:
    """Where requests begin whose answers are read. `asking`: names of the filters that decide."""
    if options.usage != "access-log":
        return []
    return [
        _patch(
            "HTTP_ROUTE",
            "MERGE",
            {"route": _TIMES, **_awake([*asking, *answers.filters])},
            _at_route(answers.route),
        )
        for answers in READ_ANSWERS
    ]


def _route_name(name: str) -> str:
    """Name of a route that no other application of the gateway has.

    By it alone the patches find the route: Istio knows the Gateway of HTTPS servers only, and compares that of a
    patch with nothing where the server speaks HTTP.
    """
    return f"{NAME}-{name}"


def _at_route(name: str) -> Tree:
    return {"routeConfiguration": {"vhost": {"route": {"name": _route_name(name)}}}}


def _patch(kind: str, operation: str, value: Tree, match: Tree | None = None) -> Tree:
    check(value, _MESSAGES[kind])
    return {
        "applyTo": kind,
        "match": {"context": "GATEWAY", **(match or {})},
        "patch": {"operation": operation, "value": value},
    }


def _telemetry(options: Options) -> Tree:
    comment = (
        "Status, attempts and durations of each answer, to Dualpool. The mesh configuration names the provider:\n"
        "\n"
        "  meshConfig:\n"
        "    extensionProviders:\n"
        f"    - name: {NAME}\n"
        "      envoyHttpAls:\n"
        f"        service: {_service_host(options)}\n"
        f"        port: {GRPC_PORT}\n"
        "\n"
        "For this gateway the provider takes the place of the mesh's own: name those beside it that are to stay "
        "(`envoy` is the log on standard output)."
    )
    spec = {"selector": {"matchLabels": SELECTOR}, "accessLogging": [{"providers": [{"name": NAME}]}]}
    return named("telemetry.istio.io/v1", "Telemetry", NAME, _beside_gateway(options), spec, comment)
