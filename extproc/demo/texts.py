"""Text that nobody here wrote, from what is installed anyway: the standard library and pycountry."""

import argparse
import ast
import base64
import calendar
import dataclasses
import functools
import gettext
import importlib.metadata
import inspect
import json
import random
import re
import shutil
import statistics
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path
from pydoc_data import topics
from types import ModuleType
from typing import Any

import pycountry

_MODULES: tuple[ModuleType, ...] = (argparse, ast, calendar, dataclasses, gettext, shutil, statistics, textwrap)
_TOOL_MODULES: tuple[ModuleType, ...] = (base64, calendar, shutil, statistics, textwrap)
_DOMAINS = {
    "iso3166-1": pycountry.countries,
    "iso3166-2": pycountry.subdivisions,
    "iso639-3": pycountry.languages,
    "iso4217": pycountry.currencies,
}
_COUNTRIES = "iso3166-1.json"


@functools.cache
def documentation() -> str:
    """Python's language reference, as pydoc carries it."""
    return "\n\n".join(topics.topics[name] for name in sorted(topics.topics))


@functools.cache
def source() -> str:
    """Source code of the standard library."""
    return "\n\n".join(inspect.getsource(module) for module in _MODULES)


@functools.cache
def names(language: str) -> str:
    """Names of countries, regions, languages and currencies in `language` (a locale of pycountry)."""
    found = []
    for domain, database in _DOMAINS.items():
        translate = gettext.translation(domain, pycountry.LOCALES_DIR, [language]).gettext
        found += [translate(entry.name) for entry in database if translate(entry.name) != entry.name]
    return "、".join(found)


@functools.cache
def hashes() -> str:
    """The record of an installed package: paths, hashes and sizes."""
    return importlib.metadata.distribution("numpy").read_text("RECORD") or ""


@functools.cache
def records() -> str:
    """A database of countries, as JSON."""
    return (Path(pycountry.DATABASE_DIR) / _COUNTRIES).read_text("utf-8")


@functools.cache
def tools() -> list[dict[str, Any]]:
    """Functions of the standard library, described as the tools of a chat request."""
    return [_tool(function) for module in _TOOL_MODULES for function in _functions(module)]


def _functions(module: ModuleType) -> Iterable[Callable[..., Any]]:
    public = (getattr(module, name) for name in getattr(module, "__all__", ()))
    return [member for member in public if inspect.isfunction(member) and member.__doc__]


def _tool(function: Callable[..., Any]) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters.values()
    properties = {p.name: {"type": "string", "description": _shown(p)} for p in parameters}
    required = [p.name for p in parameters if p.default is inspect.Parameter.empty]
    schema = {"type": "object", "properties": properties, "required": required}
    described = {"name": function.__name__, "description": inspect.getdoc(function), "parameters": schema}
    return {"type": "function", "function": described}


def _shown(parameter: inspect.Parameter) -> str:
    """A parameter without the address of a default that is a function, which differs from run to run."""
    return re.sub(" at 0x[0-9a-f]+", "", str(parameter))


def piece(text: str, size: int, random_: random.Random) -> str:
    """Return about `size` characters of `text` from anywhere in it, starting over at its end."""
    start = random_.randrange(len(text))
    doubled = text[start:] + text[:start]
    return (doubled * (size // len(text) + 1))[:size]


def compact(value: Any) -> str:
    """JSON without spaces, characters as they are."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
