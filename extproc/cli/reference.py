"""`dualpool reference`: every configuration key, from the model that validates it."""

import argparse
import textwrap
from collections.abc import Iterator
from typing import Any, TypeGuard, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from extproc.config import Config
from extproc.config_file import ENVIRONMENT_PREFIX
from extproc.config_types import Settings

WIDTH = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `reference`."""
    parser.add_argument("--yaml", action="store_true", help="a commented configuration file holding the defaults")


def run(args: argparse.Namespace) -> int:
    """Print the reference as Markdown, or as a configuration file."""
    print("\n".join(example() if args.yaml else markdown()))
    return 0


def markdown() -> Iterator[str]:
    """Yield the lines of docs/configuration.md."""
    yield "# Configuration"
    yield ""
    yield "Every key, its default and its meaning, made by `dualpool reference`. [dualpool.yaml](dualpool.yaml)"
    yield "says the same as a file to start from; `dualpool check FILE` lists every problem in yours."
    yield ""
    yield "- One YAML file, given with `--config`. All of it is optional; an unknown key is an error."
    yield f"- An environment variable overrides a key: `{ENVIRONMENT_PREFIX}ROUTING__SHADOW=true` sets"
    yield "  `routing.shadow`. Its value is YAML. A variable's name is read in lower case, so names of your own"
    yield f"  are set as a whole: `{ENVIRONMENT_PREFIX}MODELS='{{Llama-3: coder}}'`."
    yield "- A changed file is reloaded while the service runs ([how](operations.md#reload)); `server`, `state` and"
    yield "  `in_proxy` take a restart."
    for name, field in Config.model_fields.items():
        yield ""
        yield f"## {name}"
        yield ""
        section = _section(field)
        yield _sentence(section.__doc__ if section else field.description)
        yield ""
        yield "| key | default | meaning |"
        yield "| --- | --- | --- |"
        if section is None:
            yield _row(name, field)
            yield from _elements(f"{name}.*[].", field)
        else:
            for key, inner in section.model_fields.items():
                yield _row(f"{name}.{key}", inner)
                yield from _elements(f"{name}.{key}.", inner)


def example() -> Iterator[str]:
    """Yield the lines of docs/dualpool.yaml."""
    yield "# Every key of Dualpool with its default: leave out what you do not change."
    yield "# Made by `dualpool reference --yaml`; docs/configuration.md says the same as a table, and has the keys"
    yield "# within pools, tls and redis."
    for name, field in Config.model_fields.items():
        yield ""
        section = _section(field)
        yield from _comment(_sentence(section.__doc__ if section else field.description), "")
        default = field.get_default(call_default_factory=True)
        if section is None:
            yield from _yaml(name, default, "")
            continue
        yield f"{name}:"
        for key, inner in section.model_fields.items():
            yield from _comment(_sentence(inner.description), "  ")
            yield from _yaml(key, getattr(default, key), "  ")


def _section(field: FieldInfo) -> type[Settings] | None:
    return field.annotation if _is_section(field.annotation) else None


def _is_section(kind: Any) -> TypeGuard[type[Settings]]:
    # A generic alias such as tuple[Pool, ...] passes for a class but is none.
    return get_origin(kind) is None and isinstance(kind, type) and issubclass(kind, Settings)


def _elements(prefix: str, field: FieldInfo) -> Iterator[str]:
    """Rows for the settings within a setting: of a list, a mapping, or a section that may be left out."""
    for model in _models_in(field.annotation):
        for key, inner in model.model_fields.items():
            yield _row(f"{prefix}{key}", inner)


def _models_in(kind: Any) -> Iterator[type[BaseModel]]:
    for part in get_args(kind):
        if _is_section(part):
            yield part
        else:
            yield from _models_in(part)


def _row(key: str, field: FieldInfo) -> str:
    default = "required" if field.is_required() else f"`{_inline(field.get_default(call_default_factory=True))}`"
    return f"| `{key}` | {default} | {_sentence(field.description)} |"


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_defaults=True)
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(inner) for inner in value]
    return value


def _inline(value: Any) -> str:
    text = yaml.safe_dump(_plain(value), default_flow_style=True, sort_keys=False, width=1000).strip()
    return text.removesuffix("...").strip()


def _yaml(key: str, value: Any, indent: str) -> Iterator[str]:
    if isinstance(value, dict) and value:
        block = yaml.safe_dump({key: _plain(value)}, default_flow_style=None, sort_keys=False, width=WIDTH)
        yield from textwrap.indent(block.rstrip(), indent).splitlines()
    else:
        yield f"{indent}{key}: {_inline(value)}"


def _comment(text: str, indent: str) -> Iterator[str]:
    yield from textwrap.wrap(text, WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")


def _sentence(text: str | None) -> str:
    words = " ".join((text or "").split())
    return words if words.endswith(".") else f"{words}."
