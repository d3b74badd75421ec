"""What can be rendered: one function for each kind of proxy."""

import json
from collections.abc import Callable

import msgspec

from extproc.budget.learner import new_learner
from extproc.config import Config
from extproc.render.clusters import name_problems
from extproc.render.envoy import bootstrap, snippet
from extproc.render.envoy_gateway import envoy_gateway
from extproc.render.istio import istio
from extproc.render.layout import Layout, Options, RenderError, check_options, layout
from extproc.render.text import Tree, plain, to_yaml
from extproc.service.in_proxy import figures, resource

Files = dict[str, list[Tree]]


class Target(msgspec.Struct, frozen=True):
    """`files`: the documents of each file, by its name. `summary`: what they are."""

    summary: str
    files: Callable[[Config, Layout, Options], Files]


SEED = "in-proxy-filter"

TARGETS = {
    "envoy": Target(
        "a complete Envoy bootstrap",
        lambda _, pools, options: {"envoy.yaml": [bootstrap(pools, options)]},
    ),
    "envoy-filter": Target(
        "the filters, routes and clusters to paste into an Envoy configuration",
        lambda _, pools, options: {"envoy-filter.yaml": [snippet(pools, options)]},
    ),
    "envoy-gateway": Target("manifests for Envoy Gateway", envoy_gateway),
    "istio": Target("manifests for an Istio ingress gateway", istio),
    SEED: Target(
        "the filter file to start an in-proxy Envoy with, until the service writes it",
        lambda config, _, __: {_seed_name(config): [resource(figures(config, new_learner(config)))]},
    ),
}
"""Kinds of proxy, by the name given to `dualpool render`."""

KUBERNETES = ("envoy-gateway", "istio")

_ENVOY_TLS = (
    "the proxy rendered would speak plain text: render with DUALPOOL_SERVER__TLS=null, and add the "
    "transport_socket of docs/operations.md (TLS) to its cluster"
)
_KUBERNETES_TLS = (
    "the manifests mount no certificates: render with DUALPOOL_SERVER__TLS=null, and add TLS to them as "
    "docs/operations.md (TLS in Kubernetes) says"
)


_OWN_CLUSTERS = ("envoy", "envoy-filter")
"""Kinds of proxy whose pools are clusters by their own names."""


def render(kind: str, config: Config, options: Options) -> dict[str, str]:
    """Return the text of each file for a proxy of `kind` (a key of `TARGETS`), by file name.

    Raises `RenderError` when `config` says too little for a proxy.
    """
    options = msgspec.structs.replace(
        options, service=options.service or config.server.listen, workers=config.server.workers
    )
    pools = layout(config)
    if kind in KUBERNETES and options.exchange == "in-proxy":  # the gateway's pods would have to mount its file
        raise RenderError(["--exchange in-proxy: only with Envoy's own configuration: its file has to be shared"])
    check_options(pools, options)
    if kind in _OWN_CLUSTERS and (taken := name_problems(pools)):
        raise RenderError(taken)
    if config.server.tls is not None and kind != SEED:
        raise RenderError([f"server.tls: is set, and {_KUBERNETES_TLS if kind in KUBERNETES else _ENVOY_TLS}"])
    files = TARGETS[kind].files(config, pools, options)
    return {name: _text(name, documents) for name, documents in files.items()}


def _text(name: str, documents: list[Tree]) -> str:
    """Write the documents of a file as its name says."""
    if name.lower().endswith(".json"):
        return json.dumps(plain(documents[0]), indent=2) + "\n"
    return to_yaml(*documents)


def _seed_name(config: Config) -> str:
    """Name of the file that the service writes, and Envoy looks for."""
    return config.in_proxy.file.name if config.in_proxy.file else "in-proxy.yaml"
