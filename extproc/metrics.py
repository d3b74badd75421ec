"""Every Prometheus metric, in one place. The rest of the code reports events; what they become is decided here."""

import math
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from extproc import __version__
from extproc.budget.estimate import Verdict
from extproc.budget.observation import Observation
from extproc.routing.decision import Decision

TOKEN_BUCKETS = tuple(2**i for i in range(6, 21))
ERROR_BUCKETS = (-0.5, -0.25, -0.1, -0.05, -0.02, 0.0, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0)
DECISION_BUCKETS = (2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 5e-2, 0.1)

Snapshot = Callable[[], dict[str, object]]


# A `_created` series beside every counter doubles a scrape and tells when the process started, which another says.
disable_created_metrics()  # type: ignore[no-untyped-call]  # the package types all but this


class Metrics:
    """The metrics of one service. Label values come from configuration or from bounded sets, never from clients."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._requests = Counter(
            "dualpool_requests",
            "Requests by the pool they were sent to, the pool their budget asked for, and the reason",
            ["pool", "chosen", "reason"],
            registry=registry,
        )
        self._budget = Histogram(
            "dualpool_budget_tokens",
            "Token budget of a request: upper estimate of the prompt plus output reserve",
            buckets=TOKEN_BUCKETS,
            registry=registry,
        )
        self._error = Histogram(
            "dualpool_estimate_error_ratio",
            "Estimated over true prompt tokens, minus one, as it stood when the request was routed",
            ["category"],
            buckets=ERROR_BUCKETS,
            registry=registry,
        )
        self._observations = Counter(
            "dualpool_observations", "Usage reports by what became of them", ["verdict"], registry=registry
        )
        self._misroutes = Counter(
            "dualpool_misroutes",
            "Requests that did not fit the pool they were sent to",
            ["pool", "kind"],
            registry=registry,
        )
        self._unread_answers = Counter(
            "dualpool_unread_answers", "Answers whose body was not read, by reason", ["reason"], registry=registry
        )
        self._ignored_settings = Counter(
            "dualpool_route_settings_ignored",
            "Settings of a route that were ignored because their value was no good, by name",
            ["setting"],
            registry=registry,
        )
        self._decision = Histogram(
            "dualpool_decision_seconds",
            "Time from a request body to its pool",
            buckets=DECISION_BUCKETS,
            registry=registry,
        )
        self._in_flight = Gauge("dualpool_exchanges_in_flight", "Exchanges open with Envoy", registry=registry)
        self._exchange_ends = Counter(
            "dualpool_exchanges", "Exchanges by how they ended", ["end"], registry=registry
        )
        self._reloads = Counter(
            "dualpool_config_reloads",
            "Attempts to reload the configuration, by result",
            ["result"],
            registry=registry,
        )
        self._state_exchanges = Counter(
            "dualpool_state_exchanges",
            "Exchanges of learned figures with the places that keep and share them, by result",
            ["store", "result"],
            registry=registry,
        )
        Gauge("dualpool_build_info", "Version of the service", ["version"], registry=registry).labels(
            __version__
        ).set(1)

    def decided(self, decision: Decision, seconds: float) -> None:
        """Count a decision that took `seconds`."""
        self._requests.labels(decision.pool.name, decision.chosen.name, decision.reason).inc()
        self._decision.observe(seconds)
        if decision.estimate is not None:
            self._budget.observe(decision.budget)

    def observed(self, observation: Observation, verdict: Verdict) -> None:
        """Count a usage report, its estimate's error and whether the request was misrouted."""
        self._observations.labels(verdict).inc()
        if observation.outcome in ("rejected", "truncated"):
            self._misroutes.labels(observation.pool, observation.outcome).inc()
        usage = observation.usage
        if verdict in ("used", "outlier") and usage is not None and usage.prompt_tokens:
            self._error.labels(observation.category).observe(observation.estimate / usage.prompt_tokens - 1)

    def answer_unread(self, reason: str) -> None:
        """Count an answer whose body was left alone."""
        self._unread_answers.labels(reason).inc()

    def route_setting_ignored(self, name: str) -> None:
        """Count a setting of a route that could not be followed. `name`: from a fixed set."""
        self._ignored_settings.labels(name).inc()

    def exchange_opened(self) -> None:
        """Count an exchange as open."""
        self._in_flight.inc()

    def exchange_ended(self, end: str) -> None:
        """Count an exchange as ended, by how."""
        self._in_flight.dec()
        self._exchange_ends.labels(end).inc()

    def state_exchanged(self, store: str, worked: bool) -> None:
        """Count an exchange of learned figures with `store`."""
        self._state_exchanges.labels(store, "ok" if worked else "failed").inc()

    def reloaded(self, worked: bool) -> None:
        """Count an attempt to reload the configuration."""
        self._reloads.labels("ok" if worked else "rejected").inc()

    def requests_by_pool(self) -> list[dict[str, object]]:
        """Return the request counts, for `/state`."""
        return [
            {**sample.labels, "requests": int(sample.value)}
            for metric in self._requests.collect()
            for sample in metric.samples
            if sample.name.endswith("_total")
        ]

    def export_learned(self, snapshot: Snapshot) -> None:
        """Export what `snapshot` returns at every scrape."""
        self.registry.register(_Learned(snapshot))


class _Learned(Collector):
    """Bytes per token and samples of every learned ratio. Their number is bounded by `categories.limit`."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterable[Metric]:
        labels = ["model", "category", "basis"]
        ratio = GaugeMetricFamily("dualpool_bytes_per_token", "Learned bytes per token", labels=labels)
        samples = GaugeMetricFamily("dualpool_ratio_samples", "Observations behind a ratio", labels=labels)
        ratios = self._snapshot().get("ratios")
        for entry in ratios if isinstance(ratios, list) else ():
            values = [entry["model"], entry["category"], entry["basis"]]
            if math.isfinite(entry["bytes_per_token"]):
                ratio.add_metric(values, entry["bytes_per_token"])
            samples.add_metric(values, entry["samples"])
        return ratio, samples
