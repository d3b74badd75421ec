"""Every Prometheus metric, in one place. The rest of the code reports events; what they become is decided here."""

import functools
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from extproc import __version__
from extproc.body.usage import Usage
from extproc.budget.estimate import Verdict
from extproc.budget.observation import Observation, Outcome
from extproc.routing.decision import Decision
from extproc.routing.spillover import Levels

TOKEN_BUCKETS = tuple(2**i for i in range(6, 21))
ERROR_BUCKETS = (-0.5, -0.25, -0.1, -0.05, -0.02, 0.0, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0)
DECISION_BUCKETS = (2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 5e-2, 0.1)

SECONDS_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)

NAMES = 64
"""Pools, models and categories counted by name where the name comes by the access log; others are `other`."""

Snapshot = Callable[[], dict[str, object]]

Questions = Mapping[str, Mapping[str, int]]
"""By source of pressure: how many questions ended with which result."""

End = Outcome | Literal["disconnected", "interim"]


class Logged(msgspec.Struct, frozen=True):
    """How a request ended, as Envoy saw it.

    `end`: its outcome, that the client left before the answer was complete, or that it goes on (`interim`: Envoy
    can be set to log more than ends). `pool`: where it was first sent, "" when it never came to us. `served`: the
    pool that answered. `retries`: attempts after the first. Times in seconds from the arrival of the request, 0
    where Envoy gives none.
    """

    end: End
    pool: str
    served: str
    retries: int
    first_byte_seconds: float
    seconds: float


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
        self._spillovers = Counter(
            "dualpool_spillovers",
            "Requests that left a saturated pool for the next larger one, or in shadow mode (acted=false) would",
            ["pool", "to", "acted"],
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
        self._log_entries = Counter(
            "dualpool_access_log_entries",
            "Access-log entries by pool and how the request ended; what Envoy's logs_written and logs_dropped "
            "count more is lost",
            ["pool", "end"],
            registry=registry,
        )
        self._undecodable = Counter(
            "dualpool_access_log_undecodable", "Messages that are no access log", registry=registry
        )
        self._retries = Counter(
            "dualpool_upstream_retries", "Attempts of Envoy after the first, by pool", ["pool"], registry=registry
        )
        self._first_byte = Histogram(
            "dualpool_time_to_first_byte_seconds",
            "From a request to the first byte of its answer, as Envoy saw it",
            ["pool"],
            buckets=SECONDS_BUCKETS,
            registry=registry,
        )
        self._duration = Histogram(
            "dualpool_request_seconds",
            "From a request to the end of its answer, as Envoy saw it",
            ["pool"],
            buckets=SECONDS_BUCKETS,
            registry=registry,
        )
        self._prompt_tokens = Counter(
            "dualpool_prompt_tokens", "Prompt tokens reported by usage", ["pool", "model"], registry=registry
        )
        self._completion_tokens = Counter(
            "dualpool_completion_tokens",
            "Completion tokens reported by usage",
            ["pool", "model"],
            registry=registry,
        )
        self._cached_tokens = Counter(
            "dualpool_cached_tokens",
            "Prompt tokens that usage says were found in a prefix cache",
            ["pool", "model"],
            registry=registry,
        )
        self._pool = _Names()
        self._model = _Names()
        self._category = _Names()
        self._reason = _Names()
        self._filter_writes = Counter(
            "dualpool_in_proxy_writes", "Writes of the in-proxy filter by result", ["result"], registry=registry
        )
        self._decision = Histogram(
            "dualpool_decision_seconds",
            "Time from a request body to its pool",
            buckets=DECISION_BUCKETS,
            registry=registry,
        )
        self._in_flight = Gauge(
            "dualpool_exchanges_in_flight",
            "Exchanges open with Envoy",
            registry=registry,
            multiprocess_mode="livesum",
        )
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
        self._state_written = Gauge(
            "dualpool_state_written_timestamp_seconds",
            "Unix time of the last exchange that worked",
            ["store"],
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._capacities = Gauge(
            "dualpool_capacity_servers",
            "Servers of a pool by how their max_model_len compares with its capacity: equal, differs, unknown",
            ["pool", "verdict"],
            registry=registry,
            multiprocess_mode="livemax",
        )
        build_info = Gauge(
            "dualpool_build_info",
            "Version of the service",
            ["version"],
            registry=registry,
            multiprocess_mode="livemax",
        )
        build_info.labels(__version__).set(1)
        # On every request: a child is looked up once, its labels are not checked again.
        self._requests_of = functools.cache(self._requests.labels)
        self._observations_of = functools.cache(self._observations.labels)
        self._error_of = functools.cache(self._error.labels)
        self._prompt_tokens_of = functools.cache(self._prompt_tokens.labels)
        self._completion_tokens_of = functools.cache(self._completion_tokens.labels)
        self._cached_tokens_of = functools.cache(self._cached_tokens.labels)
        self._log_entries_of = functools.cache(self._log_entries.labels)
        self._first_byte_of = functools.cache(self._first_byte.labels)
        self._duration_of = functools.cache(self._duration.labels)
        self._exchange_ends_of = functools.cache(self._exchange_ends.labels)

    def decided(self, decision: Decision, seconds: float) -> None:
        """Count a decision that took `seconds`."""
        self._requests_of(decision.pool.name, decision.chosen.name, decision.reason).inc()
        self._decision.observe(seconds)
        if decision.spilled is not None:
            acted = str(decision.reason == "spillover").lower()
            self._spillovers.labels(decision.chosen.name, decision.spilled.name, acted).inc()
        if decision.estimate is not None:
            self._budget.observe(decision.budget)

    def observed(self, observation: Observation, verdict: Verdict, served: str = "") -> None:
        """Count a usage report, its estimate's error and whether the request was misrouted; the report last.

        `served`: the pool that answered, where it is known; else the tokens are those of the pool decided on.
        """
        if observation.outcome in ("rejected", "truncated"):
            self._misroutes.labels(self._pool(observation.pool), observation.outcome).inc()
        if observation.usage is not None:
            self._used(observation, observation.usage, verdict, served or observation.pool)
        self._observations_of(verdict).inc()

    def _used(self, observation: Observation, usage: Usage, verdict: Verdict, pool: str) -> None:
        if verdict in ("used", "outlier") and usage.prompt_tokens:
            self._error_of(self._category(observation.category)).observe(
                observation.estimate / usage.prompt_tokens - 1
            )
        if verdict == "implausible":
            return
        labels = self._pool(pool), self._model(observation.model)
        self._prompt_tokens_of(*labels).inc(usage.prompt_tokens or 0)
        self._completion_tokens_of(*labels).inc(usage.completion_tokens or 0)
        if usage.cached_tokens:
            self._cached_tokens_of(*labels).inc(usage.cached_tokens)

    def logged(self, entry: Logged) -> None:
        """Count an access-log entry, after all else that it says."""
        pool = self._pool(entry.pool)
        if entry.end != "interim":
            served = self._pool(entry.served)
            if entry.retries:
                self._retries.labels(pool).inc(entry.retries)
            if entry.first_byte_seconds:
                self._first_byte_of(served).observe(entry.first_byte_seconds)
            self._duration_of(served).observe(entry.seconds)
        self._log_entries_of(pool, entry.end).inc()

    def access_log_undecodable(self) -> None:
        """Count an access-log message that could not be read."""
        self._undecodable.inc()

    def answer_unread(self, reason: str) -> None:
        """Count an answer whose body was left alone."""
        self._unread_answers.labels(reason).inc()

    def route_setting_ignored(self, name: str) -> None:
        """Count a setting of a route that could not be followed. `name`: from a fixed set."""
        self._ignored_settings.labels(name).inc()

    def decided_in_proxy(self, pool: str, chosen: str, reason: str, number: int) -> None:
        """Count decisions that the filter took."""
        self._requests_of(self._pool(pool), self._pool(chosen), self._reason(reason)).inc(number)

    def in_proxy_written(self, worked: bool) -> None:
        """Count a write of the in-proxy filter."""
        self._filter_writes.labels("written" if worked else "failed").inc()

    def capacities_compared(self, verdicts: Mapping[str, list[str]]) -> None:
        """Set how many servers of each pool gave which verdict."""
        for pool, given in verdicts.items():
            for verdict in ("equal", "differs", "unknown"):
                self._capacities.labels(pool, verdict).set(given.count(verdict))

    def exchange_opened(self) -> None:
        """Count an exchange as open."""
        self._in_flight.inc()

    def exchange_ended(self, end: str) -> None:
        """Count an exchange as ended, by how."""
        self._in_flight.dec()
        self._exchange_ends_of(end).inc()

    def state_exchanged(self, store: str, worked: bool) -> None:
        """Count an exchange of learned figures with `store`."""
        self._state_exchanges.labels(store, "ok" if worked else "failed").inc()
        if worked:
            self._state_written.labels(store).set_to_current_time()

    def reloaded(self, worked: bool) -> None:
        """Count an attempt to reload the configuration."""
        self._reloads.labels("ok" if worked else "rejected").inc()


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


def requests_by_pool(registry: CollectorRegistry) -> list[dict[str, object]]:
    """Return the request counts in `registry`, for `/state`."""
    return [
        {**sample.labels, "requests": int(sample.value)}
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name == "dualpool_requests_total"
    ]


class _Names:
    """Lets the first `NAMES` names through: the number of label values stays bounded, whoever sends them."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def __call__(self, name: str) -> str:
        if name not in self._known:
            if len(self._known) >= NAMES:
                return "other"
            self._known.add(name)
        return name


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
