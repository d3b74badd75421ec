"""Envoy Gateway: Gateway API and Envoy Gateway's own policies around the service."""

from extproc.config import Config
from extproc.render.clusters import HANG_COMMENT, IDLE_COMMENT, MANY
from extproc.render.filters import buffer_bytes
from extproc.render.kubernetes import GRPC_PORT, NAME, named, service_documents
from extproc.render.layout import Layout, Options, RenderError, backend_of, name_clashes, qualified
from extproc.render.text import Tree
from extproc.service.metadata import NAMESPACE
from extproc.service.received import ATTEMPTS

GATEWAY_API = "gateway.networking.k8s.io"
ENVOY_GATEWAY = "gateway.envoyproxy.io"
INFERENCE = "inference.networking.k8s.io"
GATEWAY = "llm"
ROUTE = "llm"

_PROXIES: Tree = {
    "# Envoy Gateway runs its proxies in its own namespace.": None,
    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "envoy-gateway-system"}},
    "podSelector": {"matchLabels": {"app.kubernetes.io/name": "envoy"}},
}

_HEADLESS: Tree = {
    "# Name a headless Service. Envoy sees a Service with an address of its own as one host, and cannot balance "
    "over its servers.": None
}


def envoy_gateway(config: Config, layout: Layout, options: Options) -> dict[str, list[Tree]]:
    """Return the manifests: the service, the gateway, the routes.

    Raises `RenderError` for exchanges and usage sources whose filters Envoy Gateway does not have.
    """
    if (options.exchange, options.usage) != ("body", "response-body"):
        raise RenderError(["--exchange, --usage: Envoy Gateway has no filters that lift values: leave both out"])
    if options.inference_pools:
        backends = [_inference_pool(layout, name, options) for name in layout.pools]
        policies: list[Tree] = []
    else:
        backends = [*(_backend(layout, name, options) for name in layout.pools), *_fallbacks(layout, options)]
        policies = [_traffic_policy(layout, name, options) for name in layout.pools]
    return {
        "service.yaml": service_documents(config, options, _PROXIES),
        "gateway.yaml": [_envoy_proxy(options), _gateway(options), _client_policy(layout, options)],
        "routes.yaml": [*backends, _route(layout, options), *policies, _extension_policy(layout, options)],
    }


def _envoy_proxy(options: Options) -> Tree:
    als = {"type": "HTTP", "logName": NAME, "backendRefs": [_service_ref(options)]}
    spec = {
        "telemetry": {
            "accessLog": {
                "settings": [
                    {
                        "# Status, attempts and durations of each answer, to Dualpool.": None,
                        "sinks": [{"type": "ALS", "als": als}],
                    },
                    {
                        "# The default log, which naming a sink of your own takes away.": None,
                        "sinks": [{"type": "File", "file": {"path": "/dev/stdout"}}],
                    },
                ]
            }
        }
    }
    return named(f"{ENVOY_GATEWAY}/v1alpha1", "EnvoyProxy", GATEWAY, options, spec)


def _gateway(options: Options) -> Tree:
    spec = {
        "gatewayClassName": "eg",
        "infrastructure": {"parametersRef": {"group": ENVOY_GATEWAY, "kind": "EnvoyProxy", "name": GATEWAY}},
        "listeners": [{"name": "http", "protocol": "HTTP", "port": 80}],
    }
    return named(f"{GATEWAY_API}/v1", "Gateway", GATEWAY, options, spec)


