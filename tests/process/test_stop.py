"""A stop waits for nothing that cannot be lost."""

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc

from extproc.pb import dualpool_accesslog_pb2 as log_pb
from tests.envoy.pools import POOLS
from tests.envoy.stack import until
from tests.process.talk import LOG_METHOD, serving

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


def test_the_access_log_does_not_hold_up_the_end(tmp_path: Path) -> None:
    """Envoy keeps the stream open for the next entry. It is ended in order: that goes to another replica."""
    ended = threading.Event()

    def entries() -> Iterator[bytes]:
        message = log_pb.StreamAccessLogsMessage()
        message.http_logs.log_entry.add()
        yield message.SerializeToString()
        ended.wait()

    settings = {"pools": POOLS, "server": {"drain_seconds": 300}}
    with serving(tmp_path, settings) as service, grpc.insecure_channel(service.address) as channel:
        stream = channel.stream_unary(LOG_METHOD).future(entries())
        until(lambda: "dualpool_access_log_entries_total{" in service.get("/metrics")[1])
        try:
            assert service.process.stop() == 0
            assert stream.result() == b""
        finally:
            ended.set()
