"""What Envoy Gateway makes of the shipped manifests: its own translator's output, recorded, as an Envoy.

`python -m tests.envoy.egctl` records it again, where `egctl` (`go install
github.com/envoyproxy/gateway/cmd/egctl@v1.9.1`) is on the path. A digest of the manifests is recorded too, so that
a test notices when they have changed since.
"""

import hashlib
import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from extproc.demo.envoy import ANY_PORT, Address, Tree
from tests.manifests.objects import ENVOY, objects

RECORDED = Path(__file__).with_name("envoy-gateway-1.9.1.yaml")
MANIFESTS = "gateway-api/envoy-gateway"

_CLASS = {
    "apiVersion": "gateway.networking.k8s.io/v1",
    "kind": "GatewayClass",
    "metadata": {"name": "eg"},
    "spec": {"controllerName": "gateway.envoyproxy.io/gatewayclass-controller"},
}
_NAMESPACE = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "llm"}}
_DUMPS = {
    "clusters": ("ClustersConfigDump", "dynamicActiveClusters", "cluster"),
    "routes": ("RoutesConfigDump", "dynamicRouteConfigs", "routeConfig"),
    "listeners": ("ListenersConfigDump", "dynamicListeners", "activeState"),
}


def manifests() -> list[Any]:
    """Return what matters to the translator: what is shipped for Envoy Gateway, but Dualpool's own Deployment."""
    kinds = {"ConfigMap", "Deployment", "HorizontalPodAutoscaler", "PodDisruptionBudget", "NetworkPolicy"}
    return [found for found in objects(MANIFESTS) if found["kind"] not in kinds]


def digest() -> str:
    """Return a digest of the manifests as they are."""
    return hashlib.sha256(json.dumps(manifests()).encode()).hexdigest()


def recorded() -> Any:
    """Return what was recorded: `manifests` (digest), `accepted` (by policy), `translated`."""
    return yaml.safe_load(RECORDED.read_text("utf-8"))


def gateway(servers: Mapping[str, Address]) -> Tree:
    """Return the recorded configuration with the addresses of `servers`, by the name of their Service."""
    translated = recorded()["translated"]
    routes = {route["name"]: _untyped(route) for route in translated["routes"]}
    # Those without a default filter chain are for Envoy Gateway's own probes.
    listeners = [e["listener"] for e in translated["listeners"] if "defaultFilterChain" in e["listener"]]
    clusters = [_cluster(cluster, servers) for cluster in translated["clusters"]]
    return {
        "admin": {"address": _address(ANY_PORT)},
        "static_resources": {"listeners": [_listener(found, routes) for found in listeners], "clusters": clusters},
    }


def manager(tree: Tree) -> Tree:
    """Return the connection manager, to be changed in place."""
    found: Tree = tree["static_resources"]["listeners"][0]["defaultFilterChain"]["filters"][0]["typedConfig"]
    return found


def _listener(listener: Tree, routes: Mapping[str, Tree]) -> Tree:
    found = listener["defaultFilterChain"]["filters"][0]["typedConfig"]
    found["routeConfig"] = routes[found.pop("rds")["routeConfigName"]]
    return {**_untyped(listener), "name": "llm", "address": _address(ANY_PORT)}


def _cluster(cluster: Tree, servers: Mapping[str, Address]) -> Tree:
    cluster = _untyped(cluster)
    if cluster.pop("edsClusterConfig", None):  # a Service: its endpoints come from Kubernetes
        endpoint = {"endpoint": {"address": _address(servers["dualpool"])}}
        assignment = {"clusterName": cluster["name"], "endpoints": [{"lbEndpoints": [endpoint]}]}
        return {**cluster, "type": "STATIC", "loadAssignment": assignment}
    for host in _hosts(cluster):
        service = host["endpoint"]["address"]["socketAddress"]["address"].partition(".")[0]
        host["endpoint"]["address"] = _address(servers[service])
    return cluster


def _hosts(cluster: Tree) -> Iterator[Tree]:
    for endpoints in cluster["loadAssignment"]["endpoints"]:
        yield from endpoints["lbEndpoints"]


def _untyped(resource: Tree) -> Tree:
    return {key: value for key, value in resource.items() if key != "@type"}


def _address(address: Address) -> Tree:
    return {"socketAddress": {"address": address[0], "portValue": address[1]}}


def _record() -> None:
    """Translate with `egctl`, which knows no endpoints: the Service is given an address in their place."""
    given = [_CLASS, _NAMESPACE, *manifests()]
    for found in given:
        if found["kind"] == "Service":
            found["spec"]["clusterIP"] = "127.0.0.1"
    command = [
        "egctl",
        "x",
        "translate",
        "--from",
        "gateway-api",
        "--to",
        "xds,gateway-api",
        "--file",
        "/dev/stdin",
    ]
    done = subprocess.run(
        command, input=yaml.safe_dump_all(given), capture_output=True, text=True, check=True, cwd=ENVOY
    )
    told = yaml.safe_load(done.stdout)
    (target,) = told["xds"].values()
    dumps = {dump["@type"].rpartition(".")[2]: dump for dump in target["configs"]}
    translated = {
        name: [entry[inner] for entry in dumps[kind][outer]] for name, (kind, outer, inner) in _DUMPS.items()
    }
    policies = [policy for kind, found in told.items() if kind.endswith("Policies") for policy in found]
    record = {"manifests": digest(), "accepted": dict(map(_accepted, policies)), "translated": translated}
    header = "# Written by python -m tests.envoy.egctl, with egctl of Envoy Gateway 1.9.1.\n"
    RECORDED.write_text(header + yaml.safe_dump(record, sort_keys=False), "utf-8")


def _accepted(policy: Any) -> tuple[str, bool]:
    """A policy, and whether Envoy Gateway follows it everywhere."""
    conditions = [c for ancestor in policy["status"]["ancestors"] for c in ancestor["conditions"]]
    return f"{policy['kind']} {policy['metadata']['name']}", all(c["status"] == "True" for c in conditions)


if __name__ == "__main__":
    _record()
