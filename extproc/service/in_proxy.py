"""The filter that decides inside the proxy: written from the figures in force, to a file that Envoy watches.

Envoy loads it by its extension configuration discovery: a `DiscoveryResponse` in a file, swapped by a rename. When
the service is gone Envoy goes on with the last figures.
"""

import asyncio
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from extproc.body.fields import BATCH_APIS, CAPS, LARGEST_CAP, LONGEST_KEY, UNCAPPED_APIS
from extproc.body.lifted import NOTED_FIELDS, REQUEST_FIELDS
from extproc.body.request import LARGEST_BODY, SUFFIXES
from extproc.budget.budget import MODEL_BYTES
from extproc.budget.features import NAMES
from extproc.budget.learner import Learner
from extproc.config import Config
from extproc.routing.router import oversize
from extproc.state.atomic import Signature, replace, signature

log = logging.getLogger(__name__)

RESOURCE = "dualpool.in-proxy"
"""Name of the filter, which the proxy asks for."""

_PROGRAM = [Path(__file__).with_name(name) for name in ("lift.lua", "in_proxy.lua")]
_READABLE = 0o644  # Envoy runs as another user
_TOLD = "-- "  # a comment in Lua
_ALL = ("", "")
"""Model and category that figures of all requests are kept under: what is assumed of those not yet known."""

Figures = dict[str, Any]
LEARNED = {"figures", "of_models", "others"}
"""Figures that move while requests go on; all others are configured."""


def figures(config: Config, learner: Learner) -> Figures:
    """Return all that the filter decides by, as plain values: configuration and what is learned."""
    categories = config.categories
    by_header = "header" in categories.sources
    names = ["all", *(categories.allowed if by_header else ())]
    by_model = "model" in categories.sources
    return {
        "header": config.routing.header,
        "category_header": categories.header if by_header else None,
        "conversation_header": config.routing.conversation_header,
        "shadow": config.routing.shadow,
        "rollout_steps": config.routing.rollout_percent * 100,
        "oversize": oversize(config.pools.values()),
        "largest_body": LARGEST_BODY,
        "largest_cap": LARGEST_CAP,
        "model_bytes": MODEL_BYTES,
        "longest_text": LONGEST_KEY,
        "by_model": by_model,
        "lifted": dict.fromkeys(REQUEST_FIELDS, True),
        "noted": dict.fromkeys(NOTED_FIELDS, True),
        "no_more_features": ",0" * (len(NAMES) - 1),
        "apis": [list(known) for known in SUFFIXES],
        "batch": dict.fromkeys(sorted(BATCH_APIS), True),
        "caps": {api: list(names) for api, names in CAPS.items()},
        "uncapped": dict.fromkeys(sorted(UNCAPPED_APIS), True),
        "sets": {
            name: [{"name": p.name, "capacity": p.capacity} for p in pools] for name, pools in config.pools.items()
        },
        "models": dict(config.models),
        **_learned(learner, names, by_model),
    }


def _learned(learner: Learner, categories: list[str], by_model: bool) -> Figures:
    """Return rows of a model in a category, of a model, and of others: each only where it differs from the next.

    So there are no more of them than the learner has figures, however many models and categories there are.
    """
    keys = sorted(key for key in learner.raw_keys() if by_model or not key[0])
    others = _of(learner, *_ALL)
    models = {m: row for m, c in keys if not c and (row := _of(learner, m, c)) != others}
    figures: Figures = {name: {} for name in categories}
    for model, category in keys:
        if category in figures and (row := _of(learner, model, category)) != models.get(model, others):
            figures[category][model] = row
    return {"figures": figures, "of_models": models, "others": others}


def _of(learner: Learner, model: str, category: str) -> Figures:
    ratio = learner.estimator.raw(model, category)
    reserve = learner.output.reserve(model, category, None)
    return {
        "mean": ratio.mean,
        "careful": ratio.careful,
        "source": ratio.source,
        "reserve": reserve.tokens,
        "reserve_source": reserve.source,
    }


def program(values: Figures) -> str:
    """Return the filter as Lua: the figures for other services, the same as a table, then what goes by them."""
    heads = (f"{_TOLD}{json.dumps(values)}", f"local F = {_lua(values)}\n")
    return "\n".join([*heads, *(part.read_text("utf-8") for part in _PROGRAM)])


