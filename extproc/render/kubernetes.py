"""Dualpool itself as Kubernetes objects: the same beside every gateway."""

import os
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from types import MappingProxyType
from typing import Any

import yaml

from extproc import __version__
from extproc.config import Config
from extproc.render.layout import Options, RenderError
from extproc.render.text import Tree

NAME = "dualpool"
GRPC_PORT = 50051
ADMIN_PORT = 9902
USER = 65532
TMP = PurePath("/tmp")
LABELS = {"app.kubernetes.io/name": NAME}

NETWORKING = "networking.k8s.io/v1"
_SCRAPED = {"prometheus.io/scrape": "true", "prometheus.io/port": str(ADMIN_PORT)}


def service_documents(
    config: Config,
    options: Options,
    proxies: Tree,
    annotations: Mapping[str, str] = MappingProxyType({}),
    *,
    headless: bool = False,
) -> list[Tree]:
    """Return the objects that run the service.

    `proxies`: the NetworkPolicy peer that may ask it. `annotations`: of its pods, beyond those for Prometheus.
    `headless`: for a proxy that finds the replicas by DNS, its control plane not telling it. Raises `RenderError`
    for several workers, which would need a port each, and for files that no volume holds.
    """
    problems = list(_unmounted(config))
    if config.server.workers > 1:
        problems.append(f"server.workers: {config.server.workers}: in Kubernetes run more replicas instead")
    if problems:
        raise RenderError(problems)
    return [
        _config_map(config, options),
        _deployment(config, options, annotations),
        _service(options, headless),
        _autoscaler(options),
        _disruption_budget(options),
        _network_policy(options, proxies),
    ]


def named(api_version: str, kind: str, name: str, options: Options, spec: Tree, comment: str = "") -> Tree:
    """Return an object of the namespace rendered for, with an optional comment above it."""
    metadata = {"name": name, "namespace": options.namespace}
    above: Tree = {f"# {comment}": None} if comment else {}
    return {**above, "apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec}


def _unmounted(config: Config) -> Iterator[str]:
    """Name the files of `config` that would not be there: of a pod, only /tmp can be written."""
    redis = config.state.redis
    files = {"state.file": config.state.file, "in_proxy.file": config.in_proxy.file}
    if redis is not None:
        certificates = {"ca": redis.ca, "certificate": redis.certificate, "certificate_key": redis.certificate_key}
        files |= {f"state.redis.{key}": file for key, file in certificates.items()}
    for key, file in files.items():
        if file is not None and TMP not in PurePath(os.path.normpath(file)).parents:
            yield f"{key}: {file}: on no volume of the pods: leave it out here, add it with one to the Deployment"


def _config_map(config: Config, options: Options) -> Tree:
    settings: dict[str, Any] = config.model_dump(
        mode="json", exclude_defaults=True, exclude={"state": {"redis": {"password"}}}
    )
    everywhere = {"listen": f"0.0.0.0:{GRPC_PORT}", "admin": f"0.0.0.0:{ADMIN_PORT}"}
    settings["server"] = {**settings.get("server", {}), **everywhere}
    return {
        "# The configuration this was rendered from. A change is picked up while the service runs; a bad one is "
        "refused.": None,
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": NAME, "namespace": options.namespace, "labels": LABELS},
        "data": {"dualpool.yaml": yaml.safe_dump(settings, sort_keys=False)},
    }


def _deployment(config: Config, options: Options, annotations: Mapping[str, str]) -> Tree:
    server = config.server
    pod = {
        "# Long enough for lame duck and drain.": None,
        "terminationGracePeriodSeconds": int(server.lame_duck_seconds + server.drain_seconds) + 10,
        "automountServiceAccountToken": False,
        "# Otherwise Kubernetes sets variables DUALPOOL_..., after the Service, which would be read as "
        "settings.": None,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": LABELS},
            }
        ],
        "containers": [_container(config)],
        "volumes": [{"name": "config", "configMap": {"name": NAME}}, {"name": "tmp", "emptyDir": {}}],
    }
    spec = {
        "# No replicas: the autoscaler, below, sets their number, and applying this again does not "
        "change it.": None,
        "selector": {"matchLabels": LABELS},
        "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "template": {"metadata": {"labels": LABELS, "annotations": {**_SCRAPED, **annotations}}, "spec": pod},
    }
    return named("apps/v1", "Deployment", NAME, options, spec)


