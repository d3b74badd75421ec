"""Dashboard and alert rules, judged by Prometheus itself (Debian package `prometheus`)."""

import json
import re
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from extproc.demo.envoy import connection_manager
from extproc.demo.pool_server import HOST
from extproc.demo.process import Process
from extproc.render.typed import any_of
from tests.envoy.client import chat
from tests.envoy.stack import Stack, rendered_stack, until

OBSERVABILITY = Path(__file__).parents[2] / "envoy" / "observability"
DOCS = OBSERVABILITY.parents[1] / "docs"
DASHBOARD = json.loads((OBSERVABILITY / "dualpool.json").read_text())

pytestmark = pytest.mark.skipif(
    shutil.which("promtool") is None or shutil.which("prometheus") is None,
    reason="no prometheus and promtool: alert rules and dashboard queries are not checked",
)


def promtool(*arguments: str) -> None:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_configuration() -> None:
    """The scrape configuration of docker compose is good, the rules it names too."""
    promtool("check", "config", str(OBSERVABILITY / "prometheus.yaml"))


def test_alerts() -> None:
    """Each alert fires when it should and is silent when all is well."""
    promtool("test", "rules", str(Path(__file__).parent / "alerts_test.yaml"))


READ = 'dualpool_observations_total{verdict="%s"}'
PASSED = 'dualpool_unread_answers_total{reason="%s"}'


@pytest.mark.parametrize(("passed", "share"), [({"sampling": 4, "encoded": 9}, 0.6), ({}, 1)])
def test_the_documented_share_of_answers(tmp_path: Path, passed: dict[str, int], share: float) -> None:
    """It is over all verdicts and services, and there while no answer has passed unread."""
    text = (DOCS / "exchanges.md").read_text("utf-8")
    found = re.search(r"^    sum\(dualpool_observations_total\)(\n    .+)+", text, re.MULTILINE)
    assert found is not None
    counts = {READ % "used": 5, READ % "outlier": 1, **{PASSED % reason: n for reason, n in passed.items()}}
    check = {"expr": found[0], "eval_time": "1m", "exp_samples": [{"labels": "{}", "value": share}]}
    series = [{"series": name, "values": f"{count}x2"} for name, count in counts.items()]
    tests = [{"interval": "1m", "input_series": series, "promql_expr_test": [check]}]
    (tmp_path / "tests.yaml").write_text(json.dumps({"tests": tests}))
    promtool("test", "rules", str(tmp_path / "tests.yaml"))


def with_access_log(tree: dict[str, Any]) -> dict[str, Any]:
    """Send Envoy's access log to the service."""
    config = {
        "common_config": {"log_name": "dualpool", "grpc_service": {"envoy_grpc": {"cluster_name": "dualpool"}}}
    }
    kind = "envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig"
    manager = connection_manager(tree)
    manager["access_log"] = [{"name": "envoy.access_loggers.http_grpc", "typed_config": any_of(kind, config)}]
    return tree


@contextmanager
def prometheus(directory: Path, stack: Stack) -> Iterator[str]:
    """Scrape `stack` under the jobs of the shipped configuration; yields the address."""
    config = yaml.safe_load((OBSERVABILITY / "prometheus.yaml").read_text())
    config["global"] = {"scrape_interval": "1s"}
    config["rule_files"] = []
    targets = {"dualpool:9902": stack.service.admin, "envoy:9901": stack.envoy.admin}
    targets |= {f"{name}:8000": f"{HOST}:{server.port}" for name, server in stack.pools.items()}
    for group in (group for job in config["scrape_configs"] for group in job["static_configs"]):
        group["targets"] = [targets[target] for target in group["targets"]]
    file = directory / "prometheus.yaml"
    file.write_text(yaml.safe_dump(config))
    options = [
        f"--config.file={file}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address={HOST}:0",
    ]
    with Process(["prometheus", *options], directory / "prometheus.log") as process:
        port = process.wait_for_output(rf"address={HOST}:([1-9]\d*)")[1]
        process.wait_for_output("Server is ready")
        yield f"http://{HOST}:{port}"


def series(address: str, expression: str) -> list[Any]:
    """Return what Prometheus answers to `expression`; a query that does not parse raises."""
    query = urllib.parse.urlencode({"query": expression})
    with urllib.request.urlopen(f"{address}/api/v1/query?{query}", timeout=30) as answer:
        found: list[Any] = json.load(answer)["data"]["result"]
    return found


def test_every_panel_shows_something(tmp_path: Path) -> None:
    """Each query of the dashboard returns series on a live Prometheus that scrapes service, Envoy and pools.

    Of several, each has a label that its legend can show.
    """
    settings = {
        "state": {"file": str(tmp_path / "state"), "interval_seconds": 0.2},
        "spillover": {"enabled": True},
    }
    expressions = {target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]}
    asked = {re.sub(r"\$__rate_interval", "1m", expression) for expression in expressions}
    waiting = set(asked)
    sets = {"default": {"short": 4096, "long": 131_072}}
    with (
        rendered_stack(tmp_path, sets, settings, change=with_access_log) as stack,
        prometheus(tmp_path, stack) as address,
    ):

        def shown() -> bool:
            for text in ("How are you? " * 10, "word " * 3000):
                assert stack.send(chat(text, max_tokens=10)).status == 200
            waiting.difference_update({e for e in waiting if series(address, e)})
            return not waiting

        until(shown)
        assert waiting == set()
        answers = {expression: series(address, expression) for expression in sorted(asked)}
        assert [e for e, found in answers.items() if len(found) > 1 and not all(f["metric"] for f in found)] == []
