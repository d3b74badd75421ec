"""Prometheus metrics worked out at every scrape: what is learned, how full pools are, how many workers serve.

What is counted is in `extproc.metrics`.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from extproc.routing.spillover import Levels

Snapshot = Callable[[], dict[str, object]]

Questions = Mapping[str, Mapping[str, int]]
"""By source of pressure: how many questions ended with which result."""


def export_learned(registry: CollectorRegistry, snapshot: Snapshot) -> None:
    """Export what `snapshot` returns at every scrape."""
    registry.register(_Learned(snapshot))


def export_pressure(
    registry: CollectorRegistry,
    levels: Callable[[], Levels],
    questions: Callable[[], Questions],
) -> None:
    """Export at every scrape how full the pools are, and by source how many questions were answered, by result."""
    registry.register(_Pressure(levels, questions))


def export_workers(registry: CollectorRegistry, up: Callable[[], int]) -> Callable[[], None]:
    """Export at every scrape how many workers are `up`, and return what counts one that is replaced."""
    replaced = Counter(
        "dualpool_worker_restarts", "Workers replaced because they had died or hung", registry=registry
    )
    Gauge("dualpool_workers_up", "Workers that are healthy", registry=registry).set_function(up)
    return replaced.inc


class _Learned(Collector):
    """What is learned, by model: errors of the linear estimator, ratios. `categories.limit` bounds their number."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterable[Metric]:
        labels = ["model", "category", "basis"]
        ratio = GaugeMetricFamily("dualpool_bytes_per_token", "Learned bytes per token", labels=labels)
        samples = GaugeMetricFamily("dualpool_ratio_samples", "Observations behind a ratio", labels=labels)
        error = GaugeMetricFamily(
            "dualpool_linear_error_ratio", "Usual relative error of the linear estimator, mean", labels=["model"]
        )
        fitted = GaugeMetricFamily(
            "dualpool_linear_samples", "Observations behind the linear estimator's weights", labels=["model"]
        )
        learned = self._snapshot()
        for entry in _entries(learned, "linear"):
            error.add_metric([entry["model"]], entry["error"])
            fitted.add_metric([entry["model"]], entry["samples"])
        for entry in _entries(learned, "ratios"):
            values = [entry["model"], entry["category"], entry["basis"]]
            if math.isfinite(entry["bytes_per_token"]):
                ratio.add_metric(values, entry["bytes_per_token"])
            samples.add_metric(values, entry["samples"])
        return ratio, samples, error, fitted


class _Pressure(Collector):
    """How full the pools are. By configuration: pools have a name and a bound number."""

    def __init__(self, levels: Callable[[], Levels], questions: Callable[[], Questions]) -> None:
        self._levels = levels
        self._questions = questions

    def collect(self) -> Iterable[Metric]:
        pressure = GaugeMetricFamily(
            "dualpool_pool_pressure",
            "How full a pool is as a share of its mark, by the source believed; absent while unknown",
            labels=["pool", "source"],
        )
        saturated = GaugeMetricFamily(
            "dualpool_pool_saturated", "Whether a pool passes its requests on (1) or not (0)", labels=["pool"]
        )
        for pool, level in self._levels().items():
            saturated.add_metric([pool], level.saturated)
            if level.pressure is not None and level.source is not None:
                pressure.add_metric([pool, level.source], level.pressure)
        questions = CounterMetricFamily(
            "dualpool_pressure_questions",
            "Questions to servers and Envoys about how full the pools are, by result",
            labels=["source", "result"],
        )
        for source, results in self._questions().items():
            for result, count in results.items():
                questions.add_metric([source, result], count)
        return pressure, saturated, questions


def _entries(snapshot: dict[str, object], name: str) -> list[dict[str, Any]]:
    entries = snapshot.get(name)
    return entries if isinstance(entries, list) else []
