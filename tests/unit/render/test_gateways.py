"""What a gateway cannot do is an error of `dualpool render`, not of the gateway."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from extproc.config import Config
from extproc.config_file import load
from extproc.config_service import InProxy
from extproc.render.layout import Options, RenderError, qualified
from extproc.render.target import render

CONFIG = Config.model_validate(
    {
        "pools": {
            "default": [
                {"name": "short", "capacity": 8192, "endpoints": ["vllm-short:8000"]},
                {"name": "long", "capacity": 131_072, "endpoints": ["vllm-long.models.svc:8000"]},
            ]
        },
    }
)
SHARED = CONFIG.model_copy(update={"in_proxy": InProxy(file=Path("/shared/filter.yaml"))})
ACCESS_LOG: dict[str, Any] = {"usage": "access-log"}


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("envoy-gateway", {"exchange": "bodyless"}),
        ("envoy-gateway", ACCESS_LOG),
        ("istio", {"exchange": "in-proxy", **ACCESS_LOG}),
    ],
)
def test_not_offered(kind: str, options: dict[str, Any]) -> None:
    """Filters that a gateway does not have cannot be asked for."""
    with pytest.raises(RenderError, match="--exchange"):
        render(kind, SHARED, Options(**options))


def test_in_proxy_is_not_for_istio_whatever_else_is_given() -> None:
    """Nobody is told to give this or that first, to hear in the end that it cannot be."""
    with pytest.raises(RenderError, match=r"^--exchange in-proxy: only with Envoy's own configuration"):
        render("istio", CONFIG, Options(exchange="in-proxy"))


@pytest.mark.parametrize(("limit", "memory"), [(256, "512Mi"), (4096, "1472Mi")])
def test_memory_follows_what_is_learned(limit: int, memory: str) -> None:
    """With 4,096 models 512 MiB are used up before the first large body."""
    categories = CONFIG.categories.model_copy(update={"limit": limit})
    files = render("istio", CONFIG.model_copy(update={"categories": categories}), Options())
    objects = yaml.safe_load_all(files["service.yaml"])
    (deployment,) = (each for each in objects if each["kind"] == "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"] == {"memory": memory}


def test_istio_lifts_usage() -> None:
    """With usage from the access log, Istio's filter has the lifting filters, and one access log: Telemetry's."""
    files = render("istio", CONFIG, Options(exchange="bodyless", **ACCESS_LOG))
    text = files["filter.yaml"]
    assert "json_to_metadata.v3.JsonToMetadata" in text
    assert "envoy.access_loggers" not in text
    assert yaml.safe_load(files["telemetry.yaml"])["kind"] == "Telemetry"


def test_several_servers() -> None:
    """In Kubernetes a pool is one Service."""
    pools = {"default": [{"name": "l", "capacity": 100, "endpoints": ["a:1", "b:1"]}]}
    with pytest.raises(RenderError, match="name one endpoint, the Service"):
        render("envoy-gateway", Config.model_validate({"pools": pools}), Options())


@pytest.mark.parametrize("kind", ["envoy-gateway", "istio"])
def test_names(kind: str) -> None:
    """A pool whose name no object of Kubernetes can have is an error that names it."""
    pools = {"default": [{"name": "Long_context", "capacity": 100, "endpoints": ["a:1"]}]}
    with pytest.raises(RenderError, match="'Long_context': in Kubernetes a name is"):
        render(kind, Config.model_validate({"pools": pools}), Options())


def test_one_service_for_both_pools() -> None:
    """To begin with, both pools may be the same servers: they are one destination of Istio."""
    pools = [{"name": name, "capacity": 100 + i, "endpoints": ["vllm:1"]} for i, name in enumerate(("s", "l"))]
    text = render("istio", Config.model_validate({"pools": {"default": pools}}), Options())["gateway.yaml"]
    assert [d["spec"]["host"] for d in yaml.safe_load_all(text) if d["kind"] == "DestinationRule"] == [
        "vllm.default.svc.cluster.local"
    ]


def test_other_namespaces() -> None:
    """NAME.NAMESPACE and NAME.NAMESPACE.svc are completed, a bare NAME is one of the namespace rendered for."""
    text = render("envoy-gateway", CONFIG, Options(namespace="llm"))["routes.yaml"]
    routes = list(yaml.safe_load_all(text))
    hosts = {
        d["metadata"]["name"]: d["spec"]["endpoints"][0]["fqdn"]["hostname"]
        for d in routes
        if d["kind"] == "Backend"
    }
    assert hosts["short"] == "vllm-short.llm.svc.cluster.local"
    assert hosts["long"] == "vllm-long.models.svc.cluster.local"


@pytest.mark.parametrize(
    ("host", "whole"),
    [
        ("vllm", "vllm.llm.svc.cluster.local"),
        ("vllm.models", "vllm.models.svc.cluster.local"),
        ("vllm.models.svc", "vllm.models.svc.cluster.local"),
        ("vllm.models.svc.example.org", "vllm.models.svc.example.org"),
        ("vllm.example.org", "vllm.example.org"),
        ("vllm.lan.", "vllm.lan"),
    ],
)
def test_names_of_services(host: str, whole: str) -> None:
    """A proxy looks for no suffix."""
    assert qualified(host, "llm") == whole


TLS = {"server": {"tls": {"certificate": "/c", "key": "/k"}}}
KUBERNETES = {"pools": {"default": [{"name": "a", "capacity": 9000, "endpoints": ["vllm-a:8000"]}]}}


@pytest.mark.parametrize("kind", ["envoy-gateway", "istio"])
def test_a_password_is_in_no_manifest(kind: str) -> None:
    """The pod has it from a Secret."""
    redis = {"url": "redis://r", "password": "sesame"}
    text = render(kind, Config.model_validate({**KUBERNETES, "state": {"redis": redis}}), Options())["service.yaml"]
    objects = {d["kind"]: d for d in yaml.safe_load_all(text)}
    assert yaml.safe_load(objects["ConfigMap"]["data"]["dualpool.yaml"])["state"] == {"redis": {"url": "redis://r"}}
    (variable,) = objects["Deployment"]["spec"]["template"]["spec"]["containers"][0]["env"]
    assert variable["name"] == "DUALPOOL_STATE__REDIS__PASSWORD"
    assert variable["valueFrom"]["secretKeyRef"]["name"] == "dualpool-redis"
    assert "sesame" not in text
    assert "***" not in text


@pytest.mark.parametrize("kind", ["envoy-gateway", "istio"])
def test_the_server_is_as_configured_but_for_its_addresses(kind: str) -> None:
    """Others have to reach it in its pod."""
    server = {"listen": "127.0.0.1:1", "admin": "127.0.0.1:2", "drain_seconds": 7}
    text = render(kind, Config.model_validate({**KUBERNETES, "server": server}), Options())["service.yaml"]
    (settings,) = [d["data"]["dualpool.yaml"] for d in yaml.safe_load_all(text) if d["kind"] == "ConfigMap"]
    addresses = {"listen": "0.0.0.0:50051", "admin": "0.0.0.0:9902"}
    assert yaml.safe_load(settings)["server"] == {**addresses, "drain_seconds": 7}


@pytest.mark.parametrize(
    ("kind", "sections", "problem"),
    [
        ("istio", {"state": {"file": "/var/lib/state.json"}}, "state.file: /var/lib/state.json: on no volume"),
        (
            "istio",
            {"state": {"file": "/tmp/../var/x.json"}},
            "state.file: /tmp/../var/x.json: on no volume",
        ),
        ("istio", {"in_proxy": {"file": "/var/run/filter.yaml"}}, "in_proxy.file: /var/run/filter.yaml: on no"),
        ("istio", {"state": {"redis": {"url": "rediss://r", "ca": "/ca"}}}, "state.redis.ca: /ca: on no volume"),
        ("envoy", TLS, "server.tls: is set, and the proxy rendered would speak plain text"),
        ("envoy-gateway", TLS, "server.tls: is set, and the manifests mount no certificates"),
        ("istio", TLS, "server.tls: is set, and the manifests mount no certificates"),
        ("envoy-gateway", {"server": {"workers": 2}}, "server.workers: 2: in Kubernetes run more replicas"),
        (
            "istio",
            {"pools": {"default": [{"name": "a", "capacity": 9000, "endpoints": ["10.0.0.1:8000"]}]}},
            "pool 'a': 10.0.0.1: in Kubernetes name the Service",
        ),
    ],
)
def test_what_would_not_work_is_not_rendered(kind: str, sections: dict[str, Any], problem: str) -> None:
    """Each with the reason."""
    with pytest.raises(RenderError) as raised:
        render(kind, Config.model_validate({**KUBERNETES, **sections}), Options())
    assert raised.value.problems[0].startswith(problem)


def test_tls_beside_the_manifests(tmp_path: Path) -> None:
    """What docs/operations.md adds to the Deployment is TLS to the service, the ConfigMap being as rendered."""
    operations = (Path(__file__).parents[3] / "docs" / "operations.md").read_text("utf-8")
    section = operations.partition("### TLS in Kubernetes")[2]
    pod = yaml.safe_load(section.split("```yaml\n")[1].partition("```")[0])["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    text = render("istio", Config.model_validate(KUBERNETES), Options())["service.yaml"]
    file = tmp_path / "dualpool.yaml"
    file.write_text(next(yaml.safe_load_all(text))["data"]["dualpool.yaml"])
    tls = load(file, {variable["name"]: variable["value"] for variable in container["env"]}).server.tls
    assert tls is not None
    assert {tls.certificate.parent, tls.key.parent} == {Path(container["volumeMounts"][0]["mountPath"])}
    assert container["volumeMounts"][0]["name"] == pod["volumes"][0]["name"]


def test_state_may_lie_in_what_a_pod_can_write() -> None:
    """It is gone with the pod, and harms nothing."""
    config = Config.model_validate({**KUBERNETES, "state": {"file": "/tmp/state.json"}})
    assert "/tmp/state.json" in render("istio", config, Options())["service.yaml"]
