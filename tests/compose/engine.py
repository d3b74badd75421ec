"""A Docker engine to run compose on: the one that is there, or one that a script sets up."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
BESIDE = ROOT.parent / "shared" / "tools" / "docker-engine.sh"
"""`docker-engine.sh DIR` starts an engine with compose v2 and local stand-ins for the base images."""


@contextmanager
def engine() -> Iterator[dict[str, str] | None]:
    """Yield the environment for `docker compose`; None when there is no engine here."""
    if _works(dict(os.environ)):
        yield dict(os.environ)
        return
    script = Path(os.environ.get("DOCKER_ENGINE_SCRIPT") or BESIDE)
    if not script.is_file() or os.geteuid() != 0:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="docker-engine-", ignore_cleanup_errors=True) as directory:
        subprocess.run(["bash", str(script), directory], check=True, stdout=subprocess.DEVNULL)
        try:
            yield {**os.environ, "DOCKER_CONFIG": f"{directory}/cfg"}
        finally:
            _stop(Path(directory) / "dockerd.pid")


def _works(environment: dict[str, str]) -> bool:
    """Whether an engine and compose v2 answer."""
    try:
        for command in (["docker", "info"], ["docker", "compose", "version"]):
            subprocess.run(command, check=True, capture_output=True, env=environment)
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def _stop(pid: Path) -> None:
    if pid.exists():  # absent when the engine ran already
        subprocess.run(["kill", pid.read_text().strip()], check=False)
