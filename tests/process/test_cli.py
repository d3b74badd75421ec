"""The command as a user runs it: real processes, exit codes, signals."""

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue

import grpc
import pytest

from extproc.pb import dualpool_extproc_pb2 as pb
from tests.envoy.stack import until
from tests.process.talk import METHOD, serving
from tests.unit.service.test_exchange import headers, pool

HEADERS = pb.ProcessingRequest(
    request_headers=headers({":method": "POST", ":path": "/v1/completions"})
).SerializeToString()
BODY = pb.ProcessingRequest(
    request_body=pb.HttpBody(body=b'{"prompt": "hello", "max_tokens": 5}', end_of_stream=True)
).SerializeToString()

ENVIRONMENT = {**os.environ, "DUALPOOL_SERVER__LISTEN": "127.0.0.1:0", "DUALPOOL_SERVER__ADMIN": "127.0.0.1:0"}


def dualpool(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "extproc", *arguments],
        env={**ENVIRONMENT, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("arguments", [("--help",), ("serve", "--help"), ("check", "--help"), ("--version",)])
def test_help_is_given(arguments: tuple[str, ...]) -> None:
    """Every command explains itself and exits with 0."""
    assert dualpool(*arguments).returncode == 0


@pytest.mark.parametrize("command", [("serve", "--config"), ("check",)])
def test_a_bad_configuration_exits_with_2_and_every_problem(tmp_path: Path, command: tuple[str, ...]) -> None:
    """`check` and `serve` load the same way and say the same."""
    file = tmp_path / "bad.yaml"
    file.write_text("routing: {shadow: maybe, colour: red}", "utf-8")
    done = dualpool(*command, str(file))
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"{file}: routing.shadow: 'maybe': must be true or false",
        f"{file}: routing.colour: unknown key",
    ]


def test_check_accepts_a_good_file(tmp_path: Path) -> None:
    """A good file is said to be good."""
    file = tmp_path / "good.yaml"
    file.write_text("routing: {shadow: true}", "utf-8")
    done = dualpool("check", str(file))
    assert (done.returncode, done.stdout) == (0, f"{file}: good\n")


def test_the_log_begins_with_what_is_served(tmp_path: Path) -> None:
    """Configuration, pools and capacities, shadow mode and roll-out: is it what was meant?"""
    file = tmp_path / "other.yaml"
    file.write_text("routing: {shadow: true, rollout_percent: 5}", "utf-8")
    with serving(tmp_path, {}) as service:
        done = dualpool("serve", "--config", str(file), DUALPOOL_SERVER__ADMIN=service.admin)
    assert json.loads(done.stderr.splitlines()[0])["message"] == (
        f"configuration: {file}; pools: default: short 8192, long 131072; shadow mode: on; roll-out: 5 %"
    )


@pytest.mark.parametrize("arguments", [("--number", "2"), ("--shared", "."), ("--number", "2", "--shared", ".")])
def test_only_a_supervisor_starts_a_worker(arguments: tuple[str, ...]) -> None:
    """Typed by hand, its options say what to give in their place."""
    done = dualpool("serve", *arguments, PROMETHEUS_MULTIPROC_DIR=".")
    assert (done.returncode, done.stderr) == (
        2,
        "--number, --shared: how a service starts its own workers: give it --workers N\n",
    )


def test_worker_is_short_for_workers() -> None:
    """What is mistyped is what is meant."""
    done = dualpool("serve", "--worker", "none")
    assert done.returncode == 2
    assert done.stderr.startswith("--workers: server.workers: 'none': ")


def test_admin_pages(tmp_path: Path) -> None:
    """Probes, metrics and state answer; other paths say what there is."""
    with serving(tmp_path, {}) as service:
        assert service.get("/healthz") == (200, "ok\n")
        assert service.get("/readyz") == (200, "ok\n")
        assert "dualpool_build_info{version=" in service.get("/metrics")[1]
        assert [p["name"] for p in service.state()["pools"]["default"]] == ["short", "long"]
        status, text = service.get("/else")
        assert status == 404
        assert "/metrics" in text


