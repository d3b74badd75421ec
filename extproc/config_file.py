"""Reads the configuration from a YAML file and `DUALPOOL_*` environment variables; without either, the defaults."""

import os
import re
import reprlib
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from extproc.config import Config
from extproc.config_service import Redis
from extproc.config_yaml import parse

ENVIRONMENT_PREFIX = "DUALPOOL_"
_SERVICE_LINK = re.compile(r"DUALPOOL_(?!\w*__)(\w+_)?(SERVICE_(HOST|PORT)|PORT)(_\w+)?")
"""Variables that Kubernetes sets in every pod for Services named dualpool, dualpool-redis and the like."""

SECRET = ("state", "redis")
"""Values at, above or below this key are never shown: they may be, or hold, a password."""

_IPV6 = re.compile(r"\[[0-9A-Fa-f:.]+\]:")
"""How an IPv6 address begins, which YAML would take for a list."""

_WORDS = {
    "missing": "is missing",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "dict_type": "must be keys and values",
    "model_type": "must be keys and values",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "string_type": "must be text, in quotes where it looks like something else",
    "path_type": "must be the path of a file",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
}
"""Replaces messages of pydantic that speak of Python types."""

_SHORT = reprlib.Repr()  # a value may be of any size: a few aliases of YAML make millions of entries
_SHORT.maxstring = _SHORT.maxother = 200
_SHORT.maxlevel = 2


class ConfigError(Exception):
    """A configuration that cannot be used. `problems`: one line each, naming file, key, value and rule."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def load(path: Path | None, environment: Mapping[str, str] = os.environ) -> Config:
    """Read `path` (None: defaults), apply `DUALPOOL_*` variables of `environment`, validate the whole.

    A variable names a key with `__` between levels, its value is YAML: `DUALPOOL_ROUTING__SHADOW=true`. A
    password, and an address that begins with a bracket as in IPv6, are taken literally, not as YAML.

    Raises `ConfigError` with every problem found.
    """
    problems: list[str] = []
    tree = _read(path, problems)
    sources = _override(tree, environment, problems)
    # A section whose keys are all commented out is null: it means the defaults.
    tree = {key: value for key, value in tree.items() if value is not None or key not in Config.model_fields}
    try:
        config = Config.model_validate(tree, context={})
    except ValidationError as error:
        problems.extend(_explain(error, path, sources))
        raise ConfigError(problems) from None
    if problems:
        raise ConfigError(problems)
    return config


def require_extras(config: Config) -> None:
    """Raise `ConfigError` when `config` needs a package that is not installed."""
    if config.state.redis is not None and find_spec("redis") is None:
        raise ConfigError(
            ["state.redis: needs the package redis, of the extra redis: in a clone, pip install '.[redis]'"]
        )


def _read(path: Path | None, problems: list[str]) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        tree = parse(path.read_bytes())
    except OSError as error:
        problems.append(f"{path}: cannot be read: {error.strerror}")
    except ValueError as error:
        problems.append(f"{path}: {error}")
    else:
        if tree is None:
            return {}
        if isinstance(tree, dict):
            return tree
        problems.append(f"{path}: holds a {type(tree).__name__}: must be a mapping of sections")
    return {}


def _override(tree: dict[str, Any], environment: Mapping[str, str], problems: list[str]) -> dict[str, str]:
    """Write the environment's values into `tree`; return the variable behind each dotted key."""
    sources = {}
    for variable, text in sorted(environment.items()):
        if not variable.startswith(ENVIRONMENT_PREFIX) or _SERVICE_LINK.fullmatch(variable):
            continue
        keys = variable.removeprefix(ENVIRONMENT_PREFIX).lower().split("__")
        try:
            value = text if keys[-1] == "password" or _IPV6.match(text) else parse(text)
            _branch(tree, keys[:-1])[keys[-1]] = value
        except ValueError as error:
            problems.append(f"{variable}: {error}")
            continue
        sources[".".join(keys)] = variable
    return sources


def _branch(tree: dict[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """Return the mapping at `keys`, made where there is none. Raises `ValueError` where something else is."""
    for depth, key in enumerate(keys, 1):
        child = tree.get(key)
        if child is None:
            child = tree[key] = {}
        if not isinstance(child, dict):
            name = ".".join(keys[:depth])
            raise ValueError(f"{name} is set to something else than keys and values, here or before")
        tree = child
    return tree


def _shown(keys: Sequence[str | int], value: object) -> str:
    return "" if tuple(keys[:2]) == SECRET[: len(keys)] else f"{_SHORT.repr(value)}: "


def _explain(error: ValidationError, path: Path | None, sources: Mapping[str, str]) -> list[str]:
    lines: list[str] = []
    for problem in error.errors(include_url=False):
        key = ".".join(str(part) for part in problem["loc"] if part != "[key]")
        set_at = key.rpartition(".")[0] if problem["type"] == "missing" else key
        where = _where(set_at, path, sources)
        if problem["type"] == "value_error":
            lines.extend(f"{where}: {line}" for line in str(problem["ctx"]["error"]).splitlines())
        elif problem["type"] == "extra_forbidden":
            lines.append(f"{where}: {_unknown(problem['loc'])}")
        else:
            shown = "" if problem["type"] == "missing" else _shown(problem["loc"], problem["input"])
            lines.append(f"{where}: {key}: {shown}{_WORDS.get(problem['type'], problem['msg'])}")
    return lines


def _unknown(keys: Sequence[str | int]) -> str:
    """Name a key that is not known, but not where a password may have become one (`{password:sesame}`)."""
    if tuple(keys[:2]) == SECRET:
        return f"{'.'.join(SECRET)}: holds an unknown key; it takes {', '.join(Redis.model_fields)}"
    model: Any = Config
    for key in keys[:-1]:
        model = getattr(model.model_fields.get(key), "annotation", None) if hasattr(model, "model_fields") else None
    near = get_close_matches(str(keys[-1]), getattr(model, "model_fields", ()), 1)
    return f"{'.'.join(map(str, keys))}: unknown key" + (f"; did you mean {near[0]}?" if near else "")


def _where(key: str, path: Path | None, sources: Mapping[str, str]) -> str:
    """Return where the value at `key` comes from: a variable, or for a whole section all that set some of it."""
    for name, variable in sources.items():
        if key == name or key.startswith(f"{name}."):
            return variable
    below = [variable for name, variable in sources.items() if not key or name.startswith(f"{key}.")]
    return ", ".join([str(path), *below] if path else below) or "defaults"
