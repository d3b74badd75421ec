"""What is rendered for Envoy holds all that its facts demand."""

import json
from typing import Any

import pytest
import yaml

from extproc.body.fields import UNCAPPED_APIS
from extproc.body.paths import SUFFIXES
from extproc.cli import main
from extproc.config import Config
from extproc.demo.envoy import connection_manager
from extproc.render.answers import READ_ANSWERS
from extproc.render.layout import Options, RenderError
from extproc.render.target import render
from extproc.service.in_proxy import RESOURCE

POOLS = [
    {"name": "short", "capacity": 8192, "endpoints": ["10.0.0.1:8000", "10.0.0.2:8000"]},
    {"name": "long", "capacity": 131_072, "endpoints": ["[fd00::1]:8000"]},
]
CONFIG = Config.model_validate({"pools": {"default": POOLS}, "routing": {"header": "x-pool"}})


def bootstrap(options: Options | None = None, config: Config = CONFIG) -> dict[str, Any]:
    tree: dict[str, Any] = yaml.safe_load(render("envoy", config, options or Options())["envoy.yaml"])
    return tree


def manager(tree: dict[str, Any]) -> dict[str, Any]:
    return connection_manager(tree)


def clusters(tree: dict[str, Any]) -> dict[str, Any]:
    return {cluster["name"]: cluster for cluster in tree["static_resources"]["clusters"]}


def addresses(cluster: dict[str, Any]) -> list[dict[str, Any]]:
    hosts = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
    return [host["endpoint"]["address"] for host in hosts]


def test_endpoints() -> None:
    """A pool's cluster has its servers, the service's cluster the address the service listens on."""
    found = clusters(bootstrap())
    assert [a["socket_address"]["address"] for a in addresses(found["short"])] == ["10.0.0.1", "10.0.0.2"]
    assert addresses(found["long"]) == [{"socket_address": {"address": "fd00::1", "port_value": 8000}}]
    assert addresses(found["dualpool"]) == [{"socket_address": {"address": "127.0.0.1", "port_value": 50051}}]


def test_service_on_a_socket() -> None:
    """A service on a Unix socket is reached there."""
    found = clusters(bootstrap(Options(service="unix:///run/dualpool.sock")))
    assert addresses(found["dualpool"]) == [{"pipe": {"path": "/run/dualpool.sock"}}]


@pytest.mark.parametrize(
    ("listen", "last"),
    [
        ("127.0.0.1:50051", {"socket_address": {"address": "127.0.0.1", "port_value": 50053}}),
        ("unix:///run/dualpool.sock", {"pipe": {"path": "/run/dualpool-2.sock"}}),
    ],
)
def test_workers(listen: str, last: dict[str, Any]) -> None:
    """Each worker of the service is an endpoint, and the one with the fewest exchanges is asked."""
    config = Config.model_validate({"pools": {"default": POOLS}, "server": {"listen": listen, "workers": 3}})
    found = clusters(bootstrap(config=config))["dualpool"]
    assert len(addresses(found)) == 3
    assert addresses(found)[-1] == last
    assert found["lb_policy"] == "LEAST_REQUEST"


def test_no_workers_in_kubernetes() -> None:
    """There, several workers are an error: replicas do the same without ports of their own."""
    pools = {"default": [{"name": "l", "capacity": 100, "endpoints": ["l:1"]}]}
    config = Config.model_validate({"pools": pools, "server": {"workers": 3}})
    with pytest.raises(RenderError, match=r"server\.workers: 3"):
        render("istio", config, Options())


def test_header() -> None:
    """The configured routing header is the one removed and the one matched."""
    found = manager(bootstrap())
    mutation = found["early_header_mutation_extensions"][0]["typed_config"]["mutations"]
    route = found["route_config"]["virtual_hosts"][0]["routes"][0]
    assert mutation == [{"remove": "x-pool"}]
    assert route["match"]["headers"] == [{"name": "x-pool", "string_match": {"exact": "short"}}]


def test_default_route() -> None:
    """The last route takes everything to the largest pool of the default set."""
    default = manager(bootstrap())["route_config"]["virtual_hosts"][0]["routes"][-1]
    assert default["match"] == {"prefix": "/"}
    assert default["route"]["cluster"] == "long"


@pytest.mark.parametrize(("version", "kind"), [((1, 39), "aggregate"), ((1, 40), "composite")])
def test_retrying_cluster(version: tuple[int, int], kind: str) -> None:
    """The second attempt goes to the larger pool by the means that the Envoy version has."""
    found = clusters(bootstrap(Options(envoy=version)))["short-then-long"]
    assert found["cluster_type"]["name"] == f"envoy.clusters.{kind}"
    assert found["circuit_breakers"]["thresholds"][0]["max_retries"] >= 1000


