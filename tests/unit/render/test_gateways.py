"""What a gateway cannot do is an error of `dualpool render`, not of the gateway."""

from typing import Any

import pytest
import yaml

from extproc.config import Config
from extproc.render.layout import Options, RenderError
from extproc.render.target import render

CONFIG = Config.model_validate(
    {
        "pools": {
            "default": [
                {"name": "short", "capacity": 8192, "endpoints": ["vllm-short:8000"]},
                {"name": "long", "capacity": 131_072, "endpoints": ["vllm-long.models.svc:8000"]},
            ]
        },
        "in_proxy": {"file": "/shared/filter.yaml"},
    }
)
ACCESS_LOG: dict[str, Any] = {"usage": "access-log", "envoy": (1, 38)}


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
        render(kind, CONFIG, Options(**options))


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
    """A Service with dots in its name is taken as it is, another is looked for in the namespace rendered for."""
    text = render("envoy-gateway", CONFIG, Options(namespace="llm"))["routes.yaml"]
    routes = list(yaml.safe_load_all(text))
    hosts = {
        d["metadata"]["name"]: d["spec"]["endpoints"][0]["fqdn"]["hostname"]
        for d in routes
        if d["kind"] == "Backend"
    }
    assert hosts["short"] == "vllm-short.llm.svc.cluster.local"
    assert hosts["long"] == "vllm-long.models.svc"
