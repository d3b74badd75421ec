"""TLS for the gRPC port: the certificate that is on disk now, whenever a client connects."""

import logging
from collections.abc import Iterator
from pathlib import Path

import grpc

from extproc.config import Tls
from extproc.state.atomic import Signature, signature

log = logging.getLogger(__name__)


class TlsError(Exception):
    """Certificates that cannot be used; the message names key, file and reason."""


def credentials(settings: Tls) -> grpc.ServerCredentials:
    """Return credentials that follow the files; with `client_ca`, only clients it has signed. Raises `TlsError`."""
    certificates = _Certificates(settings)
    return grpc.dynamic_ssl_server_credentials(
        certificates.first, certificates.changed, require_client_authentication=settings.client_ca is not None
    )


class _Certificates:
    def __init__(self, settings: Tls) -> None:
        self._settings = settings
        self._seen = self._signature()
        self.first = self._read()

    def changed(self) -> grpc.ServerCertificateConfiguration | None:
        """Return what to use from now on, None for what is in use; gRPC asks at every handshake, in its own thread.

        Files that cannot be read, half way through a rotation perhaps, change nothing and are tried again.
        """
        try:
            found = self._signature()
            if found == self._seen:
                return None
            read = self._read()
        except TlsError as error:
            log.warning("%s; the certificate in use stays", error)
            return None
        self._seen = found
        log.info("server.tls: certificate read again")
        return read

    def _files(self) -> Iterator[tuple[str, Path]]:
        yield "certificate", self._settings.certificate
        yield "key", self._settings.key
        if self._settings.client_ca is not None:
            yield "client_ca", self._settings.client_ca

    def _signature(self) -> tuple[Signature | None, ...]:
        return tuple(signature(path) for _, path in self._files())

    def _read(self) -> grpc.ServerCertificateConfiguration:
        content = {}
        for name, path in self._files():
            try:
                content[name] = path.read_bytes()
            except OSError as error:
                raise TlsError(f"server.tls.{name}: {path}: cannot be read: {error.strerror}") from error
            if b"-----BEGIN " not in content[name]:
                raise TlsError(f"server.tls.{name}: {path}: is not PEM")
        pair = (content["key"], content["certificate"])
        return grpc.ssl_server_certificate_configuration([pair], content.get("client_ca"))