def _client_policy(layout: Layout, options: Options) -> Tree:
    spec = {
        "targetRefs": [{"group": GATEWAY_API, "kind": "Gateway", "name": GATEWAY}],
        "# Otherwise clients could choose their pool whenever Dualpool is away.": None,
        "headers": {"earlyRequestHeaders": {"remove": [layout.header]}},
        "# Envoy Gateway's default is 32 KiB: a longer prompt is cut, and a longer buffered body is a 413.": None,
        "connection": {"bufferLimit": buffer_bytes(layout)},
        "http2": {
            "initialStreamWindowSize": buffer_bytes(layout),
            "initialConnectionWindowSize": 4 * buffer_bytes(layout),
        },
        "# 10 minutes without a byte, not the default 5: a long prompt may wait in a queue.": None,
        "timeout": {"http": {"streamIdleTimeout": "600s"}},
    }
    return named(f"{ENVOY_GATEWAY}/v1alpha1", "ClientTrafficPolicy", GATEWAY, options, spec)


def _backend(layout: Layout, pool: str, options: Options, fallback: bool = False) -> Tree:
    host, port = backend_of(layout.pools[pool])
    spec = {
        **({} if fallback else _HEADLESS),
        "endpoints": [{"fqdn": {"hostname": qualified(host, options.namespace), "port": port}}],
        **({"fallback": True} if fallback else {}),
    }
    comment = "Where a request goes that the smaller pool refused." if fallback else ""
    name = f"{pool}-fallback" if fallback else pool
    return named(f"{ENVOY_GATEWAY}/v1alpha1", "Backend", name, options, spec, comment)


def _fallbacks(layout: Layout, options: Options) -> list[Tree]:
    pools = dict.fromkeys(layout.larger.values())
    taken = {f"{pool}-fallback": f"the Backend for what a smaller pool of {pool} refuses" for pool in pools}
    if clashes := name_clashes(layout, taken):
        raise RenderError(clashes)
    return [_backend(layout, pool, options, fallback=True) for pool in pools]


def _inference_pool(layout: Layout, pool: str, options: Options) -> Tree:
    host, port = backend_of(layout.pools[pool])
    spec = {
        "# All pods of the pool. With prefill and decode apart, both carry this label, and one more for their "
        "role: the pool's own endpoint picker tells them apart.": None,
        "selector": {"matchLabels": {"app": host.partition(".")[0]}},
        "targetPorts": [{"number": port}],
        "# Installed with the pool, one a pool. FailOpen: without it any pod of the pool will do.": None,
        "endpointPickerRef": {"name": f"{pool}-epp", "port": {"number": 9002}, "failureMode": "FailOpen"},
    }
    return named(f"{INFERENCE}/v1", "InferencePool", pool, options, spec)


def _route(layout: Layout, options: Options) -> Tree:
    rules = [_rule(layout, pool, options) for pool in layout.pools if pool != layout.default]
    default: Tree = {
        "# Everything else, and everything while Dualpool is away: the pool that holds it all.": None,
        **_rule(layout, layout.default, options),
    }
    del default["matches"]
    spec = {"parentRefs": [{"name": GATEWAY}], "rules": [*rules, default]}
    route = named(f"{GATEWAY_API}/v1", "HTTPRoute", ROUTE, options, spec)
    hint = (
        "# Annotations of this route override Dualpool's configuration: "
        f"{ENVOY_GATEWAY}/dualpool-shadow: 'true', likewise -pools, -thresholds, -category, -rollout-percent, "
        "-default-output."
    )
    route["metadata"][hint] = None
    return route


def _rule(layout: Layout, pool: str, options: Options) -> Tree:
    backends = [_backend_ref(pool, options)]
    if pool in layout.larger and not options.inference_pools:
        backends.append(_backend_ref(f"{layout.larger[pool]}-fallback", options))
    header = {"type": "Exact", "name": layout.header, "value": pool}
    return {
        "name": pool,
        "matches": [{"path": {"type": "PathPrefix", "value": "/"}, "headers": [header]}],
        "# The usage in a compressed answer cannot be read, so none is asked for.": None,
        "filters": [{"type": "RequestHeaderModifier", "requestHeaderModifier": {"remove": ["accept-encoding"]}}],
        "# No limit on how long an answer takes.": None,
        "timeouts": {"request": "0s"},
        "backendRefs": backends,
    }


