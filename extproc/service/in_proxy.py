"""The filter that decides inside the proxy: its figures, its Lua program, and the file that holds both.

Envoy loads the file by extension configuration discovery, as a `DiscoveryResponse`.
`extproc.service.in_proxy_file` keeps it up to date.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from extproc.body.bounds import LARGEST_BODY
from extproc.body.fields import BATCH_APIS, CAPS, CUT_SIDES, LARGEST_CAP, LONGEST_KEY, UNCAPPED_APIS
from extproc.body.lifted import NOTED_FIELDS, REQUEST_FIELDS
from extproc.body.paths import SUFFIXES
from extproc.budget.budget import MODEL_BYTES
from extproc.budget.features import NAMES
from extproc.budget.learner import TURN, Learner
from extproc.config import Config
from extproc.routing.router import oversize

RESOURCE = "dualpool.in-proxy"
"""Name by which Envoy asks for the filter."""

_PROGRAM = [Path(__file__).with_name(name) for name in ("lift.lua", "in_proxy.lua")]
_COMMENT = "-- "
_ALL = ("", "")
"""Model and category of the figures learned from all requests, which serve for models not yet known."""

Figures = dict[str, Any]


def figures(config: Config, learner: Learner) -> Figures:
    """Return everything that the filter decides by, configured and learned, as plain values."""
    values: Figures = {}
    for _ in collect(values, config, learner):
        pass
    return values


def collect(values: Figures, config: Config, learner: Learner) -> Iterator[None]:
    """Put into `values` what `figures` returns. Yields after every `TURN` rows: thousands take half a second."""
    categories = config.categories
    by_header = "header" in categories.sources
    named = ["all", *(categories.allowed if by_header else ())]
    by_model = "model" in categories.sources
    values |= _configured(config, by_model)
    yield from _learned(values, learner, named, by_model)


def _configured(config: Config, by_model: bool) -> Figures:
    categories = config.categories
    return {
        "header": config.routing.header,
        "category_header": categories.header if "header" in categories.sources else None,
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
        "cut_sides": list(CUT_SIDES),
        "batch": dict.fromkeys(sorted(BATCH_APIS), True),
        "caps": {api: list(names) for api, names in CAPS.items()},
        "uncapped": dict.fromkeys(sorted(UNCAPPED_APIS), True),
        "sets": {
            name: [{"name": p.name, "capacity": p.capacity} for p in pools] for name, pools in config.pools.items()
        },
        "models": dict(config.models),
    }


def _learned(values: Figures, learner: Learner, categories: list[str], by_model: bool) -> Iterator[None]:
    """Add rows by category and model, by model, and for all others; each only where it differs from the next.

    So there are no more rows than the learner has figures, however many models and categories there are.
    """
    others = _row(learner, *_ALL)
    models: Figures = {}
    rows: Figures = {name: {} for name in categories}
    values |= {"figures": rows, "of_models": models, "others": others}
    keys = [key for key in learner.raw_keys() if (by_model or not key[0]) and (not key[1] or key[1] in rows)]
    for number, (model, category) in enumerate(sorted(keys)):  # a model comes before its categories
        if number % TURN == 0:
            yield
        row = _row(learner, model, category)
        if row != (models.get(model, others) if category else others):
            (rows[category] if category else models)[model] = row


def _row(learner: Learner, model: str, category: str) -> Figures:
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
    """Return the filter as Lua: the figures as JSON in a comment, for `read`; as a table; then the code."""
    heads = (f"{_COMMENT}{json.dumps(values)}", f"local F = {_lua(values)}\n")
    return "\n".join([*heads, *(part.read_text("utf-8") for part in _PROGRAM)])


def read(content: bytes) -> Figures | None:
    """Return the figures in a file, None when it is not exactly what this version writes for them."""
    try:
        text = json.loads(content)["resources"][0]["typed_config"]["default_source_code"]["inline_string"]
        values: Figures = json.loads(text.partition("\n")[0].removeprefix(_COMMENT))
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
    """Write a plain value as Lua, in ASCII; floats with all their digits."""
    if value is None:
        return "nil"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return f'"{"".join(map(_lua_character, value.encode()))}"'
    if isinstance(value, list):
        return "{" + ", ".join(map(_lua, value)) + "}"
    return "{" + ", ".join(f"[{_lua(k)}] = {_lua(v)}" for k, v in value.items()) + "}"


def _lua_character(byte: int) -> str:
    return chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\{byte:03d}"
