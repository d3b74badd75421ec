"""What a proxy needs to know of a configuration: pools by name, and where a refused request is sent again."""

import re
from collections.abc import Mapping
from typing import Literal

import msgspec

from extproc.config import DEFAULT_POOL_SET, Config, Pool

Exchange = Literal["body", "bodyless", "in-proxy"]
Usage = Literal["response-body", "access-log"]

ACCESS_LOG_SINCE = (1, 38)
"""Envoy version with the filter that reads usage from streams (1.38.3)."""


class Options(msgspec.Struct, frozen=True):
    """How the proxy and the service work together.

    `exchange`, `usage`: see docs/exchanges.md. `listen`, `admin`: IP:PORT of the proxy. `service`: where it
    finds Dualpool, `server.listen` of the configuration when empty. `envoy`: oldest version it has to run on.
    `namespace`: of Kubernetes objects. `inference_pools`: InferencePools as backends, in place of Services.
    `workers`: of the service, each with an address of its own. `json_log`: file of the proxy's for a line of JSON a
    request, none when empty.
    """

    exchange: Exchange = "body"
    usage: Usage = "response-body"
    listen: str = "0.0.0.0:8080"
    admin: str = "127.0.0.1:9901"
    service: str = ""
    envoy: tuple[int, int] = (1, 40)
    namespace: str = "default"
    inference_pools: bool = False
    workers: int = 1
    json_log: str = ""


class RenderError(Exception):
    """A configuration that serves, but says too little for a proxy. `problems`: one line each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Layout(msgspec.Struct, frozen=True):
    """Pools of all sets, by name.

    `pools`: each once, smallest first within its set. `larger`: name of the pool that takes what another refuses,
    the largest of its set; the largest have none. `default`: where everything goes that names no pool.
    `filter_file`: where the service writes the in-proxy filter, "" where it does not.
    """

    pools: dict[str, Pool]
    larger: dict[str, str]
    default: str
    header: str
    filter_file: str = ""


def layout(config: Config) -> Layout:
    """Return the layout of `config`. Raises `RenderError`."""
    pools: dict[str, Pool] = {}
    larger: dict[str, str] = {}
    problems = []
    for name, members in config.pools.items():
        largest = members[-1].name
        for i, pool in enumerate(members):
            if not pool.endpoints:
                problems.append(f"pools.{name}.{i}.endpoints: []: name the pool's servers, HOST:PORT each")
            known = pools.setdefault(pool.name, pool)
            follows = largest if pool.name != largest else ""
            if known != pool or larger.setdefault(pool.name, follows) != follows:
                problems.append(
                    f"pools.{name}.{i}.name: {pool.name!r}: a pool of another set has this name, with another "
                    "capacity, other endpoints or another largest pool; "
                    "the routing header could not tell them apart"
                )
    if problems:
        raise RenderError(problems)
    return Layout(
        pools=pools,
        larger={name: follower for name, follower in larger.items() if follower},
        default=config.pools[DEFAULT_POOL_SET][-1].name,
        header=config.routing.header,
        filter_file=str(config.in_proxy.file or ""),
    )


def name_clashes(layout: Layout, taken: Mapping[str, str]) -> list[str]:
    """Say of each pool whose name is taken by what. `taken`: names of other things, and what these are."""
    return [
        f"pool {name!r}: {taken[name]} has this name: give the pool another"
        for name in layout.pools
        if name in taken
    ]


def is_kubernetes_name(text: str) -> bool:
    """Whether an object of Kubernetes can have this name (RFC 1123 label)."""
    return re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", text) is not None


def backend_of(pool: Pool) -> tuple[str, int]:
    """Return host and port of a pool in Kubernetes: its Service.

    Raises `RenderError` if it has several or an address of none, or a name that no object there can have.
    """
    if not is_kubernetes_name(pool.name):
        raise RenderError(
            [f"pool {pool.name!r}: in Kubernetes a name is of lower case letters, digits and hyphens"]
        )
    if len(pool.endpoints) != 1:
        raise RenderError(
            [f"pool {pool.name!r}: {list(pool.endpoints)}: in Kubernetes name one endpoint, the Service: NAME:PORT"]
        )
    host, _, port = pool.endpoints[0].rpartition(":")
    if re.fullmatch(r"[0-9.]+|\[.*\]", host):
        raise RenderError([f"pool {pool.name!r}: {host}: in Kubernetes name the Service, no address: NAME:PORT"])
    return host, int(port)


def qualified(host: str, namespace: str) -> str:
    """Return the whole name of a Service that is called NAME, NAME.NAMESPACE or NAME.NAMESPACE.svc.

    A proxy looks for no suffix. A longer name is taken as it is, and so is one that ends in a dot, without the dot.
    """
    if host.endswith("."):
        return host[:-1]
    name, *rest = host.split(".")
    if len(rest) > 1 and rest[1:] != ["svc"]:
        return host
    return f"{name}.{rest[0] if rest else namespace}.svc.cluster.local"


def check_options(layout: Layout, options: Options) -> None:
    """Raise `RenderError` for options that do not go together, or not with this configuration."""
    problems = []
    if options.exchange == "in-proxy" and options.usage != "access-log":
        problems.append("--exchange in-proxy: the service sees no answer there: add --usage access-log")
    if options.exchange == "in-proxy" and not layout.filter_file:
        problems.append("in_proxy.file: null: name the file that the service writes and Envoy watches")
    if options.usage == "access-log" and options.envoy < ACCESS_LOG_SINCE:
        problems.append("--usage access-log: takes Envoy 1.38 (sse_to_metadata): --envoy names an older one")
    if options.json_log and options.usage != "access-log":
        problems.append("--json-log: only Envoy's filters tell it of tokens: add --usage access-log")
    if problems:
        raise RenderError(problems)