def _backend_ref(name: str, options: Options) -> Tree:
    if options.inference_pools:
        return {"group": INFERENCE, "kind": "InferencePool", "name": name}
    return {"group": ENVOY_GATEWAY, "kind": "Backend", "name": name}


def _traffic_policy(layout: Layout, pool: str, options: Options) -> Tree:
    retry = {
        "# vLLM answers 400 to a request that does not fit. It is retried once, on the fallback: the larger pool "
        "(one attempt for each priority). reset: so is a request whose server died before its answer "
        "began.": None,
        "numRetries": 1,
        "numAttemptsPerPriority": 1,
        "retryOn": {
            "httpStatusCodes": [400],
            "triggers": ["retriable-status-codes", "connect-failure", "refused-stream", "reset"],
        },
        "perRetry": {"backOff": {"baseInterval": "1ms", "maxInterval": "1ms"}},
    }
    spec = {
        "targetRefs": [{"group": GATEWAY_API, "kind": "HTTPRoute", "name": ROUTE, "sectionName": pool}],
        "loadBalancer": {"type": "LeastRequest"},
        IDLE_COMMENT: None,
        "timeout": {"http": {"requestTimeout": "0s", "connectionIdleTimeout": "4s"}},
        "connection": {"bufferLimit": buffer_bytes(layout)},
        "# Answers last a minute: the defaults of 1,024 are soon reached.": None,
        "circuitBreaker": {
            "maxConnections": MANY,
            "maxPendingRequests": MANY,
            "maxParallelRequests": MANY,
            "maxParallelRetries": MANY,
        },
        **({"retry": retry} if pool in layout.larger else {}),
    }
    return named(f"{ENVOY_GATEWAY}/v1alpha1", "BackendTrafficPolicy", f"{ROUTE}-{pool}", options, spec)


def _extension_policy(layout: Layout, options: Options) -> Tree:
    extension = {
        "backendRefs": [_service_ref(options)],
        "# No request waits for Dualpool longer than this, and none fails because of it. (failOpen cannot be "
        "combined with FullDuplexStreamed.)": None,
        "failOpen": True,
        "messageTimeout": "200ms",
        "processingMode": {
            "allowModeOverride": True,
            "# Headers are sent only if `request` and `response` are present, even empty. Buffered would answer "
            "413 to a body over the buffer limit.": None,
            "request": {"body": "BufferedPartial", "attributes": ["xds.route_metadata"]},
            "response": {"attributes": [ATTEMPTS]},
        },
        "metadata": {"writableNamespaces": [NAMESPACE]},
        "backendSettings": {
            "# A service that hangs is not asked while its check fails.": None,
            "healthCheck": {
                "panicThreshold": 0,
                "active": {
                    "type": "GRPC",
                    "grpc": {},
                    "interval": "500ms",
                    "timeout": "250ms",
                    "unhealthyThreshold": 1,
                    "healthyThreshold": 1,
                },
            },
            HANG_COMMENT: None,
            "http2": {"connectionKeepalive": {"interval": "500ms", "timeout": "250ms"}},
            "connection": {"bufferLimit": buffer_bytes(layout)},
            "circuitBreaker": {
                "maxConnections": MANY,
                "maxPendingRequests": MANY,
                "maxParallelRequests": MANY,
            },
        },
    }
    comment = (
        "The whole route, its catch-all rule included: the re-match after the decision may pick that rule, and a "
        "rule without the policy would drop the rest of the exchange. Other HTTPRoutes to the pools need it too."
    )
    spec = {
        "targetRefs": [{"group": GATEWAY_API, "kind": "HTTPRoute", "name": ROUTE}],
        "extProc": [extension],
    }
    return named(f"{ENVOY_GATEWAY}/v1alpha1", "EnvoyExtensionPolicy", NAME, options, spec, comment)


def _service_ref(options: Options) -> Tree:
    return {"name": NAME, "namespace": options.namespace, "port": GRPC_PORT}
