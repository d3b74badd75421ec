"""Every manifest is what its schema says, with no field that the schema does not know."""

import copy
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from tests.manifests.objects import CORE, SETS, Object, documented, objects

HERE = Path(__file__).parent
PACKAGES = (
    "@kubernetes-models/gateway-api@2.0.0",
    "@kubernetes-models/envoy-gateway@2.0.0",
    "@kubernetes-models/istio@3.0.1",
)
KUBERNETES = "1.34"

UNCHECKED = {"InferencePool", "PodMonitor"}
"""Kinds no package has a schema for; of the first test_references.py says what they must hold."""

NEWER = "EnvoyExtensionPolicy dualpool: /spec/extProc/0/backendSettings/http2/connectionKeepalive: no such field"
"""Since Envoy Gateway 1.8, but in no package yet. Its translator follows it: see tests/envoy/egctl.py."""


EVERY = [*(found for directory in SETS for found in objects(directory)), *documented()]


def core() -> list[Object]:
    return [found for found in EVERY if found["apiVersion"] in CORE]


def custom() -> list[Object]:
    return [found for found in EVERY if found["apiVersion"] not in CORE and found["kind"] not in UNCHECKED]


@pytest.mark.parametrize("found", core(), ids=lambda found: f"{found['kind']}-{found['metadata']['name']}")
def test_core_kinds(found: Object) -> None:
    """Kubernetes' own kinds pass a strict validation."""
    kubernetes_validate.validate(found, KUBERNETES, strict=True)


def test_core_kinds_are_read_strictly() -> None:
    """A misspelt field is found, else the test above would prove little."""
    deployment = copy.deepcopy(next(found for found in core() if found["kind"] == "Deployment"))
    deployment["spec"]["template"]["spec"]["containers"][0]["redinessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, KUBERNETES, strict=True)


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The npm packages with the schemas: those of $KUBERNETES_MODELS, or installed for this test."""
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("no node and npm: Gateway API, Envoy Gateway and Istio manifests are not checked")
    given = os.environ.get("KUBERNETES_MODELS")
    if given:
        return Path(given)
    directory = tmp_path_factory.mktemp("npm")
    command = [
        "npm",
        "install",
        "--silent",
        "--no-audit",
        "--no-fund",
        "--no-package-lock",
        "--prefix",
        str(directory),
    ]
    done = subprocess.run([*command, *PACKAGES], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return directory / "node_modules"


def problems(modules: Path, found: list[Object]) -> list[str]:
    done = subprocess.run(
        ["node", str(HERE / "check.mjs"), str(modules)],
        input=json.dumps(found),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [problem for problem in json.loads(done.stdout) if problem != NEWER]


def test_custom_kinds(modules: Path) -> None:
    """Gateway API, Envoy Gateway and Istio objects pass their schemas; wrong values and misspelt fields do not."""
    assert problems(modules, custom()) == []
    broken: list[Any] = copy.deepcopy(custom())
    policy = next(found for found in broken if found["kind"] == "EnvoyExtensionPolicy")
    policy["spec"]["extProc"][0]["messageTimeout"] = "200 ms"
    assert any("messageTimeout" in problem for problem in problems(modules, broken))
    policy["spec"]["extProc"][0]["messageTimeout"] = "200ms"
    policy["spec"]["extProc"][0]["failOpn"] = True
    assert problems(modules, broken) == ["EnvoyExtensionPolicy dualpool: /spec/extProc/0/failOpn: no such field"]
