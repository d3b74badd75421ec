"""Rules of `extproc.planning.cdf`."""

import json
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from extproc.budget.estimate import Estimate, Reserve
from extproc.config import Pool
from extproc.demo.pool import Pool as StandIn
from extproc.demo.pool_server import PoolServer
from extproc.metrics import Metrics
from extproc.planning.cdf import from_points, read_cdf, read_metrics
from extproc.planning.errors import PlanError
from extproc.routing.decision import Decision, Reason


def test_share_at_a_point_is_its_fraction() -> None:
    """At every point of the CDF the workload has the fraction the file says."""
    read = from_points("x", "x", [[100, 0.25], [1000, 0.9], [5000, 1.0]], 0.5)
    assert read.share(read.totals <= 100) == pytest.approx(0.25)
    assert read.share(read.totals <= 1000) == pytest.approx(0.9)
    assert read.totals.max() == 5000


def test_output_share_splits_every_total() -> None:
    """Outputs are the stated share of totals, and the notes say which."""
    read = from_points("x", "x", [[100, 0.5], [1000, 1.0]], 0.2)
    assert read.outputs[-1] == 200
    assert "20%" in read.notes[0]


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([[100, 0.5], [200, 0.4]], "row 2: fraction 0.4: must rise from 0.5 to 1"),
        ([[100, 0.5], [200, 0.9]], "row 2: fraction 0.9: the last must be 1"),
        ([[100, 0.5], [100, 1.0]], "row 2: tokens 100: must be above 100 and at most 100000000"),
        ([[-1, 0.5], [100, 1.0]], "row 1: tokens -1: must be above 0 and at most 100000000"),
        ([[1, 0.5], [10**400, 1]], f"row 2: tokens 1{'0' * 59}: must be above 1 and at most 100000000"),
        ([[1, 10**400], [2, 1]], f"row 1: fraction 1{'0' * 59}: must rise from 0 to 1"),
        ([[1, 0.5], "x"], "row 2: 'x': must be [tokens, fraction]"),
        ([[1, 0.5]], "must be a list of at least two [tokens, fraction] pairs"),
        ({}, "must be a list of at least two [tokens, fraction] pairs"),
    ],
)
def test_what_is_not_a_cdf(tmp_path: Path, points: Any, message: str) -> None:
    """A file that is not a rising CDF is an error that names the row and the value."""
    path = tmp_path / "cdf.json"
    path.write_text(json.dumps(points))
    with pytest.raises(PlanError) as error:
        read_cdf(path)
    assert str(error.value) == f"{path}: {message}"


def test_not_json(tmp_path: Path) -> None:
    """A file that is not JSON is said to be so."""
    path = tmp_path / "cdf.json"
    path.write_text("[")
    with pytest.raises(PlanError, match="is not JSON"):
        read_cdf(path)


METRICS = """# HELP dualpool_budget_tokens Token budget
# TYPE dualpool_budget_tokens histogram
dualpool_budget_tokens_bucket{le="1024.0"} 60.0
dualpool_budget_tokens_bucket{le="8192.0"} 90.0
dualpool_budget_tokens_bucket{le="+Inf"} 100.0
dualpool_budget_tokens_count 100.0
"""


def test_metrics_page_of_a_running_dualpool(tmp_path: Path) -> None:
    """The budget histogram becomes a workload whose budgets have its shares."""
    page = tmp_path / "page.prom"
    page.write_text(METRICS)
    read = read_metrics(str(page))
    assert read.rows == 100
    assert read.share(read.budgets(0) <= 1024) == pytest.approx(0.6)
    assert read.share(read.budgets(0) <= 8192) == pytest.approx(0.9)
    assert "10.00% are beyond" in read.notes[-1]


def test_metrics_page_as_the_service_writes_it(tmp_path: Path) -> None:
    """What a service in shadow mode has counted is read by the names that it exports."""
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    long = Pool(name="long", capacity=8192)
    for budget in (100, 100, 5_000, 100_000):
        estimate, reserve = Estimate(budget, budget, "exact"), Reserve(0, "cap")
        metrics.decided(Decision(long, long, "shadow", estimate, reserve, budget), 0.001)
    page = tmp_path / "page.prom"
    page.write_bytes(generate_latest(registry))
    read = read_metrics(str(page))
    assert read.rows == 4
    assert read.share(read.budgets(0) <= 1024) == pytest.approx(0.5)
    assert read.share(read.budgets(0) <= 8192) == pytest.approx(0.75)


def test_metrics_page_without_requests(tmp_path: Path) -> None:
    """A page without the histogram is an error."""
    page = tmp_path / "page.prom"
    page.write_text("up 1\n")
    with pytest.raises(PlanError, match="no dualpool_budget_tokens histogram"):
        read_metrics(str(page))


@pytest.mark.parametrize(
    ("bound", "count", "message"),
    [
        ("abc", "1", "le 'abc': must be a number"),
        ("8", "many", "count 'many': must be a number"),
        ("8", "NaN", "count 'NaN': must be a number that is not negative"),
        ("8", "-1", "count '-1': must be a number that is not negative"),
    ],
)
def test_metrics_page_with_something_else_than_numbers(
    tmp_path: Path, bound: str, count: str, message: str
) -> None:
    """A bound or a count that is no number is named."""
    page = tmp_path / "page.prom"
    page.write_text(f'dualpool_budget_tokens_bucket{{le="{bound}"}} {count}\n')
    with pytest.raises(PlanError, match=message):
        read_metrics(str(page))


def test_unreachable_metrics() -> None:
    """An address that does not answer is an error of one line."""
    with pytest.raises(PlanError, match="cannot be read"):
        read_metrics("http://127.0.0.1:9/metrics")


def test_requests_that_have_no_budget_are_told_of(tmp_path: Path) -> None:
    """A plan that left them out without a word, or took prompts for budgets, would be too good.

    What no model answers is not missed.
    """
    metrics = Metrics(CollectorRegistry())
    pool = Pool(name="short", capacity=8192)
    unread: tuple[Reason, ...] = ("oversized", "cut", "stored_prompt", "many_headers", "unknown_path", "no_prompt")
    metrics.decided(Decision(pool, pool, "fits", Estimate(90, 100, "learned"), Reserve(10, "cap"), 110), 0.0)
    metrics.decided(Decision(pool, pool, "shadow", Estimate(90, 100, "learned"), Reserve(0, "unknown"), 100), 0.0)
    for reason in unread:
        metrics.decided(Decision(pool, pool, reason), 0.0)
    page = tmp_path / "metrics.prom"
    page.write_bytes(generate_latest(metrics.registry))
    workload = read_metrics(str(page))
    assert workload.rows == 1
    assert "5 more have no budget" in workload.notes[-1]


def test_an_address_that_answers_in_another_language_is_one_line() -> None:
    """Metrics asked of a port that speaks no HTTP, gRPC's for one, cannot be read."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            client, _ = server.accept()
            with client:
                client.recv(1024)
                client.sendall(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(PlanError, match="cannot be read"):
            read_metrics(f"http://127.0.0.1:{server.getsockname()[1]}/metrics")
        thread.join()


def test_an_address_that_is_none() -> None:
    """A space in an address is no reason for a traceback."""
    with pytest.raises(PlanError, match="cannot be read"):
        read_metrics("http://a b/metrics")


def test_an_address_of_this_machine_is_asked_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that the environment names leads to other machines. The page is that of a pool: it has no budgets."""
    monkeypatch.delenv("no_proxy")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with PoolServer(StandIn("short", 100)) as server, pytest.raises(PlanError, match="no dualpool_budget_tokens"):
        read_metrics(f"{server.url}/metrics")
