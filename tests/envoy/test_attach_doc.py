"""docs/attach.md: its commands are run, in their order, against a live stack."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import yaml

from extproc.demo.envoy import Tree, connection_manager
from extproc.render.target import render
from tests.envoy.client import chat
from tests.envoy.modes import LOGGED, MODES, Mode, configured, name, options
from tests.envoy.pools import SETS, section
from tests.envoy.stack import Stack, rendered_stack

DOCUMENT = (Path(__file__).parents[2] / "docs" / "attach.md").read_text()
BLOCK = re.compile(r"^```(sh[^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MARKS = {"sh", "sh needs a cluster", "sh needs docker"}


def test_every_block_is_run_or_marked() -> None:
    """A block of commands is either run here or says what it needs; commands of a cluster are never run."""
    blocks = BLOCK.findall(DOCUMENT)
    assert {mark for mark, _ in blocks} == MARKS
    for mark, commands in blocks:
        assert ("kubectl" in commands) == (mark == "sh needs a cluster")
        assert ("docker" in commands) == (mark == "sh needs docker")


def test_commands(tmp_path: Path) -> None:
    """Every command that needs neither a cluster nor Docker does what it should."""
    sets = {"default": {"short": 8192, "long": 131_072}}
    with rendered_stack(tmp_path / "stack", sets, {"routing": {"shadow": True}}) as stack:
        work = tmp_path / "work"
        work.mkdir()
        (work / "dualpool.yaml").write_text(yaml.safe_dump(stack.settings))
        pools = section(sets)
        for pool, host in zip(pools["default"], ("10.0.0.1", "10.0.1.1"), strict=True):
            pool["endpoints"] = [f"{host}:8000"]
        (work / "example.yaml").write_text(yaml.safe_dump({"pools": pools}))
        script = "".join(commands for mark, commands in BLOCK.findall(DOCUMENT) if mark == "sh")
        script = script.replace("dualpool.yaml > kubernetes.yaml", "example.yaml > kubernetes.yaml")
        script = script.replace("http://127.0.0.1:8080", stack.url).replace("127.0.0.1:9902", stack.service.admin)
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-eux", "-c", script],
            cwd=work,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    for made in ("complete/envoy.yaml", "paste/envoy-filter.yaml", "gateway/routes.yaml", "istio/filter.yaml"):
        assert (work / made).is_file()


def test_how_to_see_which_filters_a_proxy_has(shared_stack: Stack) -> None:
    """The page that Istio's proxy is asked for is one of Envoy's, and names the filters looked for."""
    page, wanted = re.findall(r"request GET '([^']+)' \| grep -c ((?:-e \w+ ?)+)", DOCUMENT)[0]
    answer = shared_stack.envoy.get(f"/{page}")
    assert answer is not None
    assert all(extension in answer for extension in wanted.replace("-e", "").split())


@pytest.fixture(scope="module")
def tenants(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The rendered configuration with the routes that the document shows in place of its own."""
    (block,) = re.findall(r"^```yaml\n(route_config:.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)

    def change(tree: Tree) -> Tree:
        connection_manager(tree).update(yaml.safe_load(block))
        return tree

    sets = {
        "default": {"short": 32_768, "long": 131_072},
        "coder": {"coder-short": 8192, "coder-long": 131_072},
    }
    with rendered_stack(tmp_path_factory.mktemp("tenants"), sets, change=change) as stack:
        yield stack


@pytest.mark.parametrize(
    ("tenant", "words", "pool"),
    [
        ("nobody", 5000, "short"),
        ("acme", 5000, "long"),
        ("acme", 10, "short"),
        ("beta", 10, "coder-short"),
        ("beta", 10_000, "coder-long"),
    ],
)
def test_two_tenants(tenants: Stack, tenant: str, words: int, pool: str) -> None:
    """Each is routed by what its own route says."""
    body = chat("hello " * words, max_tokens=20)
    assert tenants.lands(body, headers={"x-tenant": tenant}) == pool


def test_what_is_not_understood_stays_with_its_tenant(tenants: Stack) -> None:
    """It goes to the largest pool of the tenant's set."""
    assert tenants.reached(tenants.send(b"no JSON", headers={"x-tenant": "beta"})) == ["coder-long"]


@pytest.mark.parametrize("mode", MODES, ids=name)
def test_out_again_names_all_that_was_rendered(mode: Mode) -> None:
    """Every part that is pasted, each filter and route too, is in the list of what to take away."""
    section = DOCUMENT.partition("## Envoy\n")[2].partition("**Out again:**")[2].partition("## ")[0]
    named = set(re.findall(r"`([\w.-]+)[:`]", section))
    config = configured(SETS, {"in_proxy": {"file": "/shared/in-proxy.yaml"}})
    chosen = msgspec.structs.replace(options(mode), json_log="log" if mode in LOGGED else "")
    parts = yaml.safe_load(render("envoy-filter", config, chosen)["envoy-filter.yaml"])
    filters = {part["name"] for part in parts["http_filters"]} - {"envoy.filters.http.ext_proc"}
    (host,) = parts["virtual_hosts"]
    clusters = {cluster["name"] for cluster in parts["clusters"]}
    routes = {route["name"] for route in host["routes"]}
    fields = set(host) - {"name", "domains", "routes"}
    pools = {"short", "long"}
    assert set(parts) | filters | fields | (routes | clusters) - pools <= named