def test_a_taken_admin_port_exits_with_1(tmp_path: Path) -> None:
    """The message names the key and the address."""
    with serving(tmp_path, {}) as service:
        done = dualpool("serve", DUALPOOL_SERVER__ADMIN=service.admin)
    assert done.returncode == 1
    assert f"server.admin: '{service.admin}': cannot be listened on" in done.stderr


def test_grpc_says_nothing_of_its_own(tmp_path: Path) -> None:
    """Its lines are no JSON; what matters of them is said by us."""
    with serving(tmp_path, {}) as service:
        done = dualpool("serve", DUALPOOL_SERVER__LISTEN=service.address)
    assert done.returncode == 1
    assert [line[:2] for line in done.stderr.splitlines()[:-1]] == ['{"']
    assert done.stderr.splitlines()[-1].startswith(f"server.listen: '{service.address}': ")


LAME_DUCK = {"server": {"lame_duck_seconds": 60}}


def test_sigterm_fails_readiness_while_exchanges_are_answered(tmp_path: Path) -> None:
    """For a lame duck's time the process works as ever; who looks at readiness sends nothing new."""
    with serving(tmp_path, LAME_DUCK) as service, grpc.insecure_channel(service.address) as channel:
        call = channel.stream_stream(METHOD)
        assert pool_of(call(iter([HEADERS]))) == "long"
        service.process.send_signal(signal.SIGTERM)
        until(lambda: service.get("/readyz")[0] == 503)
        assert service.get("/healthz")[0] == 200
        assert pool_of(call(iter([HEADERS]))) == "long"


def test_sigterm_lets_open_exchanges_end_and_exits_with_0(tmp_path: Path) -> None:
    """What was begun is answered, though nobody can connect any more."""
    with serving(tmp_path, {"server": {"drain_seconds": 60}}) as service:
        with grpc.insecure_channel(service.address) as channel:
            messages: SimpleQueue[bytes | None] = SimpleQueue()
            answers = channel.stream_stream(METHOD)(iter(messages.get, None))
            messages.put(HEADERS)
            assert pool_of(answers) == "long"
            service.process.send_signal(signal.SIGTERM)
            until(lambda: not listens(service.address))
            messages.put(BODY)
            assert pool_of(answers) == "short"
            messages.put(None)
            assert list(answers) == []
        assert service.process.popen.wait(timeout=60) == 0


def test_sigterm_does_not_wait_for_an_exchange_that_never_ends(tmp_path: Path) -> None:
    """After `drain_seconds` it is cut, and the exit code is 0 all the same."""
    server = {"drain_seconds": 0.1, "body_seconds": 3600}
    with serving(tmp_path, {"server": server}) as service, grpc.insecure_channel(service.address) as channel:
        messages: SimpleQueue[bytes | None] = SimpleQueue()
        answers = channel.stream_stream(METHOD)(iter(messages.get, None))
        messages.put(HEADERS)
        assert pool_of(answers) == "long"
        assert service.process.stop(signal.SIGTERM) == 0
        messages.put(None)


def pool_of(answers: Iterator[bytes]) -> str:
    """The pool that the next of `answers` names."""
    return pool(pb.ProcessingResponse.FromString(next(answers)))


def listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    """Whoever signals twice does not want to wait."""
    with serving(tmp_path, LAME_DUCK) as service:
        service.process.send_signal(signal.SIGTERM)
        until(lambda: service.get("/readyz")[0] == 503)
        service.process.send_signal(signal.SIGINT)
        assert service.process.popen.wait(timeout=60) == 128 + signal.SIGINT


