"""docs/attach.md: its commands are run, in their order, against a live stack."""

import os
import re
import subprocess
import sys
from pathlib import Path

import yaml

from tests.envoy.attached import attached
from tests.envoy.stack import Stack

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
    with attached(tmp_path / "stack", sets, {"routing": {"shadow": True}}) as stack:
        work = tmp_path / "work"
        work.mkdir()
        (work / "dualpool.yaml").write_text(yaml.safe_dump(stack.config.model_dump(mode="json")))
        pools = stack.config.model_dump(mode="json", exclude_defaults=True)["pools"]
        for pool, host in zip(pools["default"], ("10.0.0.1", "10.0.1.1"), strict=True):
            pool["endpoints"] = [f"{host}:8000"]
        (work / "example.yaml").write_text(yaml.safe_dump({"pools": pools}))
        script = "".join(commands for mark, commands in BLOCK.findall(DOCUMENT) if mark == "sh")
        script = script.replace("dualpool.yaml > kubernetes.yaml", "example.yaml > kubernetes.yaml")
        script = script.replace("http://127.0.0.1:8080", stack.envoy.url).replace(
            "127.0.0.1:9902", stack.service.admin
        )
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
    for name in wanted.replace("-e", "").split():
        assert name in answer
