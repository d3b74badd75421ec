"""docker-compose.yaml and the Dockerfile, as far as they can be judged without an engine."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
TOOLS = Path(sys.executable).parent


def passes(*command: str) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_schema() -> None:
    """The compose file is what the compose specification says."""
    passes(str(TOOLS / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec", "docker-compose.yaml")


def test_dockerfile() -> None:
    """hadolint finds nothing wrong."""
    passes(str(TOOLS / "hadolint"), "Dockerfile")


def test_what_is_copied_is_let_in() -> None:
    """.dockerignore keeps everything out but what it names."""
    lines = [line.split() for line in (ROOT / "Dockerfile").read_text().splitlines()]
    copied = {source for line in lines if line[:1] == ["COPY"] and "--from" not in line[1] for source in line[1:-1]}
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert copied
    assert copied == {name.removeprefix("!") for name in ignored if name.startswith("!")}


def test_health_is_not_asked_of_a_proxy() -> None:
    """Docker hands the proxies of its own configuration to every container, and health checks would go there."""
    images = (ROOT / "Dockerfile").read_text().split("FROM ")
    final = [image for image in images if "ENTRYPOINT" in image]
    assert [" no_proxy=127.0.0.1\n" in image for image in final] == [True, True]


@pytest.mark.parametrize("name", SERVICES)
def test_hardened(name: str) -> None:
    """Every service has a read-only root, no capability and no way to more."""
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service


@pytest.mark.parametrize("name", SERVICES)
def test_published_on_loopback_only(name: str) -> None:
    """No port is open to the network."""
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", ()))


@pytest.mark.parametrize("volume", [v for service in SERVICES.values() for v in service.get("volumes", ())])
def test_mounts_exist(volume: str) -> None:
    """Every mounted path is in the repository, and mounted read-only."""
    source, _, mode = volume.split(":")
    assert (ROOT / source).exists()
    assert mode == "ro"


@pytest.mark.parametrize(
    "name", [n for n, service in SERVICES.items() if not service["image"].startswith("dualpool")]
)
def test_images_are_pinned(name: str) -> None:
    """An image that is not built here names its version."""
    tag = SERVICES[name]["image"].partition(":")[2]
    assert tag not in ("", "latest")


def test_dashboard_is_provisioned() -> None:
    """Grafana finds data source and dashboard at the paths that are mounted."""
    grafana = SERVICES["grafana"]
    mounted = dict(volume.split(":")[1::-1] for volume in grafana["volumes"])
    (target, source), *_ = mounted.items()
    provisioning = ROOT / source / grafana["environment"]["GF_PATHS_PROVISIONING"].removeprefix(f"{target}/")
    providers = yaml.safe_load((provisioning / "dashboards" / "dualpool.yaml").read_text())["providers"]
    sources = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text())["datasources"]
    dashboard = json.loads((ROOT / source / "dualpool.json").read_text())
    assert [provider["options"]["path"] for provider in providers] == [target]
    (variable,) = dashboard["templating"]["list"]
    assert (variable["type"], variable["query"]) == ("datasource", "prometheus")
    assert [found["type"] for found in sources] == [variable["query"]]
    uses = {(panel["datasource"]["type"], panel["datasource"]["uid"]) for panel in dashboard["panels"]}
    assert uses == {(variable["query"], f"${{{variable['name']}}}")}
