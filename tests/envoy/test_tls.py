"""A real Envoy that talks to the service by mTLS, while its certificate is rotated."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from extproc.demo.envoy import Tree
from extproc.demo.service import Service
from tests.envoy.changes import at, cluster
from tests.envoy.client import chat
from tests.envoy.conftest import Start
from tests.envoy.load import Load
from tests.envoy.pools import POOLS
from tests.envoy.stack import until
from tests.unit.service.test_tls import answered, install, self_signed

LITTLE = chat("How are you?", max_tokens=10)


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    """Self-signed certificates `old`, `new` and `client`; `trusted.crt` holds the first two."""
    for name in ("old", "new", "client"):
        self_signed(tmp_path, name)
    (tmp_path / "trusted.crt").write_text("".join((tmp_path / f"{n}.crt").read_text() for n in ("old", "new")))
    return tmp_path


@pytest.fixture
def settings(pki: Path) -> dict[str, Any]:
    """Of a service that serves the clients of one authority alone."""
    install(pki, "old", pki)
    tls = {"certificate": pki / "tls.crt", "key": pki / "tls.key", "client_ca": pki / "client.crt"}
    return {"pools": POOLS, "server": {"tls": {name: str(file) for name, file in tls.items()}}}


def by_tls(port: int, pki: Path, own: str | None) -> Callable[[Tree], Tree]:
    """Return a change to Envoy's configuration: TLS to the service at `port`, with the certificate `own` if any."""
    context: dict[str, Any] = {
        "alpn_protocols": ["h2"],
        "validation_context": {"trusted_ca": {"filename": str(pki / "trusted.crt")}},
    }
    if own is not None:
        pair = {"certificate_chain": f"{own}.crt", "private_key": f"{own}.key"}
        context["tls_certificates"] = [{key: {"filename": str(pki / file)} for key, file in pair.items()}]
    kind = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"

    def change(tree: Tree) -> Tree:
        tree = at(dualpool=port)(tree)
        typed = {"@type": kind, "common_tls_context": context}
        socket = {"name": "envoy.transport_sockets.tls", "typed_config": typed}
        cluster(tree, "dualpool")["transport_socket"] = socket
        return tree

    return change


def test_a_certificate_is_rotated_under_load(start_stack: Start, pki: Path, settings: dict[str, Any]) -> None:
    """No request fails and none goes long for it, on connections old and new."""
    with Service(settings, pki / "service") as service:
        first = start_stack(service=False, change=by_tls(service.port, pki, "client"))
        until(lambda: first.reached(first.send(LITTLE)) == ["short"])
        first.pools["long"].pool.received.clear()
        with Load(first.url) as load:
            until(load.more(20))
            install(pki, "new", pki)
            until(lambda: asyncio.run(answered(service.port, pki / "new.crt", pki / "client.crt")))
            until(load.more(20))
        assert load.failed() == []
        assert not first.pools["long"].pool.received
        later = start_stack(service=False, change=by_tls(service.port, pki, "client"))
        until(lambda: later.reached(later.send(LITTLE)) == ["short"])


@pytest.mark.parametrize("own", [None, "new"])
def test_an_envoy_that_is_not_known_is_not_served(
    start_stack: Start, pki: Path, settings: dict[str, Any], own: str | None
) -> None:
    """Without a certificate, or with that of another authority: its requests go long, and none fails."""
    with Service(settings, pki / "service") as service:
        stack = start_stack(service=False, change=by_tls(service.port, pki, own))
        for _ in range(5):
            assert stack.lands(LITTLE) == "long"
        assert "dualpool_requests_total{" not in service.get("/metrics")