def read(content: bytes) -> Figures | None:
    """Return the figures of a file, None when it is not as this program writes them."""
    try:
        text = json.loads(content)["resources"][0]["typed_config"]["default_source_code"]["inline_string"]
        values: Figures = json.loads(text.partition("\n")[0].removeprefix(_TOLD))
        return values if written(values) == content else None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def resource(values: Figures) -> dict[str, Any]:
    """Return the filter as Envoy's `DiscoveryResponse`."""
    lua = {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
        "default_source_code": {"inline_string": program(values)},
    }
    extension = {
        "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
        "name": RESOURCE,
        "typed_config": lua,
    }
    return {"resources": [extension]}


def written(values: Figures) -> bytes:
    """Return the content of the file."""
    return json.dumps(resource(values)).encode()


def _lua(value: Any) -> str:
    """Write a plain value as Lua, in ASCII; a float is written with all its digits."""
    if value is None:
        return "nil"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return (
            '"'
            + "".join(
                chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\{byte:03d}" for byte in value.encode()
            )
            + '"'
        )
    if isinstance(value, list):
        return "{" + ", ".join(map(_lua, value)) + "}"
    return "{" + ", ".join(f"[{_lua(k)}] = {_lua(v)}" for k, v in value.items()) + "}"


def moved(old: Figures, new: Figures, step: float) -> bool:
    """Whether a number that decides differs by more than the share `step`, or what is configured at all.

    A row is compared with what stood in for it: a model that is new moves nothing by itself.
    """
    return (
        old.keys() != new.keys()
        or any(_differs(old[key], new[key], 0.0) for key in old.keys() - LEARNED)
        or old["figures"].keys() != new["figures"].keys()
        or any(_differs(_row(old, *key), _row(new, *key), step) for key in _keys(old) | _keys(new))
    )


def _keys(values: Figures) -> set[tuple[str, str]]:
    """Category and model of each row, "" for all of them."""
    rows = {("", ""), *(("", model) for model in values["of_models"])}
    return rows | {(category, model) for category, models in values["figures"].items() for model in models}


def _row(values: Figures, category: str, model: str) -> Figures:
    """Return the row that decides, as `figures_of` of the filter does."""
    own = values["figures"].get(category, {}).get(model)
    row: Figures = own or values["of_models"].get(model) or values["others"]
    return row


def _differs(old: Any, new: Any, step: float) -> bool:
    if isinstance(old, dict) and isinstance(new, dict):
        return old.keys() != new.keys() or any(_differs(old[key], new[key], step) for key in old)
    if isinstance(old, int | float) and isinstance(new, int | float):
        return abs(new - old) > step * abs(old)
    return bool(old != new)


class InProxyFile:
    """Keeps `path` up to date with `current()`, the figures in force.

    Written at the start, then only when a figure has moved by more than `step`, or the file is another than the one
    written, at most every `interval` seconds. `changes()`: equal as long as no figure can have moved, so that none
    is looked at. `report(worked)` is told of every write.
    """

    def __init__(
        self,
        path: Path,
        step: float,
        interval: float,
        current: Callable[[], Figures],
        changes: Callable[[], int],
        report: Callable[[bool], None],
    ) -> None:
        self._path = path
        self._step = step
        self._interval = interval
        self._current = current
        self._changes = changes
        self._report = report
        self._written: Figures | None = None
        self._signature: Signature | None = None
        self._compared: int | None = None
        self._failing = False

    async def run(self) -> None:
        """Write whenever it is time, until cancelled."""
        while True:
            await self.update()
            await asyncio.sleep(self._interval)

    def _found(self) -> Figures | None:
        """Return the figures in the file, whoever wrote them."""
        try:
            return read(self._path.read_bytes())
        except OSError:
            return None

    async def update(self) -> bool:
        """Write the figures if they have moved; a file that cannot be written is tried again next time."""
        ours = self._signature is not None and self._signature == signature(self._path)
        changes = self._changes()
        if ours and changes == self._compared:
            return False
        values = self._current()
        if ours and self._written is not None and not moved(self._written, values, self._step):
            self._compared = changes
            return False
        found, seen = (None, None) if ours else (self._found(), signature(self._path))
        if found is not None and not moved(found, values, self._step):  # of another service that knows the same
            self._written, self._signature, self._compared = found, seen, changes
            return False
        try:
            # The link itself, if it is one: Envoy watches the directory that the file is named in.
            await asyncio.to_thread(replace, self._path, written(values), _READABLE, follow=False)
        except OSError as error:
            if not self._failing:  # once, however often it is tried
                log.error("in_proxy.file: %s: cannot be written: %s", self._path, error.strerror)
            self._failing = True
            self._report(False)
            return False
        self._written, self._signature, self._compared = values, signature(self._path), changes
        self._failing = False
        self._report(True)
        return True