def test_sigterm_during_the_start_ends_it(tmp_path: Path) -> None:
    """By a handler: process 1 of a container has no other way to hear it. Here the start waits for its file."""
    file = tmp_path / "dualpool.yaml"
    os.mkfifo(file)
    command = [sys.executable, "-m", "extproc", "serve", "--config", str(file)]
    with subprocess.Popen(command) as process:
        with file.open("wb"):  # which opens once it is open for reading too
            process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0


PRINTED = [
    ("check", "good.yaml"),
    ("reference",),
    ("--help",),
    ("calibrate", "log.jsonl", "--output", "state.json"),
]
"""Commands that print little, much, by argparse, and by rich."""


def good_files(directory: Path) -> None:
    """Write what the commands of `PRINTED` read."""
    (directory / "good.yaml").write_text("{}")
    line = {"path": "/v1/completions", "body": {"prompt": "How are you?"}, "prompt_tokens": 4}
    (directory / "log.jsonl").write_text(json.dumps(line))


def printed_to(output: int, directory: Path, arguments: tuple[str, ...]) -> tuple[int, str]:
    """Exit code and standard error of a command that prints to `output`."""
    good_files(directory)
    command = [sys.executable, "-m", "extproc", *arguments]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        command, stdout=output, stderr=subprocess.PIPE, text=True, check=False, env=environment, cwd=directory
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("arguments", PRINTED)
def test_a_reader_that_has_gone_is_no_traceback(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """Whether all of the output fits a buffer or not."""
    read, write = os.pipe()
    os.close(read)
    ended = printed_to(write, tmp_path, arguments)
    os.close(write)
    assert ended == (141, "")


@pytest.mark.parametrize("arguments", PRINTED)
def test_a_full_disk_is_one_line(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """An output that cannot be written is no answer, neither yes nor no."""
    with Path("/dev/full").open("w") as full:
        ended = printed_to(full.fileno(), tmp_path, arguments)
    assert ended == (2, "standard output: cannot be written: No space left on device\n")


@pytest.mark.parametrize("arguments", PRINTED)
def test_a_closed_output_is_no_traceback(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """Whoever closes it wants to read nothing."""
    command = shlex.join([sys.executable, "-m", "extproc", *arguments])
    good_files(tmp_path)
    done = subprocess.run(f"{command} >&-", shell=True, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "end"),
    [
        (("check", "none.yaml"), 2, ""),
        (("check", "none\udcff.yaml"), 2, ""),  # a name that is no text
        (("calibrate", "log.jsonl", "--output", "state.json"), 0, "set state.file to it\n"),
    ],
)
def test_a_closed_standard_error_changes_no_answer(
    tmp_path: Path, arguments: tuple[str, ...], code: int, end: str
) -> None:
    """Neither the exit code nor standard output, to which no error goes in its place."""
    command = shlex.join([sys.executable, "-m", "extproc", *arguments])
    good_files(tmp_path)
    done = subprocess.run(
        f"{command} 2>&-", shell=True, stdout=subprocess.PIPE, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == code
    assert done.stdout.endswith(end) if end else not done.stdout


def test_a_closed_standard_input_is_empty(tmp_path: Path) -> None:
    """A body that is read from it is none."""
    command = shlex.join([sys.executable, "-m", "extproc", "explain", "-"])
    done = subprocess.run(f"{command} <&-", shell=True, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("body      cannot be read")


@pytest.mark.parametrize("encoding", ["ascii", "utf-8:strict"])
def test_letters_that_the_output_has_not_are_escaped(tmp_path: Path, encoding: str) -> None:
    """Those of a name, which need not be those of the locale, nor any letters at all."""
    name = os.fsdecode("ü".encode() + b"\xff.yaml")
    (tmp_path / name).write_text("{}")
    done = dualpool("check", str(tmp_path / name), PYTHONIOENCODING=encoding, PYTHONUTF8="1")
    escaped = name.encode(encoding.partition(":")[0], "backslashreplace").decode()
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{tmp_path}/{escaped}: good\n", "")
