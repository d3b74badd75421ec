"""Certificates of a running service, as Kubernetes mounts and rotates them."""

import asyncio
from pathlib import Path

import pytest

from tests.envoy.stack import until
from tests.process.talk import mount, serving
from tests.unit.service.test_tls import answered, self_signed


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    """Self-signed certificates `old`, `new` and `client`."""
    directory = tmp_path / "pki"
    directory.mkdir()
    for name in ("old", "new", "client"):
        self_signed(directory, name)
    return directory


def secret(pki: Path, certificate: str, key: str) -> dict[str, str]:
    files = {"tls.crt": f"{certificate}.crt", "tls.key": f"{key}.key", "ca.crt": "client.crt"}
    return {name: (pki / file).read_text() for name, file in files.items()}


def test_a_rotated_certificate_is_served_without_a_restart(pki: Path, tmp_path: Path) -> None:
    """Nor a reload. A certificate without its key changes nothing yet; a client without its own is not served."""
    mounted = tmp_path / "certs"
    mount(mounted, "..1", secret(pki, "old", "old"))
    tls = {"certificate": "tls.crt", "key": "tls.key", "client_ca": "ca.crt"}
    settings = {"server": {"tls": {name: str(mounted / file) for name, file in tls.items()}}}

    with serving(tmp_path, settings) as service:
        port = int(service.address.rpartition(":")[2])

        def trusts(name: str, client: str | None = "client") -> bool:
            own = pki / f"{client}.crt" if client else None
            return asyncio.run(answered(port, pki / f"{name}.crt", own))

        assert trusts("old")
        assert not trusts("old", client=None)
        assert not trusts("old", client="new")
        mount(mounted, "..2", secret(pki, "new", "old"))
        assert trusts("old")
        assert not trusts("new")
        mount(mounted, "..3", secret(pki, "new", "new"))
        until(lambda: trusts("new"))
        assert not trusts("old")
        assert not trusts("new", client=None)
        assert service.get("/healthz") == (200, "ok\n")
