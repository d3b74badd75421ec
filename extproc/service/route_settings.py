"""Reads the settings of a route from Envoy: gRPC initial metadata, or the metadata of the route itself.

Envoy's configuration can carry them in two ways. `grpc_initial_metadata` of the filter or of a route
(`ExtProcPerRoute.overrides`) arrives as gRPC metadata named `dualpool-…`. Where a gateway offers no such field, the
attributes `xds.listener_metadata`, `xds.virtual_host_metadata` and `xds.route_metadata` carry the metadata of each
as protobuf text: in namespace `dualpool` under the bare names, or as annotations that Envoy Gateway puts under
`envoy-gateway`, named `dualpool-…`. Of several values for one setting, an attribute's wins over gRPC metadata, and
of the attributes the last in this order.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping

import msgspec
from google.protobuf import json_format, text_format
from google.protobuf.struct_pb2 import Struct

from extproc.budget.bounded import Bounded
from extproc.config import Pool
from extproc.config_types import NAME
from extproc.pb import dualpool_extproc_pb2 as pb
from extproc.routing.settings import NO_SETTINGS, RouteSettings

PREFIX = "dualpool-"
ATTRIBUTES = ("xds.listener_metadata", "xds.virtual_host_metadata", "xds.route_metadata")
"""From the widest to the narrowest; the narrowest wins."""

METADATA_CHARACTERS = 65_536
"""Metadata longer than this is not read."""

DISTINCT_ROUTES = 1024
"""Combinations of values kept parsed; the least recently used is dropped."""

CATEGORIES = 256
"""Categories that all routes together may name: each becomes a metric label and a learned figure."""

_ANSWERS, _BODY = "answers", "body"
_NO_ANSWERS, _NO_BODY = (PREFIX + _ANSWERS, "false"), (PREFIX + _BODY, "false")

Pairs = tuple[tuple[str, str], ...]


class Parsed(msgspec.Struct, frozen=True):
    """Settings, and the names of those with a bad value (`unknown` for a name that is not a setting)."""

    settings: RouteSettings
    bad: tuple[str, ...] = ()


_NOTHING = Parsed(NO_SETTINGS)


class RouteSettingsReader:
    """Reads settings under one configuration, whose pool sets and pools they may name."""

    def __init__(self, pools: Mapping[str, tuple[Pool, ...]]) -> None:
        self._sets = frozenset(pools)
        self._capacities: dict[str, int] = {}
        for pool in (pool for members in pools.values() for pool in members):
            self._capacities[pool.name] = max(pool.capacity, self._capacities.get(pool.name, 0))
        self._categories: set[str] = set()
        self._known: Bounded[tuple[Pairs, tuple[str, ...]], Parsed] = Bounded(DISTINCT_ROUTES)
        self._readers: dict[str, Callable[[str], object]] = {
            "pools": self._pool_set,
            "thresholds": self._thresholds,
            "category": self._category,
            "shadow": _boolean,
            "rollout-percent": _percent,
            "default-output": _tokens,
            _ANSWERS: _boolean,
            _BODY: _boolean,
        }

    def read(self, initial: Pairs, attributes: Mapping[str, Struct]) -> Parsed:
        """Return the settings in `initial` (see `own_settings`) and in a message's attributes. Never raises."""
        spaces = [struct.fields for struct in attributes.values()]
        texts = tuple([fields[name].string_value for name in ATTRIBUTES for fields in spaces if name in fields])
        if not initial and not texts:
            return _NOTHING
        return self._known.use((initial, texts), lambda: self._parse(initial, texts))

    def _parse(self, initial: Pairs, texts: tuple[str, ...]) -> Parsed:
        values: dict[str, object] = {}
        bad: list[str] = []
        stated = [(name.removeprefix(PREFIX), text) for name, text in initial]
        for metadata in texts:
            try:
                stated += _from_metadata(metadata)
            except ValueError:
                bad.append("route_metadata")
        for name, text in stated:
            reader = self._readers.get(name)
            if reader is None:
                bad.append("unknown")
                continue
            try:
                values[name.replace("-", "_")] = reader(text.strip())
            except ValueError:
                bad.append(name)
        return Parsed(msgspec.convert(values, RouteSettings), tuple(bad))

    def _pool_set(self, text: str) -> str:
        if text not in self._sets:
            raise ValueError("no such pool set")
        return text

    def _thresholds(self, text: str) -> dict[str, int]:
        """`short=4096` or `short=4096,medium=16384`."""
        thresholds = {}
        for part in text.split(","):
            name, _, tokens = part.partition("=")
            limit = self._capacities.get(name.strip())
            if limit is None or (threshold := _tokens(tokens)) > limit:
                raise ValueError("no such pool, or more than it holds")
            thresholds[name.strip()] = threshold
        return thresholds

    def _category(self, text: str) -> str:
        if not re.fullmatch(NAME, text):
            raise ValueError("not a name")
        if text not in self._categories and len(self._categories) >= CATEGORIES:
            raise ValueError("too many categories")
        self._categories.add(text)
        return text


def own_settings(metadata: Iterable[tuple[str, str | bytes]] | None) -> Pairs:
    """Return our settings in a call's gRPC metadata."""
    return tuple((k, v) for k, v in metadata or () if k.startswith(PREFIX) and isinstance(v, str))


def is_single_message(metadata: Iterable[tuple[str, str | bytes]] | None) -> bool:
    """Whether gRPC metadata promises a single message: neither the request's body nor its answer will follow."""
    given = metadata or ()
    return _NO_BODY in given and _NO_ANSWERS in given


def _from_metadata(text: str) -> list[tuple[str, str]]:
    """Return names and values from metadata in protobuf text. Raises `ValueError` when it cannot be read."""
    if len(text) > METADATA_CHARACTERS:
        raise ValueError("too long")
    message = pb.Metadata()
    try:
        text_format.Parse(text, message, allow_unknown_field=True)
        spaces = json_format.MessageToDict(message).get("filterMetadata", {})
    except (text_format.ParseError, json_format.Error, RecursionError):
        raise ValueError("not protobuf text, or nested too deep") from None
    found = [(name, _plain(value)) for name, value in spaces.get("dualpool", {}).items()]
    resources = spaces.get("envoy-gateway", {}).get("resources")
    for resource in resources if isinstance(resources, list) else ():
        notes = resource.get("annotations") if isinstance(resource, dict) else None
        for name, value in notes.items() if isinstance(notes, dict) else ():
            if name.startswith(PREFIX):
                found.append((name.removeprefix(PREFIX), _plain(value)))
    return found


def _plain(value: object) -> str:
    """Return a metadata value as it would be written in gRPC metadata; thresholds may be a mapping."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return ",".join(f"{k}={_plain(v)}" for k, v in value.items())
    if isinstance(value, float):
        return f"{value:.10g}"  # metadata knows no integers
    return str(value)


def _boolean(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("neither true nor false")
    return text == "true"


def _percent(text: str) -> float:
    percent = float(text)
    if not (math.isfinite(percent) and 0 <= percent <= 100):
        raise ValueError("not a percentage")
    return percent


def _tokens(text: str) -> int:
    if not re.fullmatch(r"\s*[0-9]{1,8}\s*", text, re.ASCII):
        raise ValueError("not a number of tokens")
    return int(text)
