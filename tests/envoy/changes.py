"""What tests change in a configuration of Envoy's, most of it in place."""

from collections.abc import Callable

from extproc.demo.envoy import ANY_PORT, Tree, connection_manager, with_addresses
from extproc.render.clusters import service
from extproc.render.layout import Options
from extproc.render.text import plain


def ext_proc(tree: Tree) -> Tree:
    """Return the settings of the filter that asks the service, to be changed in place."""
    filters = {f["name"]: f for f in connection_manager(tree)["http_filters"]}
    settings: Tree = filters["envoy.filters.http.ext_proc"]["typed_config"]
    return settings


def cluster(tree: Tree, name: str) -> Tree:
    """Return the cluster `name`, to be changed in place."""
    found: Tree = next(c for c in tree["static_resources"]["clusters"] if c["name"] == name)
    return found


PATIENCE = "10s"


def patient(tree: Tree) -> Tree:
    """Make Envoy wait for a slow service, in place: on a machine that does too much at once 200 ms are soon over.

    A service that is gone is still noticed at once, by the connection that fails.
    """
    for http_filter in connection_manager(tree)["http_filters"]:
        if "message_timeout" in http_filter.get("typed_config", ()):
            http_filter["typed_config"]["message_timeout"] = PATIENCE
    for each in tree["static_resources"]["clusters"]:
        for check in each.get("health_checks", ()):
            check["timeout"] = PATIENCE
        for options in each.get("typed_extension_protocol_options", {}).values():
            http2 = options.get("explicit_http_config", {}).get("http2_protocol_options", {})
            if "connection_keepalive" in http2:
                http2["connection_keepalive"]["timeout"] = PATIENCE
    return tree


def at(**ports: int) -> Callable[[Tree], Tree]:
    """Return a change to Envoy's configuration: the port of a cluster, by its name."""

    def change(tree: Tree) -> Tree:
        return with_addresses(tree, {name: (ANY_PORT[0], port) for name, port in ports.items()})

    return change


def served_by(*ports: int) -> Callable[[Tree], Tree]:
    """Return a change to Envoy's configuration: replicas of the service, at `ports`, in place of one."""

    def change(tree: Tree) -> Tree:
        cluster(tree, "dualpool")["load_assignment"]["endpoints"][0]["lb_endpoints"] = [
            {"endpoint": {"address": {"socket_address": {"address": ANY_PORT[0], "port_value": port}}}}
            for port in ports
        ]
        return tree

    return change


def served_at(listen: str, workers: int) -> Callable[[Tree], Tree]:
    """Return a change to Envoy's configuration: the service at `listen`, its cluster as it is rendered."""

    def change(tree: Tree) -> Tree:
        clusters = tree["static_resources"]["clusters"]
        place = [each["name"] for each in clusters].index("dualpool")
        clusters[place] = plain(service(Options(service=listen, workers=workers)))
        return tree

    return change


def default_is_short(tree: Tree) -> Tree:
    """What nobody routes lands short, in place: a test of the long pool must not pass by default."""
    routes = connection_manager(tree)["route_config"]["virtual_hosts"][0]["routes"]
    default = routes[-1]
    named = [{"name": "x-token-pool", "string_match": {"exact": "long"}}]
    routes.insert(0, {**default, "match": {**default["match"], "headers": named}})
    routes[-1] = {**default, "route": {**default["route"], "cluster": "short"}}
    return tree


def hasty_log(tree: Tree) -> Tree:
    """Entries are sent at once: a test need not wait a second for each."""
    for log in connection_manager(tree).get("access_log", ()):
        log["typed_config"]["common_config"]["buffer_flush_interval"] = "0.05s"
    return tree


def short_by_default(tree: Tree) -> Tree:
    """The same, and what nobody routes lands short."""
    return hasty_log(default_is_short(tree))
