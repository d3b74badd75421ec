"""TLS for the gRPC port: the certificate that is on disk now, whenever a client connects."""

import logging
import ssl
from collections.abc import Iterator
from pathlib import Path

import grpc

from extproc.config_service import Tls
from extproc.service.errors import StartError
from extproc.state.atomic import Signature, signature

log = logging.getLogger(__name__)


def credentials(settings: Tls) -> grpc.ServerCredentials:
    """Return credentials that follow the files. With `client_ca`, clients need a certificate signed by it.

    Raises `StartError`.
    """
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
        """Return the new certificate, None while the one in use is current.

        gRPC calls this at every handshake, in a thread of its own. Files that cannot be read, perhaps half way
        through a rotation, change nothing and are read again at the next handshake.
        """
        try:
            found = self._signature()
            if found == self._seen:
                return None
            read = self._read()
        except StartError as error:
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
                raise StartError(f"server.tls.{name}: {path}: cannot be read: {error.strerror}") from error
            if b"-----BEGIN " not in content[name]:
                raise StartError(f"server.tls.{name}: {path}: is not PEM")
        self._check()
        pair = (content["key"], content["certificate"])
        return grpc.ssl_server_certificate_configuration([pair], content.get("client_ca"))

    def _check(self) -> None:
        """Find what gRPC would refuse without giving a reason. Raises `StartError`."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_ciphers("DEFAULT:@SECLEVEL=0")  # whether a key is too weak is for gRPC to decide
        for name, path in self._files():
            try:
                if name == "key":  # with an empty password OpenSSL does not prompt for one
                    context.load_cert_chain(self._settings.certificate, path, password="")
                else:
                    context.load_verify_locations(path)
            except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
                what = "holds no certificate"
                if name == "key":
                    what = f"is not the key of {self._settings.certificate}"
                raise StartError(
                    f"server.tls.{name}: {path}: {what}, or is damaged or encrypted: {error}"
                ) from error
