"""A stop waits for nothing that cannot be lost."""

import sys
from pathlib import Path

from tests.envoy.pools import POOLS
from tests.envoy.stack import until
from tests.process.talk import serving

HANGING = """
import socket, sys, threading
from extproc.cli import main

def hang(*_, **__):
    print("asked", flush=True)
    threading.Event().wait()

socket.getaddrinfo = hang
sys.exit(main(sys.argv[1:]))
"""
"""The program, with name servers that never answer."""


def test_a_name_server_that_hangs_does_not_hold_up_the_end(tmp_path: Path) -> None:
    """Whoever waits for it is no longer needed."""
    pools = [{**pool, "endpoints": ["localhost:1"]} for pool in POOLS["default"]]
    settings = {"pools": {"default": pools}, "spillover": {"enabled": True}}
    with serving(tmp_path, settings, python=(sys.executable, "-c", HANGING)) as service:
        until(lambda: "asked" in service.process.output())
        assert service.process.stop() == 0