def _container(config: Config) -> Tree:
    reference = {"name": f"{NAME}-redis", "key": "password", "optional": True}
    password = {"name": "DUALPOOL_STATE__REDIS__PASSWORD", "valueFrom": {"secretKeyRef": reference}}
    return {
        "name": NAME,
        "# Build it with the Dockerfile of this project and push it where your cluster pulls from.": None,
        "image": f"{NAME}:{__version__}",
        "args": ["serve", "--config", "/etc/dualpool/dualpool.yaml"],
        **({"env": [password]} if config.state.redis else {}),
        "ports": [
            {"name": "grpc", "containerPort": GRPC_PORT},
            {"name": "admin", "containerPort": ADMIN_PORT},
        ],
        "startupProbe": {**_probe("/readyz"), "periodSeconds": 1, "failureThreshold": 30},
        "readinessProbe": {**_probe("/readyz"), "periodSeconds": 2, "timeoutSeconds": 2},
        "# A restart does not help a service that is slow for want of CPU, so it takes a minute of failures.": None,
        "livenessProbe": {**_probe("/healthz"), "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 6},
        "resources": _resources(config.categories.limit),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "config", "mountPath": "/etc/dualpool", "readOnly": True},
            {"name": "tmp", "mountPath": str(TMP)},
        ],
    }


def _resources(models: int) -> Tree:
    """Return what a pod needs that has learned so many models, each of which takes some 0.1 MB at the peak."""
    return {
        "requests": {"cpu": "500m", "memory": f"{176 + models // 16}Mi"},
        "limits": {"memory": f"{448 + models // 4}Mi"},
    }


def _probe(path: str) -> Tree:
    return {"httpGet": {"path": path, "port": "admin"}}


def _service(options: Options, headless: bool) -> Tree:
    no_address = {
        "# Headless: a proxy that resolves the name sees every replica and balances over them itself.": None,
        "clusterIP": "None",
    }
    spec = {
        **(no_address if headless else {}),
        "selector": LABELS,
        "ports": [
            {"name": "grpc", "port": GRPC_PORT, "targetPort": "grpc", "appProtocol": "kubernetes.io/h2c"},
            {"name": "admin", "port": ADMIN_PORT, "targetPort": "admin", "appProtocol": "http"},
        ],
    }
    return named("v1", "Service", NAME, options, spec)


def _autoscaler(options: Options) -> Tree:
    target = {"type": "Utilization", "averageUtilization": 70}
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": NAME},
        "minReplicas": 2,
        "maxReplicas": 8,
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
    }
    return named("autoscaling/v2", "HorizontalPodAutoscaler", NAME, options, spec)


def _disruption_budget(options: Options) -> Tree:
    spec = {"minAvailable": 1, "selector": {"matchLabels": LABELS}}
    return named("policy/v1", "PodDisruptionBudget", NAME, options, spec)


def _network_policy(options: Options, proxies: Tree) -> Tree:
    spec = {
        "podSelector": {"matchLabels": LABELS},
        "policyTypes": ["Ingress"],
        "ingress": [
            {"from": [proxies], "ports": [{"port": "grpc"}]},
            {
                "# Metrics, for monitoring in any namespace.": None,
                "from": [{"namespaceSelector": {}}],
                "ports": [{"port": "admin"}],
            },
        ],
    }
    return named(NETWORKING, "NetworkPolicy", NAME, options, spec)