def test_buffer_grows_with_the_largest_pool() -> None:
    """The request buffer holds the largest prompt: 24 bytes a token, at least 4 MiB, at most what Envoy takes."""
    sizes = []
    for capacity in (1000, 131_072, 1_000_000, 100_000_000):
        pools = [{"name": "l", "capacity": capacity, "endpoints": ["l:1"]}]
        tree = bootstrap(config=Config.model_validate({"pools": {"default": pools}}))
        (listener,) = tree["static_resources"]["listeners"]
        sizes.append(listener["per_connection_buffer_limit_bytes"] / 1024 / 1024)
    assert sizes == [4, 4, 32, 256]


def test_command_writes_files(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """`dualpool render` writes files into a directory, or prints them."""
    config = tmp_path / "dualpool.yaml"
    config.write_text(yaml.safe_dump({"pools": {"default": POOLS}}))
    out = tmp_path / "out"
    assert main(["render", "envoy", "--config", str(config), "--output", str(out)]) == 0
    assert capsys.readouterr().out.split() == [str(out / "envoy.yaml")]
    assert main(["render", "envoy", "--config", str(config)]) == 0
    assert capsys.readouterr().out == (out / "envoy.yaml").read_text()


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("/var/lib/dualpool/filter.yml", "filter.yml"),
        ("/var/lib/dualpool/filter.JSON", "filter.JSON"),
        ("null", "in-proxy.yaml"),
    ],
)
def test_the_first_filter_has_the_name_that_the_service_writes(tmp_path: Any, file: str, name: str) -> None:
    """Envoy looks for no other; without one it is that of the documents."""
    config = tmp_path / "dualpool.yaml"
    pools = "[{name: short, capacity: 4096, endpoints: ['s:1']}, {name: long, capacity: 9999, endpoints: ['l:1']}]"
    config.write_text(f"pools: {{default: {pools}}}\nin_proxy: {{file: {file}}}\n")
    assert main(["render", "in-proxy-filter", "--config", str(config), "--output", str(tmp_path / "out")]) == 0
    (written,) = (tmp_path / "out").iterdir()
    assert written.name == name
    tree = (json.loads if name.endswith("JSON") else yaml.safe_load)(written.read_text())
    assert tree["resources"][0]["name"] == RESOURCE


def test_command_needs_endpoints(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Pools without servers are an error that names file, key and remedy."""
    config = tmp_path / "dualpool.yaml"
    config.write_text("pools: {default: [{name: long, capacity: 100}]}")
    assert main(["render", "envoy", "--config", str(config)]) == 2
    assert capsys.readouterr().err == (
        f"{config}: pools.default.0.endpoints: []: name the pool's servers, HOST:PORT each\n"
    )


def test_command_with_a_bad_file(capsys: pytest.CaptureFixture[str]) -> None:
    """A configuration that cannot be read is refused as `check` refuses it."""
    assert main(["render", "envoy", "--config", "/does/not/exist"]) == 2
    assert "cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--listen", "nowhere"),
        ("--listen", "0.0.0.0:65536"),
        ("--listen", "localhost:8080"),
        ("--admin", ":"),
        ("--admin", "[::::]:9901"),
        ("--service", "dualpool"),
        ("--namespace", "A_b"),
        ("--envoy", "1.x"),
        ("--envoy", "1.30"),
    ],
)
def test_command_with_a_bad_option(option: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A value that no proxy could use is refused, by its name and in one line."""
    with pytest.raises(SystemExit, match="2"):
        main(["render", "envoy", option, value])
    assert (
        capsys.readouterr()
        .err.splitlines()[-1]
        .startswith(f"dualpool render: error: argument {option}: {value!r}: not ")
    )


def test_command_that_cannot_write(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Where files cannot be written, the path and the reason are told."""
    config = tmp_path / "dualpool.yaml"
    config.write_text(yaml.safe_dump({"pools": {"default": POOLS}}))
    assert main(["render", "envoy", "--config", str(config), "--output", str(config / "out")]) == 2
    assert capsys.readouterr().err == f"--output: {config / 'out'}: cannot be written: Not a directory\n"


def test_every_answer_that_teaches_is_read_by_one_pair_of_filters() -> None:
    """Those without output tokens are left alone: they may be of any size."""
    read = sorted(api for answers in READ_ANSWERS for api in answers.apis)
    assert read == sorted({api for _, api in SUFFIXES} - UNCAPPED_APIS)
