"""How one process of the service runs: the sections of the settings that are read at its start only."""

import os
import re
from typing import Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from extproc.config_types import File, FilterFile, HostPort, Listen, Settings, host_and_port

ALL_ADDRESSES = ("0.0.0.0", "::")
LONGEST_SOCKET = 107
"""Bytes after `unix:` that gRPC takes."""


class Tls(Settings):
    """TLS for the gRPC port. The files are read again when they change."""

    certificate: File = Field(description="PEM file with the server's certificate chain")
    key: File = Field(description="PEM file with its private key")
    client_ca: File | None = Field(
        None,
        description="PEM file of certificate authorities. If set, only clients with a certificate of theirs are "
        "served (mTLS)",
    )


class Server(Settings):
    """Where the service listens."""

    listen: Listen = Field("127.0.0.1:50051", description="gRPC address: HOST:PORT or unix:///path/to.sock")
    admin: HostPort = Field("127.0.0.1:9902", description="HOST:PORT of /healthz, /readyz, /metrics and /state")
    workers: int = Field(
        1,
        ge=1,
        le=64,
        description="Number of worker processes. Above 1, each listens on its own address (the next ports, or "
        "name-0.sock, name-1.sock ...): list all of them as endpoints of Envoy's cluster",
    )
    tls: Tls | None = Field(
        None, description="TLS for the gRPC port: certificate, key and, for mTLS, client_ca. Without it: plain text"
    )
    max_exchanges: int = Field(
        4096,
        ge=1,
        le=1_000_000,
        description="Most calls open at once, those of health checks and of the access log included. Further ones "
        "are refused, and Envoy sends their requests to the largest pool",
    )
    body_seconds: float = Field(
        30.0,
        gt=0,
        le=3600,
        description="How long to wait for the body of a request before sending it to the largest pool",
    )
    lame_duck_seconds: float = Field(
        1.0,
        ge=0,
        le=300,
        description="After SIGTERM, how long new exchanges are still accepted while health checks already fail",
    )
    drain_seconds: float = Field(
        5.0, ge=0, le=300, description="After that, how long open exchanges may take to finish"
    )
    probe_limit_seconds: float = Field(
        0.1, gt=0, le=10, description="Health checks fail if a probe decision takes longer than this"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Lowest level that is logged"
    )

    @model_validator(mode="after")
    def _addresses(self) -> Self:
        if self.listen.startswith("unix:"):
            self._check_socket()
        else:
            self._check_ports()
        return self

    def _check_socket(self) -> None:
        number = f"-{self.workers - 1}" if self.workers > 1 else ""
        longest = LONGEST_SOCKET - len(number)
        if len(os.fsencode(self.listen.removeprefix("unix:"))) > longest:
            raise ValueError(f"server.listen: {self.listen!r}: may have {longest} bytes after unix:")

    def _check_ports(self) -> None:
        """Workers take the ports from that of `listen` on; `admin` must be none of those."""
        (host, first), (admin_host, admin_port) = host_and_port(self.listen), self.admin_address
        last = first + self.workers - 1
        if self.workers > 1 and not 0 < first <= last < 65_536:
            raise ValueError(
                f"server.listen: {self.listen!r}: {self.workers} workers need a socket, or that many ports"
            )
        same = host == admin_host or host in ALL_ADDRESSES or admin_host in ALL_ADDRESSES
        if first and same and first <= admin_port <= last:
            ports = (
                f"port {first}"
                if self.workers == 1
                else f"ports {first} to {last} (server.workers: {self.workers})"
            )
            raise ValueError(f"server.admin: {self.admin!r}: server.listen takes {ports}; take another")

    @property
    def admin_address(self) -> tuple[str, int]:
        """Host and port of `admin`."""
        return host_and_port(self.admin)


REDIS_URL = re.compile(
    r"rediss?://([A-Za-z0-9._~%-]+@)?(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]{1,253})(:(?P<port>[0-9]{1,5}))?(/[0-9]{1,6})?"
)


class Redis(Settings):
    """A server that speaks the Redis protocol, through which replicas share what they learn."""

    url: str = Field(
        description="redis://[USER@]HOST[:PORT][/DATABASE], or rediss:// for TLS. Without the password"
    )
    password: SecretStr | None = Field(
        None, description="Best set as DUALPOOL_STATE__REDIS__PASSWORD, which is taken literally, not as YAML"
    )
    name: str = Field(
        "dualpool",
        min_length=1,
        max_length=512,
        description="Key in Redis. Replicas with the same key share what they learn",
    )
    ca: File | None = Field(
        None, description="PEM file of certificate authorities for TLS. Without it: those of the system"
    )
    certificate: File | None = Field(
        None, description="PEM file with the client certificate, if the server wants one"
    )
    certificate_key: File | None = Field(None, description="PEM file with its private key")

    @field_validator("url")
    @classmethod
    def _without_password(cls, url: str) -> str:
        found = REDIS_URL.fullmatch(url)
        if found is None:
            raise ValueError(
                "state.redis.url: must be redis://[USER@]HOST[:PORT][/DATABASE] or rediss://..., without "
                "options and without a password (that is DUALPOOL_STATE__REDIS__PASSWORD)"
            )
        if not 0 < int(found["port"] or 6379) <= 65_535:
            raise ValueError("state.redis.url: its port must be 1 to 65535")
        return url

    @model_validator(mode="after")
    def _tls(self) -> Self:
        if (self.ca or self.certificate) and not self.url.startswith("rediss:"):
            raise ValueError(f"state.redis: {self.url}: ca and certificate are for rediss://")
        if (self.certificate is None) is not (self.certificate_key is None):
            raise ValueError("state.redis: certificate and certificate_key go together")
        return self


class State(Settings):
    """Where learned figures are kept and shared."""

    file: File | None = Field(
        None, description="File that keeps what is learned across restarts. Its directory must be writable"
    )
    redis: Redis | None = Field(
        None,
        description="Redis, or a server that speaks its protocol, through which replicas share what they learn. "
        "Without it each learns alone. Needs the extra `redis`",
    )
    interval_seconds: float = Field(
        1.0,
        ge=0.1,
        le=300,
        description="Time between two exchanges with file and Redis (workers: with Redis every 0.5 s). A kill "
        "loses at most this much",
    )
    half_life_hours: float = Field(
        168.0,
        gt=0,
        le=87_600,
        description="Age at which stored figures count for half as many observations when they are read at a start",
    )

    @property
    def half_life_seconds(self) -> float:
        """`half_life_hours` in seconds."""
        return self.half_life_hours * 3600


class InProxy(Settings):
    """The filter that decides inside the proxy, written for Envoy to load."""

    file: FilterFile | None = Field(
        None,
        description="File (.yaml, .yml, .json) to write, on a volume shared with Envoy, which watches it "
        "(config_discovery). Without it no filter is written",
    )
    interval_seconds: float = Field(3.0, ge=0.1, le=3600, description="Shortest time between two writes")
    step: float = Field(
        0.02, ge=0, le=1, description="Write only when a figure has moved by more than this share of itself"
    )
