"""TLS and mTLS of the gRPC port."""

import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from shutil import copy

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from extproc.config_service import Server, Tls
from extproc.service.errors import StartError
from extproc.service.health import Health
from extproc.service.server import build
from extproc.service.tls import credentials
from tests.unit.service.test_exchange import Harness


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Self-signed certificates a and b for 127.0.0.1: a.crt, a.key, ..."""
    directory = tmp_path_factory.mktemp("pki")
    for name in "ab":
        self_signed(directory, name)
    return directory


def self_signed(directory: Path, name: str) -> None:
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=here"
    command += f" -addext subjectAltName=IP:127.0.0.1 -keyout {name}.key -out {name}.crt"
    subprocess.run(command.split(), cwd=directory, check=True, capture_output=True)


def install(pki: Path, name: str, into: Path) -> Tls:
    for suffix in ("crt", "key"):
        copy(pki / f"{name}.{suffix}", into / f"tls.{suffix}")
    return Tls(certificate=into / "tls.crt", key=into / "tls.key")


@asynccontextmanager
async def serving(tls: Tls) -> AsyncIterator[int]:
    harness = Harness()
    server, port, _ = build(
        "127.0.0.1:0", Server(tls=tls), lambda: harness.context, Health(harness.context.router, 10)
    )
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)


async def answered(port: int, authority: Path, client: Path | None = None) -> bool:
    """Whether a client that trusts `authority`, with the certificate `client` of its own, gets an answer."""
    own = {}
    if client is not None:
        own = {"private_key": client.with_suffix(".key").read_bytes(), "certificate_chain": client.read_bytes()}
    trust = grpc.ssl_channel_credentials(authority.read_bytes(), **own)
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", trust) as channel:
        try:
            await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=30)
        except grpc.aio.AioRpcError:
            return False
    return True


async def test_a_changed_certificate_is_used_for_the_next_connection(pki: Path, tmp_path: Path) -> None:
    """No restart, no reload: the files are read again when they have changed, and a broken one changes nothing."""
    async with serving(install(pki, "a", tmp_path)) as port:
        assert await answered(port, pki / "a.crt")
        (tmp_path / "tls.crt").write_text("half a certificate")
        assert await answered(port, pki / "a.crt")
        install(pki, "b", tmp_path)
        assert await answered(port, pki / "b.crt")
        assert not await answered(port, pki / "a.crt")


async def test_only_clients_of_the_authority_are_served(pki: Path, tmp_path: Path) -> None:
    """With `client_ca`, a client without a certificate, or with another's, is turned away."""
    tls = install(pki, "a", tmp_path).model_copy(update={"client_ca": pki / "b.crt"})
    async with serving(tls) as port:
        assert await answered(port, pki / "a.crt", pki / "b.crt")
        assert not await answered(port, pki / "a.crt", pki / "a.crt")
        assert not await answered(port, pki / "a.crt")


@pytest.mark.parametrize(("content", "reason"), [(None, "cannot be read: No such file"), ("x", "is not PEM")])
async def test_unusable_files_are_named(pki: Path, tmp_path: Path, content: str | None, reason: str) -> None:
    """The message names the key and the file."""
    tls = install(pki, "a", tmp_path)
    tls.key.unlink()
    if content is not None:
        tls.key.write_text(content)
    harness = Harness()
    with pytest.raises(StartError, match=rf"server\.tls\.key: {tls.key}: {reason}"):
        build("127.0.0.1:0", Server(tls=tls), lambda: harness.context, Health(harness.context.router, 10))


@pytest.mark.parametrize("name", ["certificate", "key", "client_ca"])
async def test_garbage_that_looks_like_pem_is_named(pki: Path, tmp_path: Path, name: str) -> None:
    """And is not taken for an address that cannot be listened on."""
    tls = install(pki, "a", tmp_path).model_copy(update={"client_ca": tmp_path / "ca.crt"})
    copy(pki / "b.crt", tmp_path / "ca.crt")
    kind = "PRIVATE KEY" if name == "key" else "CERTIFICATE"
    path: Path = getattr(tls, name)
    path.write_text(f"-----BEGIN {kind}-----\nZ2FyYmFnZQ==\n-----END {kind}-----\n")
    with pytest.raises(StartError, match=rf"^server\.tls\.{name}: {path}: "):
        credentials(tls)


async def test_a_key_of_another_certificate_is_named(pki: Path, tmp_path: Path) -> None:
    """So is one that only a password opens, which is not asked for."""
    tls = install(pki, "a", tmp_path)
    copy(pki / "b.key", tls.key)
    with pytest.raises(StartError, match=rf"^server\.tls\.key: {tls.key}: is not the key of {tls.certificate}"):
        credentials(tls)
    command = [
        "openssl",
        "ec",
        "-aes256",
        "-passout",
        "pass:sesame",
        "-in",
        str(pki / "a.key"),
        "-out",
        str(tls.key),
    ]
    subprocess.run(command, check=True, capture_output=True)
    with pytest.raises(StartError, match=rf"^server\.tls\.key: {tls.key}: .*encrypted"):
        credentials(tls)
