"""The service as processes of its own, and an Envoy of a few lines to talk to it."""

import json
import os
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import yaml

from extproc.demo.process import Process
from extproc.pb import dualpool_extproc_pb2 as pb
from tests.envoy.stack import until
from tests.unit.service.test_exchange import CHAT, answer_headers, headers, pool

METHOD = "/envoy.service.ext_proc.v3.ExternalProcessor/Process"
LOG_METHOD = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs"
SERVER = {"listen": "127.0.0.1:0", "admin": "127.0.0.1:0", "lame_duck_seconds": 0, "drain_seconds": 1}
QUICK = {"interval_seconds": 0.1}


class Serving:
    """A running service: `process`, its gRPC `address` (of a single process) and its `admin` address."""

    def __init__(self, process: Process, address: str, admin: str) -> None:
        self.process = process
        self.address = address
        self.admin = admin

    def get(self, path: str) -> tuple[int, str]:
        """Return status and text of an admin page."""
        try:
            with urllib.request.urlopen(f"http://{self.admin}{path}", timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def state(self) -> dict[str, Any]:
        """Return /state."""
        state: dict[str, Any] = json.loads(self.get("/state")[1])
        return state

    def samples(self) -> int:
        """Observations behind the weights of the model that has most, by /state."""
        return max((entry["samples"] for entry in self.state()["learned"]["linear"]), default=0)

    @property
    def children(self) -> list[int]:
        """Process ids of its workers."""
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def metric(self, sample: str) -> float:
        """Value of a sample by the text before it on /metrics, 0 when it is not there."""
        found = re.search(rf"^{re.escape(sample)} (\S+)$", self.get("/metrics")[1], re.MULTILINE)
        return float(found[1]) if found else 0.0


def mount(directory: Path, version: str, files: dict[str, str]) -> None:
    """Put `files` into `directory` by a swapped symlink, as the kubelet mounts a ConfigMap or a Secret.

    What a reader opens is `name` → `..data/name`, and `..data` → `version`, which is replaced in one step.
    """
    (directory / version).mkdir(parents=True)
    for name, content in files.items():
        (directory / version / name).write_text(content, "utf-8")
    (directory / "..data_tmp").symlink_to(version)
    (directory / "..data_tmp").replace(directory / "..data")
    for name in files:
        if not (directory / name).is_symlink():
            (directory / name).symlink_to(f"..data/{name}")


def configuration(settings: dict[str, Any]) -> str:
    """Return `settings` as a file, on ports that the kernel picks."""
    return yaml.safe_dump({**settings, "server": {**SERVER, **settings.get("server", {})}})


@contextmanager
def serving(
    directory: Path, settings: dict[str, Any], *arguments: str, python: tuple[str, ...] = ()
) -> Iterator[Serving]:
    """Run `dualpool serve` under `settings`, written to dualpool.yaml in `directory` unless that is a link.

    `python`: what runs in the place of `python -m extproc`.
    """
    file = directory / "dualpool.yaml"
    if not file.is_symlink():
        file.write_text(configuration(settings), "utf-8")
    command = [*(python or (sys.executable, "-m", "extproc")), "serve", "--config", str(file), *arguments]
    with Process(command, directory / "service.log", dict(os.environ)) as process:
        found = process.wait_for_output(r"(?:\(port (\d+)\)|workers on \S+), admin on ([0-9.]+:\d+)")
        yield Serving(process, f"127.0.0.1:{found[1]}", found[2])


@contextmanager
def two_workers(
    directory: Path, settings: dict[str, Any], python: tuple[str, ...] = ()
) -> Iterator[tuple[Serving, list[str]]]:
    """Run a service of two workers, wait until both are up, and yield it with their addresses."""
    settings = {**settings, "server": {"listen": f"unix://{directory}/dualpool.sock"}}
    with serving(directory, settings, "--workers", "2", python=python) as service:
        until(lambda: service.metric("dualpool_workers_up") == 2)
        yield service, [f"unix://{directory}/dualpool-{number}.sock" for number in range(2)]


def exchange(address: str, size: int = 4000, tokens: int = 1004) -> str:
    """Send a prompt of `size` bytes, answered by a usage of `tokens`; return the pool it was sent to."""
    return pool(decide(address, size, tokens))


def decide(address: str, size: int = 4000, tokens: int | None = 1004) -> pb.ProcessingResponse:
    """Do the same; return the answer that says where the request goes, and what goes along with it.

    `tokens` None: no answer comes.
    """
    body = json.dumps({"messages": [{"role": "user", "content": "x" * size}], "max_tokens": 5}).encode()
    usage = json.dumps({"usage": {"prompt_tokens": tokens, "completion_tokens": 5}}).encode()
    messages = [
        pb.ProcessingRequest(request_headers=headers(CHAT)),
        pb.ProcessingRequest(request_body=pb.HttpBody(body=body, end_of_stream=True)),
        pb.ProcessingRequest(response_headers=answer_headers()),
        pb.ProcessingRequest(response_body=pb.HttpBody(body=usage, end_of_stream=True)),
    ]
    with grpc.insecure_channel(address) as channel:
        stream = channel.stream_stream(METHOD)
        sent = [message.SerializeToString() for message in messages[: 2 if tokens is None else 4]]
        answers = list(stream(iter(sent), timeout=30, wait_for_ready=True))
    return pb.ProcessingResponse.FromString(answers[1])


def estimated(address: str) -> float:
    """Return the prompt tokens at which a prompt is estimated, of which nothing is learned."""
    ours = decide(address, tokens=None).dynamic_metadata.fields["dualpool"].struct_value
    return ours.fields["estimate"].number_value
