"""`dualpool render`: the configuration of the proxy, from the configuration of Dualpool."""

import argparse
import ipaddress
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import TypeAdapter, ValidationError

from extproc.config_file import ConfigError, load
from extproc.config_types import HostPort, Listen, host_and_port
from extproc.render.layout import Exchange, Options, RenderError, Usage, is_kubernetes_name
from extproc.render.target import TARGETS, render

EPILOG = """\
Every pool needs the addresses of its servers (pools.*[].endpoints). Examples:

  dualpool render envoy --config dualpool.yaml > envoy.yaml && envoy -c envoy.yaml
  dualpool render envoy-gateway --config kubernetes.yaml --namespace llm --output gateway
  kubectl apply -k gateway/     # needs a kustomization.yaml: docs/attach.md, In Kubernetes
"""

NAMED = (
    "what to call the file in DIR, for kinds that are one file (default: KIND.yaml; in-proxy-filter: the name of "
    "in_proxy.file)"
)

OLDEST = (1, 36)
"""Envoy version that the tests begin with."""

APPLIES = {
    "exchange": ("envoy", "envoy-filter", "istio"),
    "usage": ("envoy", "envoy-filter", "istio"),
    "envoy": ("envoy", "envoy-filter", "istio"),
    "listen": ("envoy",),
    "admin": ("envoy",),
    "service": ("envoy", "envoy-filter"),
    "json_log": ("envoy", "envoy-filter"),
    "name": ("envoy", "envoy-filter", "in-proxy-filter"),
    "namespace": ("envoy-gateway", "istio"),
    "inference_pools": ("envoy-gateway",),
}
"""Kinds of proxy that an option does anything for, of options that are not for all."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `render`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    kinds = "; ".join(f"{name}: {target.summary}" for name, target in TARGETS.items())
    parser.add_argument("kind", choices=TARGETS, metavar="KIND", help=kinds)
    parser.add_argument("--config", type=Path, metavar="FILE", help="Dualpool's YAML configuration")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="write the files to this directory (default: print them)"
    )
    parser.add_argument("--name", metavar="NAME", help=NAMED)
    defaults = Options()
    parser.add_argument(
        "--exchange", choices=get_args(Exchange), help="how the proxy asks Dualpool (default: body)"
    )
    parser.add_argument("--usage", choices=get_args(Usage), help="source of usage (default: response-body)")
    parser.add_argument(
        "--listen",
        type=_ip_port,
        metavar="IP:PORT",
        help=f"where the proxy listens (default: {defaults.listen})",
    )
    parser.add_argument(
        "--admin",
        type=_ip_port,
        metavar="IP:PORT",
        help=f"where the proxy's admin interface listens (default: {defaults.admin})",
    )
    parser.add_argument(
        "--service",
        type=_address,
        metavar="ADDRESS",
        help="where the proxy finds Dualpool: HOST:PORT or unix:///PATH (default: server.listen)",
    )
    parser.add_argument(
        "--namespace",
        type=_namespace,
        metavar="NAME",
        help=f"namespace of the Kubernetes objects (default: {defaults.namespace})",
    )
    parser.add_argument(
        "--inference-pools",
        action="store_true",
        default=None,
        help="route to InferencePools instead of Services (envoy-gateway)",
    )
    parser.add_argument(
        "--envoy",
        type=_version,
        metavar="X.Y",
        help="oldest version of Envoy that has to run it, {}.{} or later (default: {}.{})".format(
            *OLDEST, *defaults.envoy
        ),
    )
    parser.add_argument(
        "--json-log",
        metavar="PATH",
        help="file in which Envoy logs each request as a line of JSON, for `dualpool plan`",
    )


def run(args: argparse.Namespace) -> int:
    """Render and print or write; 0 when done, 2 for a bad configuration or option, or an output not writable."""
    refused = list(_refused(args))
    if refused:
        print("\n".join(refused), file=sys.stderr)
        return 2
    given = {k: v for k, v in vars(args).items() if k in Options.__struct_fields__ and v is not None}
    try:
        files = render(args.kind, load(args.config), Options(**given))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    except RenderError as error:
        print("\n".join(f"{args.config or 'defaults'}: {line}" for line in error.problems), file=sys.stderr)
        return 2
    if args.output is None:
        print("---\n".join(files.values()), end="")
        return 0
    try:
        _write(files, args.output, args.name)
    except OSError as error:
        print(f"--output: {error.filename}: cannot be written: {error.strerror}", file=sys.stderr)
        return 2
    return 0


def _refused(args: argparse.Namespace) -> Iterator[str]:
    """Name each option given that would do nothing."""
    for option, kinds in APPLIES.items():
        if getattr(args, option) is not None and args.kind not in kinds:
            yield f"--{option.replace('_', '-')}: {args.kind} has none: it goes with {', '.join(kinds)}"
    if args.kind in APPLIES["name"] and args.name is not None and args.output is None:
        yield "--name: names the file that is written to --output, which is not given"


def _write(files: Mapping[str, str], directory: Path, name: str | None) -> None:
    """Write each file and print its path. `name`: of the file, for kinds that are one."""
    directory.mkdir(parents=True, exist_ok=True)
    for own_name, text in files.items():
        path = directory / (name or own_name)
        path.write_text(text, "utf-8")
        print(path)


def _version(text: str) -> tuple[int, int]:
    if not re.fullmatch(r"[0-9]{1,3}\.[0-9]{1,3}", text):
        raise argparse.ArgumentTypeError(f"{text!r}: not a version, X.Y")
    major, _, minor = text.partition(".")
    version = int(major), int(minor)
    if version < OLDEST:
        raise argparse.ArgumentTypeError(f"{text!r}: not {OLDEST[0]}.{OLDEST[1]} or later")
    return version


def _ip_port(text: str) -> str:
    """Envoy listens at an IP address; it looks up no name for it."""
    form = "IP:PORT"
    try:
        ipaddress.ip_address(host_and_port(_valid(HostPort, text, form))[0])
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: not {form}") from None
    return text


def _address(text: str) -> str:
    return _valid(Listen, text, "HOST:PORT or unix:///PATH")


def _valid(kind: Any, text: str, form: str) -> str:
    """Hold an option to the rule of the configuration's addresses."""
    try:
        return str(TypeAdapter(kind).validate_python(text))
    except ValidationError:
        raise argparse.ArgumentTypeError(f"{text!r}: not {form}") from None


def _namespace(text: str) -> str:
    if not is_kubernetes_name(text):
        raise argparse.ArgumentTypeError(f"{text!r}: not a name of Kubernetes: lower case, digits, hyphens")
    return text
