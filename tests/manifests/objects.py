"""The shipped manifests, read."""

from pathlib import Path
from typing import Any

import yaml

ENVOY = Path(__file__).parents[2] / "envoy"
SETS = ("gateway-api/envoy-gateway", "gateway-api/inference-pool", "istio")
"""Directories whose files are applied together."""

CORE = ("v1", "apps/v1", "autoscaling/v2", "policy/v1", "networking.k8s.io/v1")

Object = dict[str, Any]


def objects(directory: str) -> list[Object]:
    """Return all objects of a set."""
    files = sorted((ENVOY / directory).glob("*.yaml"))
    return [found for file in files for found in yaml.safe_load_all(file.read_text())]


def of_kind(directory: str, kind: str) -> dict[str, Object]:
    """Return the objects of a set that are of `kind`, by name."""
    return {found["metadata"]["name"]: found for found in objects(directory) if found["kind"] == kind}
