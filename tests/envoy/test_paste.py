"""`dualpool render envoy-filter`, pasted into a configuration that is not ours."""

import copy
from pathlib import Path
from typing import Any

import yaml

from extproc.config import Config
from extproc.demo.envoy import Envoy, Tree
from extproc.demo.pool_server import HOST
from extproc.demo.service import Service
from extproc.render.layout import Options
from extproc.render.target import render
from tests.envoy.changes import patient
from tests.envoy.client import chat, send
from tests.envoy.pools import Pools, section
from tests.envoy.stack import healthy, until

MANAGER = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"


def foreign(port: int) -> Tree:
    """Somebody's Envoy: other names, other filters, one cluster of model servers at `port`."""
    text = f"""
admin: {{address: {{socket_address: {{address: {HOST}, port_value: 0}}}}}}
static_resources:
  listeners:
  - name: llm
    address: {{socket_address: {{address: {HOST}, port_value: 0}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": {MANAGER}
          stat_prefix: edge
          server_name: somebody
          route_config:
            virtual_hosts:
            - name: models
              domains: ["*"]
              routes:
              - match: {{prefix: /v1/}}
                route: {{cluster: model_servers, timeout: 60s}}
          http_filters:
          - name: envoy.filters.http.cors
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
  clusters:
  - name: model_servers
    type: STATIC
    load_assignment:
      cluster_name: model_servers
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: {HOST}, port_value: {port}}}}}}}
"""
    tree: Tree = yaml.safe_load(text)
    return tree


def pasted(tree: Tree, snippet: Tree) -> Tree:
    """Put each part of `snippet` where its comments say."""
    tree, snippet = copy.deepcopy(tree), copy.deepcopy(snippet)
    listener = tree["static_resources"]["listeners"][0]
    manager: dict[str, Any] = listener["filter_chains"][0]["filters"][0]["typed_config"]
    listener["per_connection_buffer_limit_bytes"] = snippet.pop("per_connection_buffer_limit_bytes")
    manager["http_filters"][-1:-1] = snippet.pop("http_filters")
    manager["route_config"]["virtual_hosts"] = snippet.pop("virtual_hosts")
    tree["static_resources"]["clusters"] += snippet.pop("clusters")
    manager.update(snippet)
    return tree


def test_pasted_and_taken_out_again(tmp_path: Path, pools: Pools) -> None:
    """Pasted, it routes by budget beside the other filters; taken out, everything goes where it went."""
    settings = {"pools": section(pools=pools)}
    before = foreign(pools["long"].port)
    with Service(settings, tmp_path) as service:
        options = Options(service=f"{HOST}:{service.port}")
        text = render("envoy-filter", Config.model_validate(settings), options)["envoy-filter.yaml"]
        with Envoy(patient(pasted(before, yaml.safe_load(text))), tmp_path / "pasted") as envoy:
            until(lambda: healthy(envoy))
            little = send(envoy.url, chat("How are you?", max_tokens=10), headers={"origin": "http://a"})
            much = send(envoy.url, chat("word " * 4000, max_tokens=10))
    assert (little.status, pools.reached(little), little.headers["server"]) == (200, ["short"], "somebody")
    assert (much.status, pools.reached(much)) == (200, ["long"])
    with Envoy(before, tmp_path / "before") as envoy:
        reply = send(envoy.url, chat("How are you?", max_tokens=10))
    assert (reply.status, pools.reached(reply)) == (200, ["long"])
