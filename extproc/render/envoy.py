"""Envoy's own configuration: a complete bootstrap, or the parts to paste into one that is there."""

from extproc.render.clusters import address, clusters
from extproc.render.filters import SERVICE_CLUSTER, buffer_bytes, http_filters
from extproc.render.layout import Layout, Options
from extproc.render.lifting import access_log, json_log
from extproc.render.routes import virtual_host
from extproc.render.text import Tree
from extproc.render.typed import any_of, check

_MANAGER = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_ROUTER = "envoy.extensions.filters.http.router.v3.Router"
_HEADER_MUTATION = "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation"

_NODE: Tree = {
    "# `node` is needed to load filters from a file.": None,
    "node": {"id": "dualpool", "cluster": "dualpool"},
}


def bootstrap(layout: Layout, options: Options) -> Tree:
    """Return a complete configuration. Raises `ValueError` if Envoy's types do not agree."""
    tree: Tree = {
        "# A complete Envoy in front of the pools, with Dualpool choosing between them, made by `dualpool render "
        f"envoy`. {_versions(options)} {_away(layout, options)}\n\n"
        "To try it: `envoy -c` with this file, `dualpool serve --config` with the one it was rendered from.": None,
        **(_NODE if options.exchange == "in-proxy" else {}),
        "admin": {"address": address(options.admin)},
        "static_resources": {"listeners": [_listener(layout, options)], "clusters": clusters(layout, options)},
    }
    check(tree, "envoy.config.bootstrap.v3.Bootstrap")
    return tree


def snippet(layout: Layout, options: Options) -> Tree:
    """Return the parts to paste: what a connection manager needs, routes, filters, clusters.

    Raises `ValueError` if Envoy's types do not agree.
    """
    manager = manager_parts(layout, options)
    tree: Tree = {
        **(_NODE if options.exchange == "in-proxy" else {}),
        "# What Dualpool needs, to paste into an existing Envoy configuration, made by `dualpool render "
        f"envoy-filter`. {_versions(options)} Take it out again, and traffic is as it was.\n\n"
        "Into the listener:": None,
        "per_connection_buffer_limit_bytes": buffer_bytes(layout, options.usage),
        "# Into its connection manager. Filters: after authentication, before the router.": None,
        **manager,
        "# Into its route configuration, in place of the routes to the model servers.": None,
        "virtual_hosts": [virtual_host(layout, options)],
        "# Into the clusters. If you already have a cluster for a pool under another name, use that name in the "
        "routes and in the cluster that pairs two pools.": None,
        "clusters": clusters(layout, options),
    }
    bootstrap(layout, options)  # the same parts, at their places
    return tree


def _versions(options: Options) -> str:
    return f"For Envoy {'.'.join(map(str, options.envoy))} and later (`--envoy`)."


def _away(layout: Layout, options: Options) -> str:
    if options.exchange == "in-proxy":
        return "While Dualpool is away, Envoy goes on deciding by the last figures."
    return f"If Dualpool is absent, slow or wrong, every request goes to {layout.default!r}, which holds them all."


def _listener(layout: Layout, options: Options) -> Tree:
    return {
        "name": "llm",
        "address": address(options.listen),
        "# How much of a request is buffered, for Dualpool and for the retry. The default of 1 MiB cuts long "
        "prompts.": None,
        "per_connection_buffer_limit_bytes": buffer_bytes(layout, options.usage),
        "filter_chains": [
            {
                "filters": [
                    {
                        "name": "envoy.filters.network.http_connection_manager",
                        "typed_config": any_of(_MANAGER, _manager(layout, options)),
                    }
                ]
            }
        ],
    }


def _manager(layout: Layout, options: Options) -> Tree:
    parts = manager_parts(layout, options)
    router = {"name": "envoy.filters.http.router", "typed_config": any_of(_ROUTER, {})}
    return {
        "stat_prefix": "llm",
        "use_remote_address": True,
        "normalize_path": True,
        "# For realtime APIs: without this Envoy refuses an upgrade.": None,
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        **parts,
        "http_filters": [*parts["http_filters"], router],
        "route_config": {"name": "pools", "virtual_hosts": [virtual_host(layout, options)]},
    }


def manager_parts(layout: Layout, options: Options) -> Tree:
    """Return what the connection manager needs beside routes."""
    return {
        "# An HTTP/2 client's body is buffered within its stream's window: as large as the buffer.": None,
        "http2_protocol_options": {
            "initial_stream_window_size": buffer_bytes(layout, options.usage),
            "initial_connection_window_size": 4 * buffer_bytes(layout, options.usage),
        },
        "# A long prompt may wait before its first token: 10 minutes without a byte, not the default 5.": None,
        "stream_idle_timeout": "600s",
        "# Removes the routing header of a client before the first route is picked. Otherwise clients could choose "
        "their pool whenever Dualpool is away.": None,
        "early_header_mutation_extensions": [
            {
                "name": "envoy.http.early_header_mutation.header_mutation",
                "typed_config": any_of(_HEADER_MUTATION, {"mutations": [{"remove": layout.header}]}),
            }
        ],
        **({"access_log": _access_logs(options)} if options.usage == "access-log" else {}),
        "http_filters": http_filters(layout, options),
    }


def _access_logs(options: Options) -> list[Tree]:
    return [access_log(SERVICE_CLUSTER), *([json_log(options.json_log)] if options.json_log else [])]
