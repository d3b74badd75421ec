"""The types of configuration values, each with a few words on what a wrong one must be; the base of sections."""

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

NAME = r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
"""What a pool, a pool set or a category may be called: as the value of a Kubernetes label."""

_HOST_PORT = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+):([0-9]{1,5})")
_SOCKET = re.compile(r"unix:(//)?/[^/%][^%]*")  # gRPC takes %41 for A
_HEADER = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+")
_FRAMING = frozenset({"host", "connection", "content-length", "content-type", "te", "transfer-encoding", "upgrade"})
_OTHERS = frozenset({"authorization", "cookie", "x-request-id"})
"""Headers that frame a message, or that others need: overwriting one would break it."""


def _host_port(address: str) -> str:
    found = _HOST_PORT.fullmatch(address)
    if found is None:
        raise PydanticCustomError("address", "must be HOST:PORT, no scheme; an IPv6 address stands in brackets")
    if int(found[2]) > 65_535:
        raise PydanticCustomError("port", "Port should be less than or equal to 65535")
    return address


def _listen(address: str) -> str:
    if not address.startswith("unix:"):
        return _host_port(address)
    if not _SOCKET.fullmatch(address):
        raise PydanticCustomError("socket", "a socket must be unix:///PATH, without %")
    return address


def socket_path(listen: str) -> str:
    """Return the path of the socket that `listen`, a `Listen` that begins with unix:, names."""
    return listen.removeprefix("unix:").replace("//", "", 1)


def host_and_port(address: str) -> tuple[str, int]:
    """Return host, without brackets, and port of a `HostPort`."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _header(name: str) -> str:
    if not _HEADER.fullmatch(name):
        raise PydanticCustomError("header_name", "must be the name of a header, in lower case")
    return name


def _not_framing(name: str) -> str:
    if name in _FRAMING | _OTHERS:
        raise PydanticCustomError("header", "must be a header of its own: messages depend on this one")
    if name.startswith("x-envoy-"):
        raise PydanticCustomError("header", "must not be one of Envoy's (x-envoy-...): it lets nobody set those")
    return name


def _file(path: Path) -> Path:
    if not path.name or "\0" in str(path):
        raise PydanticCustomError("file", "must be the path of a file")
    return path


def _filter_file(path: Path) -> Path:
    if path.suffix.lower() not in (".yaml", ".yml", ".json"):
        raise PydanticCustomError(
            "filter_file", "must end in .yaml, .yml or .json: by that Envoy knows how to read it"
        )
    return path


Name = Annotated[str, Field(pattern=f"^{NAME}$")]
HostPort = Annotated[str, AfterValidator(_host_port)]
Listen = Annotated[str, AfterValidator(_listen)]
HeaderName = Annotated[str, AfterValidator(_header)]
OwnHeaderName = Annotated[HeaderName, AfterValidator(_not_framing)]
File = Annotated[Path, AfterValidator(_file)]
FilterFile = Annotated[File, AfterValidator(_filter_file)]

_NUMBERS = (int, float, int | None, float | None)


class Settings(BaseModel):
    """Base of every section: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _number(cls, value: Any, info: ValidationInfo) -> Any:
        """`output.default: off` means none, and would be 0; `rollout_percent: on` would be one percent."""
        if isinstance(value, bool) and cls.model_fields[info.field_name or ""].annotation in _NUMBERS:
            raise PydanticCustomError("number", "must be a number")
        return value
