"""The filter that decides inside the proxy: the figures it goes by, and the file that holds both.

Envoy loads it by its extension configuration discovery: a `DiscoveryResponse` in a file.
`extproc.service.in_proxy_file` keeps that up to date.
"""

import json
from pathlib import Path
from typing import Any

from extproc.body.fields import BATCH_APIS, CAPS, CUT_SIDES, LARGEST_CAP, LONGEST_KEY, UNCAPPED_APIS
from extproc.body.lifted import NOTED_FIELDS, REQUEST_FIELDS
from extproc.body.request import LARGEST_BODY, SUFFIXES
from extproc.budget.budget import MODEL_BYTES
from extproc.budget.features import NAMES
from extproc.budget.learner import Learner
from extproc.config import Config
from extproc.routing.router import oversize

RESOURCE = "dualpool.in-proxy"
"""Name of the filter, which the proxy asks for."""

_PROGRAM = [Path(__file__).with_name(name) for name in ("lift.lua", "in_proxy.lua")]
_TOLD = "-- "  # a comment in Lua
_ALL = ("", "")
"""Model and category that figures of all requests are kept under: what is assumed of those not yet known."""

Figures = dict[str, Any]


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
        "cut_sides": list(CUT_SIDES),
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
