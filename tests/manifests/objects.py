"""The shipped manifests, read."""

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
ENVOY = ROOT / "envoy"
SETS = ("gateway-api/envoy-gateway", "gateway-api/inference-pool", "istio")
"""Directories whose files are applied together."""

CORE = ("v1", "apps/v1", "autoscaling/v2", "policy/v1", "networking.k8s.io/v1")

Object = dict[str, Any]


def objects(directory: str) -> list[Object]:
    """Return all objects of a set."""
    files = sorted((ENVOY / directory).glob("*.yaml"))
    return [found for file in files for found in yaml.safe_load_all(file.read_text())]


def documented() -> list[Object]:
    """Return the whole objects that the documentation shows."""
    pages = [page.read_text("utf-8") for page in sorted((ROOT / "docs").glob("*.md"))]
    blocks = [
        block for page in pages for block in re.findall(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    ]
    return [found for block in blocks for found in yaml.safe_load_all(block) if "apiVersion" in found]


def of_kind(directory: str, kind: str) -> dict[str, Object]:
    """Return the objects of a set that are of `kind`, by name."""
    return {found["metadata"]["name"]: found for found in objects(directory) if found["kind"] == kind}
