"""The files of a set fit together: what one names, another has."""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from extproc.config import Config
from tests.manifests.objects import SETS, Object, objects, of_kind

GATEWAY_API = [name for name in SETS if name.startswith("gateway-api/")]
EXTERNAL = {"GatewayClass": {"eg"}}


def walk(value: Any) -> Iterator[dict[str, Any]]:
    """Every mapping inside `value`."""
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from walk(inner)


def values(value: Any, key: str) -> list[Any]:
    """Every value under `key`, at any depth."""
    return [mapping[key] for mapping in walk(value) if key in mapping]


def settings(directory: str) -> Config:
    """The configuration in the ConfigMap."""
    text = of_kind(directory, "ConfigMap")["dualpool"]["data"]["dualpool.yaml"]
    return Config.model_validate(yaml.safe_load(text))


def ports(directory: str, service: str) -> set[int]:
    return {port["port"] for port in of_kind(directory, "Service")[service]["spec"]["ports"]}


@pytest.mark.parametrize("directory", SETS)
def test_one_namespace(directory: str) -> None:
    """All objects live in the namespace rendered for, but those that must be beside Istio's gateway."""
    beside = {"EnvoyFilter", "Telemetry"}
    assert {found["metadata"]["namespace"] for found in objects(directory) if found["kind"] not in beside} == {
        "llm"
    }


@pytest.mark.parametrize("directory", SETS)
def test_configuration(directory: str) -> None:
    """The service listens on the ports that its container and its Service have, and its probes ask."""
    config = settings(directory)
    container = of_kind(directory, "Deployment")["dualpool"]["spec"]["template"]["spec"]["containers"][0]
    named = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert config.server.listen == f"0.0.0.0:{named['grpc']}"
    assert config.server.admin == f"0.0.0.0:{named['admin']}"
    assert ports(directory, "dualpool") == set(named.values())
    assert {probe["port"] for probe in values(container, "httpGet")} == {"admin"}


@pytest.mark.parametrize("directory", SETS)
def test_labels(directory: str) -> None:
    """Every selector of the service's objects matches the labels of its pods."""
    deployment = of_kind(directory, "Deployment")["dualpool"]["spec"]
    labels = deployment["template"]["metadata"]["labels"].items()
    selectors = [
        deployment["selector"]["matchLabels"],
        of_kind(directory, "Service")["dualpool"]["spec"]["selector"],
        of_kind(directory, "PodDisruptionBudget")["dualpool"]["spec"]["selector"]["matchLabels"],
        of_kind(directory, "NetworkPolicy")["dualpool"]["spec"]["podSelector"]["matchLabels"],
    ]
    assert all(selector.items() <= labels for selector in selectors)


