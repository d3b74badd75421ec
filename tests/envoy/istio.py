"""What Istio makes of the shipped kinds, as far as they use it: an Envoy for its ingress gateway.

Routes come from the VirtualService, clusters from their destinations, and the EnvoyFilter is merged over both. What
Istio refuses, or leaves unmatched, fails here too: compared with its own discovery of August 2026.
"""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from extproc.demo.envoy import ANY_PORT, Address, Tree, connection_manager
from extproc.demo.pool_server import HOST
from extproc.render.typed import any_of

MANAGER = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
FILTERS = "envoy.extensions.filters.http"

Documents = Mapping[str, Any]
"""The rendered objects of one set, by kind."""


def gateway(documents: Documents, servers: Mapping[str, Address], shop: Address) -> Tree:
    """Return the gateway's configuration. `servers`: of each destination's host; `shop`: of another application."""
    own = [_route(rule) for rule in documents["VirtualService"]["spec"]["http"]]
    other = {"name": "short", "match": {"prefix": "/shop"}, "route": {"cluster": "shop"}}  # the name of a pool
    host = {"name": "*:80", "domains": ["*"], "routes": [other, *own]}
    manager = {
        "stat_prefix": "outbound_0.0.0.0_80",
        "route_config": {"name": "http.80", "virtual_hosts": [host]},
        "http_filters": [_filter("cors", "Cors"), _filter("fault", "HTTPFault"), _filter("router", "Router")],
    }
    chain = {"name": "envoy.filters.network.http_connection_manager", "typed_config": any_of(MANAGER, manager)}
    listener = {"name": "llm", "address": _address(ANY_PORT), "filter_chains": [{"filters": [chain]}]}
    clusters = [_cluster(name, servers[name.rpartition("||")[2]]) for name in sorted(_destinations(own))]
    tree = {
        "admin": {"address": _address(ANY_PORT)},
        "static_resources": {"listeners": [listener], "clusters": [*clusters, _cluster("shop", shop)]},
    }
    for patch in documents["EnvoyFilter"]["spec"]["configPatches"]:
        assert all("@type" in config for config in _route_configs(patch)), "Istio takes no Any without a type"
        _apply(tree, patch)
    return tree


def _route_configs(patch: Tree) -> list[Tree]:
    """What a patched route says of its filters."""
    return [said["config"] for said in patch["patch"]["value"].get("typed_per_filter_config", {}).values()]


def _apply(tree: Tree, patch: Tree) -> None:
    """Apply one patch, in place."""
    kind, operation, value = patch["applyTo"], patch["patch"]["operation"], copy.deepcopy(patch["patch"]["value"])
    listener = tree["static_resources"]["listeners"][0]
    manager = connection_manager(tree)
    match (kind, operation):
        case ("CLUSTER", "ADD"):
            tree["static_resources"]["clusters"].append(value)
        case ("HTTP_FILTER", "INSERT_BEFORE"):
            manager["http_filters"].insert(-1, value)  # before the router
        case ("NETWORK_FILTER", "MERGE"):
            _merge(manager, value["typed_config"])
        case ("LISTENER", "MERGE"):
            _merge(listener, value)
        case ("HTTP_ROUTE", "MERGE"):
            where = patch["match"]["routeConfiguration"]
            assert where.keys() == {"vhost"}  # a Gateway matches where its servers speak HTTPS alone
            routes = manager["route_config"]["virtual_hosts"][0]["routes"]
            (route,) = [r for r in routes if r["name"] == where["vhost"]["route"]["name"]]
            _merge(route, value)
        case _:
            raise AssertionError(f"no test knows {kind} {operation}")


def _merge(into: Tree, value: Tree) -> None:
    """As protobuf merges: messages field by field, lists one after the other."""
    for key, inner in value.items():
        if isinstance(inner, dict) and isinstance(into.get(key), dict):
            _merge(into[key], inner)
        elif isinstance(inner, list) and key in into:
            into[key] += inner
        else:
            into[key] = inner


def _route(rule: Tree) -> Tree:
    """A rule of a VirtualService as a route."""
    assert "timeout" not in rule, "Istio takes none below 1 ms, so not 0s; without one there is no limit"
    match = rule.get("match", [{}])[0]
    path = {"safe_regex": match["uri"]} if "uri" in match else {"prefix": "/"}
    headers = [{"name": name, "string_match": value} for name, value in match.get("headers", {}).items()]
    destination = rule["route"][0]["destination"]
    return {
        "name": rule["name"],
        "match": {**path, "headers": headers},
        "route": {
            "cluster": f"outbound|{destination['port']['number']}||{destination['host']}",
            "timeout": "0s",
        },
        "request_headers_to_remove": rule["headers"]["request"]["remove"],
    }


def _destinations(routes: list[Tree]) -> Iterator[str]:
    yield from {route["route"]["cluster"] for route in routes}


def _filter(name: str, kind: str) -> Tree:
    return {"name": f"envoy.filters.http.{name}", "typed_config": any_of(f"{FILTERS}.{name}.v3.{kind}", {})}


def _cluster(name: str, address: Address) -> Tree:
    hosts = [{"lb_endpoints": [{"endpoint": {"address": _address(address)}}]}]
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "2s",
        "load_assignment": {"cluster_name": name, "endpoints": hosts},
    }


def _address(address: Address) -> Tree:
    host, port = address
    assert host == HOST
    return {"socket_address": {"address": host, "port_value": port}}