@pytest.mark.parametrize("directory", SETS)
def test_mounts(directory: str) -> None:
    """What is mounted is a volume, and its ConfigMap exists."""
    pod = of_kind(directory, "Deployment")["dualpool"]["spec"]["template"]["spec"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert {mount["name"] for mount in pod["containers"][0]["volumeMounts"]} == set(volumes)
    assert volumes["config"]["configMap"]["name"] in of_kind(directory, "ConfigMap")


@pytest.mark.parametrize("directory", SETS)
def test_hardening(directory: str) -> None:
    """The service runs as nobody, on a read-only root, with no capability."""
    pod = of_kind(directory, "Deployment")["dualpool"]["spec"]["template"]["spec"]
    context = pod["containers"][0]["securityContext"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert context["readOnlyRootFilesystem"] is True
    assert context["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize("directory", GATEWAY_API)
def test_gateway_api_references(directory: str) -> None:
    """Every object named by a route, policy or gateway exists, and a rule that a policy names does too."""
    known = {(found["kind"], found["metadata"]["name"]) for found in objects(directory)}
    for reference in references(objects(directory)):
        kind = reference.get("kind", "Service")
        if kind == "Service" and reference["name"].endswith("-epp"):
            continue  # comes with the endpoint picker
        assert (kind, reference["name"]) in known, reference
        if "port" in reference and kind == "Service":
            assert reference["port"] in ports(directory, reference["name"])
        if "sectionName" in reference:
            rules = of_kind(directory, kind)[reference["name"]]["spec"]["rules"]
            assert reference["sectionName"] in {rule["name"] for rule in rules}


def references(found: list[Object]) -> Iterator[dict[str, Any]]:
    for key in ("backendRefs", "targetRefs"):
        for group in values(found, key):
            yield from group
    yield from values(found, "endpointPickerRef")
    yield from values(found, "parametersRef")
    yield from ({"kind": "Gateway", **reference} for group in values(found, "parentRefs") for reference in group)


@pytest.mark.parametrize("directory", GATEWAY_API)
def test_header(directory: str) -> None:
    """The header that the service sets is the one matched and the one removed, with the pools' names as values."""
    config = settings(directory)
    smaller = {pool.name for pool in config.pools["default"][:-1]}
    rules = of_kind(directory, "HTTPRoute")["llm"]["spec"]["rules"]
    headers = [header for rule in rules for match in rule.get("matches", ()) for header in match["headers"]]
    removed = values(of_kind(directory, "ClientTrafficPolicy"), "earlyRequestHeaders")
    assert {(header["name"], header["value"]) for header in headers} == {
        (config.routing.header, n) for n in smaller
    }
    assert removed == [{"remove": [config.routing.header]}]


@pytest.mark.parametrize("directory", GATEWAY_API)
def test_catch_all(directory: str) -> None:
    """The last rule takes everything to the largest pool, and the policy covers the whole route."""
    rule = of_kind(directory, "HTTPRoute")["llm"]["spec"]["rules"][-1]
    target = of_kind(directory, "EnvoyExtensionPolicy")["dualpool"]["spec"]["targetRefs"]
    assert "matches" not in rule
    assert [backend["name"] for backend in rule["backendRefs"]] == [settings(directory).pools["default"][-1].name]
    assert target == [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "llm"}]


@pytest.mark.parametrize("directory", GATEWAY_API)
def test_traps(directory: str) -> None:
    """Fail open without FullDuplexStreamed, headers sent both ways, buffers and windows that hold a long prompt."""
    extension = of_kind(directory, "EnvoyExtensionPolicy")["dualpool"]["spec"]["extProc"][0]
    client = of_kind(directory, "ClientTrafficPolicy")["llm"]["spec"]
    assert extension["failOpen"] is True
    assert extension["processingMode"]["request"]["body"] == "BufferedPartial"
    assert extension["processingMode"]["response"] == {"attributes": ["upstream.request_attempt_count"]}
    assert extension["metadata"]["writableNamespaces"] == ["dualpool"]
    assert client["connection"]["bufferLimit"] >= 4 * 1024 * 1024
    assert client["http2"]["initialStreamWindowSize"] >= client["connection"]["bufferLimit"]


def test_fallback() -> None:
    """A refused request finds the largest pool as the next priority, one attempt for each."""
    directory = "gateway-api/envoy-gateway"
    rule = of_kind(directory, "HTTPRoute")["llm"]["spec"]["rules"][0]
    backends = [of_kind(directory, "Backend")[reference["name"]]["spec"] for reference in rule["backendRefs"]]
    largest = of_kind(directory, "Backend")["long"]["spec"]
    retry = of_kind(directory, "BackendTrafficPolicy")["llm-short"]["spec"]["retry"]
    assert [backend.get("fallback", False) for backend in backends] == [False, True]
    assert backends[1]["endpoints"] == largest["endpoints"]
    assert (retry["numRetries"], retry["numAttemptsPerPriority"]) == (1, 1)


def test_inference_pools() -> None:
    """Each pool is an InferencePool of v1: a selector, ports, and an endpoint picker that may be away."""
    pools = of_kind("gateway-api/inference-pool", "InferencePool")
    assert set(pools) == {"short", "long"}
    for pool in pools.values():
        assert set(pool["spec"]) == {"selector", "targetPorts", "endpointPickerRef"}
        assert pool["apiVersion"] == "inference.networking.k8s.io/v1"
        assert pool["spec"]["endpointPickerRef"]["failureMode"] == "FailOpen"


def test_istio_references() -> None:
    """Virtual service, gateway, destinations, route patches and clusters name each other."""
    service = of_kind("istio", "VirtualService")["llm"]["spec"]
    patches = of_kind("istio", "EnvoyFilter")["dualpool"]["spec"]["configPatches"]
    added = {p["patch"]["value"]["name"]: p["patch"]["value"] for p in patches if p["applyTo"] == "CLUSTER"}
    hosts = {route["destination"]["host"] for rule in service["http"] for route in rule["route"]}
    assert set(service["gateways"]) <= set(of_kind("istio", "Gateway"))
    assert {rule["spec"]["host"] for rule in of_kind("istio", "DestinationRule").values()} == hosts
    routes = {
        patch["match"]["routeConfiguration"]["vhost"]["route"]["name"]: patch["patch"]["value"]
        for patch in patches
        if patch["applyTo"] == "HTTP_ROUTE"
    }
    assert set(routes) == {rule["name"] for rule in service["http"]}
    assert routes["dualpool-short"]["route"]["cluster"] in added
    filters = {p["patch"]["value"]["name"] for p in patches if p["applyTo"] == "HTTP_FILTER"}
    assert all(set(route["typed_per_filter_config"]) == filters for route in routes.values())
    members = values(added["short-then-long"], "clusters")[0]
    assert {member.rpartition("||")[2] for member in members} == hosts
    assert "dualpool" in added


def test_istio_header() -> None:
    """The header removed early is the one matched, and the one the service sets."""
    header = settings("istio").routing.header
    rule = of_kind("istio", "VirtualService")["llm"]["spec"]["http"][0]
    assert list(rule["match"][0]["headers"]) == [header]
    removed = [m["remove"] for m in walk(of_kind("istio", "EnvoyFilter")) if isinstance(m.get("remove"), str)]
    assert removed == [header]
