"""Every Prometheus metric. The rest of the code reports events; which metrics they move is decided here.

First come the metrics that are counted (`Metrics`), then those computed at every scrape: what is learned, how full
the pools are, how many workers serve.
"""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, TypeVar

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from extproc import __version__
from extproc.body.usage import Usage
from extproc.budget.estimate import Snapshot, Verdict
from extproc.budget.observation import Observation, Outcome
from extproc.routing.decision import Decision
from extproc.routing.spillover import Levels

TOKEN_BUCKETS = tuple(2**i for i in range(6, 21))
ERROR_BUCKETS = (-0.5, -0.25, -0.1, -0.05, -0.02, 0.0, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0)
DECISION_BUCKETS = (2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 5e-2, 0.1)

SECONDS_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)

NAMES = 64
"""Pools, models and categories that are told apart where their names come from the access log; the rest count as
`other`, since whoever can write to that port chooses the names."""

M = TypeVar("M", Counter, Gauge, Histogram)

Questions = Mapping[str, Mapping[str, int]]
"""Questions about pressure by source, then by result."""

ExchangeEnd = Literal["closed", "slow", "undecodable", "unknown_message", "failed"]
"""How an ext_proc stream ended: by Envoy or when it was complete, or for a reason that is worth a look."""

Unread = Literal["status", "compressed", "content_type", "sampling"]
"""Why the body of an answer was not read."""

End = Outcome | Literal["disconnected", "interim"]


class Logged(msgspec.Struct, frozen=True):
    """An access-log entry: how a request ended, as Envoy saw it.

    `end`: the request's outcome; `disconnected` when the client left before the answer was complete; `interim` when
    the request goes on (Envoy can be set to log at other times than the end). `pool`: where the request was first
    sent, "" when it never came to us. `served`: the pool that answered. `retries`: attempts after the first. Times
    in seconds from the arrival of the request, 0 where Envoy gives none. `usage`: of a whole answer to a request
    that was not read; that of others is in their observation.
    """

    end: End
    pool: str
    served: str
    retries: int
    first_byte_seconds: float
    seconds: float
    usage: Usage | None = None


# A `_created` series beside every counter would double each scrape, only to say when the process started.
disable_created_metrics()  # type: ignore[no-untyped-call]  # the package types all but this


class Metrics:
    """The metrics of one service. Label values come from configuration or from bounded sets, never from clients."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry

        def counter(name: str, what: str, *labels: str) -> Callable[..., Counter]:
            return _children(Counter(name, what, labels, registry=registry))

        def histogram(name: str, what: str, buckets: Sequence[float], *labels: str) -> Callable[..., Histogram]:
            return _children(Histogram(name, what, labels, buckets=buckets, registry=registry))

        self._requests = counter(
            "dualpool_requests",
            "Requests by the pool they were sent to, the pool their budget asked for, and the reason",
            "pool",
            "chosen",
            "reason",
        )
        self._spillovers = counter(
            "dualpool_spillovers",
            "Requests that left a saturated pool for the next larger one, or in shadow mode (acted=false) would",
            "pool",
            "to",
            "acted",
        )
        self._budget = Histogram(
            "dualpool_budget_tokens",
            "Token budget of a request: upper estimate of the prompt plus output reserve",
            buckets=TOKEN_BUCKETS,
            registry=registry,
        )
        self._error = histogram(
            "dualpool_estimate_error_ratio",
            "Estimated over true prompt tokens, minus one, as it stood when the request was routed",
            ERROR_BUCKETS,
            "category",
        )
        self._observations = counter("dualpool_observations", "Usage reports by what became of them", "verdict")
        self._misroutes = counter(
            "dualpool_misroutes", "Requests that did not fit the pool they were sent to", "pool", "kind"
        )
        self._unread_answers = counter(
            "dualpool_unread_answers", "Answers whose body was not read, by reason", "reason"
        )
        self._ignored_settings = counter(
            "dualpool_route_settings_ignored",
            "Settings of a route that were ignored because their value was no good, by name",
            "setting",
        )
        self._log_entries = counter(
            "dualpool_access_log_entries",
            "Access-log entries by pool and how the request ended; what Envoy's logs_written and logs_dropped "
            "count more is lost",
            "pool",
            "end",
        )
        self._undecodable = Counter(
            "dualpool_access_log_undecodable", "Messages that are no access log", registry=registry
        )
        self._retries = counter("dualpool_upstream_retries", "Attempts of Envoy after the first, by pool", "pool")
        self._first_byte = histogram(
            "dualpool_time_to_first_byte_seconds",
            "From a request to the first byte of its answer, as Envoy saw it",
            SECONDS_BUCKETS,
            "pool",
        )
        self._duration = histogram(
            "dualpool_request_seconds",
            "From a request to the end of its answer, as Envoy saw it",
            SECONDS_BUCKETS,
            "pool",
        )
        self._prompt_tokens = counter("dualpool_prompt_tokens", "Prompt tokens reported by usage", "pool", "model")
        self._completion_tokens = counter(
            "dualpool_completion_tokens", "Completion tokens reported by usage", "pool", "model"
        )
        self._cached_tokens = counter(
            "dualpool_cached_tokens", "Prompt tokens that usage says were found in a prefix cache", "pool", "model"
        )
        self._filter_writes = counter(
            "dualpool_in_proxy_writes", "Writes of the in-proxy filter by result", "result"
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
        self._exchange_ends = counter("dualpool_exchanges", "Exchanges by how they ended", "end")
        self._reloads = counter(
            "dualpool_config_reloads", "Attempts to reload the configuration, by result", "result"
        )
        for result in ("ok", "rejected"):
            self._reloads(result)  # exported from the start, so that the first increase is seen
        self._reload_worked = Gauge(
            "dualpool_config_last_reload_successful",
            "Whether the configuration that was read last is in force (1), or was refused (0)",
            registry=registry,
            multiprocess_mode="livemin",
        )
        self._reload_worked.set(1)
        self._state_exchanges = counter(
            "dualpool_state_exchanges",
            "Exchanges of learned figures with the places that keep and share them, by result",
            "store",
            "result",
        )
        self._state_written = _children(
            Gauge(
                "dualpool_state_written_timestamp_seconds",
                "Unix time of the last exchange that worked",
                ["store"],
                registry=registry,
                multiprocess_mode="livemax",
            )
        )
        self._capacities = _children(
            Gauge(
                "dualpool_capacity_servers",
                "Servers of a pool by how their max_model_len compares with its capacity: equal, differs, unknown",
                ["pool", "verdict"],
                registry=registry,
                multiprocess_mode="livemax",
            )
        )
        build_info = Gauge(
            "dualpool_build_info",
            "Version of the service",
            ["version"],
            registry=registry,
            multiprocess_mode="livemax",
        )
        build_info.labels(__version__).set(1)
        self._compared: set[str] = set()
        self._pool = _Names()
        self._model = _Names()
        self._category = _Names()
        self._reason = _Names()

    def decided(self, decision: Decision, seconds: float) -> None:
        """Count a decision that took `seconds`."""
        self._requests(decision.pool.name, decision.chosen.name, decision.reason).inc()
        self._decision.observe(seconds)
        if decision.spilled is not None:
            acted = str(decision.reason == "spillover").lower()
            self._spillovers(decision.chosen.name, decision.spilled.name, acted).inc()
        if decision.reserve is not None and decision.reserve.source != "unknown":  # else the output is not in it
            self._budget.observe(decision.budget)

    def observed(self, observation: Observation, verdict: Verdict, served: str = "") -> None:
        """Count a usage report, the error of its estimate, and a misroute; the report last.

        `served`: the pool that answered, whose tokens these are; "" where only the pool decided on is known.
        """
        if observation.outcome in ("rejected", "truncated"):
            self._misroutes(self._pool(observation.pool), observation.outcome).inc()
        if observation.usage is not None:
            self._used(observation, observation.usage, verdict, served or observation.pool)
        self._observations(verdict).inc()

    def observation_unreadable(self) -> None:
        """Count a usage report of a request of which nothing else can be read."""
        self._observations("unparsable").inc()

    def _used(self, observation: Observation, usage: Usage, verdict: Verdict, pool: str) -> None:
        if verdict in ("used", "outlier") and usage.prompt_tokens:
            self._error(self._category(observation.category)).observe(
                observation.estimate / usage.prompt_tokens - 1
            )
        self._tokens(pool, observation.model, usage)

    def _tokens(self, pool: str, model: str, usage: Usage) -> None:
        labels = self._pool(pool), self._model(model)
        self._prompt_tokens(*labels).inc(usage.prompt_tokens or 0)
        self._completion_tokens(*labels).inc(usage.completion_tokens or 0)
        if usage.cached_tokens:
            self._cached_tokens(*labels).inc(usage.cached_tokens)

    def logged(self, entry: Logged) -> None:
        """Count an access-log entry, after everything it says: whoever sees the entry counted sees the rest too."""
        pool = self._pool(entry.pool)
        if entry.end != "interim":
            served = self._pool(entry.served)
            if entry.retries:
                self._retries(pool).inc(entry.retries)
            if entry.first_byte_seconds:
                self._first_byte(served).observe(entry.first_byte_seconds)
            self._duration(served).observe(entry.seconds)
            if entry.usage is not None:
                self._tokens(entry.served, "", entry.usage)
        self._log_entries(pool, entry.end).inc()

    def access_log_undecodable(self) -> None:
        """Count an access-log message that could not be read."""
        self._undecodable.inc()

    def answer_unread(self, reason: Unread) -> None:
        """Count an answer whose body was not read."""
        self._unread_answers(reason).inc()

    def route_setting_ignored(self, name: str) -> None:
        """Count a setting of a route that could not be followed. `name`: from a fixed set."""
        self._ignored_settings(name).inc()

    def decided_in_proxy(self, pool: str, chosen: str, reason: str, number: int) -> None:
        """Count `number` decisions taken by the in-proxy filter."""
        self._requests(self._pool(pool), self._pool(chosen), self._reason(reason)).inc(number)

    def in_proxy_written(self, worked: bool) -> None:
        """Count a write of the in-proxy filter."""
        self._filter_writes("written" if worked else "failed").inc()

    def capacities_compared(self, verdicts: Mapping[str, list[str]]) -> None:
        """Set the servers of each pool by verdict; pools that are no longer asked become 0."""
        self._compared |= verdicts.keys()
        for pool in self._compared:
            for verdict in ("equal", "differs", "unknown"):
                self._capacities(pool, verdict).set(verdicts.get(pool, []).count(verdict))

    def exchange_opened(self) -> None:
        """Count an exchange as open."""
        self._in_flight.inc()

    def exchange_ended(self, end: ExchangeEnd) -> None:
        """Count an exchange as ended."""
        self._in_flight.dec()
        self._exchange_ends(end).inc()

    def state_exchanged(self, store: str, worked: bool) -> None:
        """Count an exchange of learned figures with `store`."""
        self._state_exchanges(store, "ok" if worked else "failed").inc()
        if worked:
            self._state_written(store).set_to_current_time()

    def reloaded(self, worked: bool) -> None:
        """Count an attempt to reload the configuration."""
        self._reloads("ok" if worked else "rejected").inc()
        self._reload_worked.set(worked)


def _children(metric: M) -> Callable[..., M]:
    """Return `metric.labels`, cached by values: prometheus_client checks and locks at every call."""
    labels: Callable[..., M] = functools.cache(metric.labels)
    return labels


def requests_by_pool(registry: CollectorRegistry) -> list[dict[str, object]]:
    """Return the request counts in `registry`, for `/state`."""
    return [
        {**sample.labels, "requests": int(sample.value)}
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name == "dualpool_requests_total"
    ]


class _Names:
    """Lets the first `NAMES` names through, so that the number of label values is bounded whoever sends them."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def __call__(self, name: str) -> str:
        if name not in self._known:
            if len(self._known) >= NAMES:
                return "other"
            self._known.add(name)
        return name


def export_learned(registry: CollectorRegistry, snapshot: Callable[[], Snapshot]) -> None:
    """Export what `snapshot` returns at every scrape."""
    registry.register(_Learned(snapshot))


def export_pressure(
    registry: CollectorRegistry,
    levels: Callable[[], Levels],
    questions: Callable[[], Questions],
) -> None:
    """Export at every scrape how full the pools are, and the questions asked about it by source and result."""
    registry.register(_Pressure(levels, questions))


def export_workers(registry: CollectorRegistry, up: Callable[[], int]) -> Callable[[], None]:
    """Export at every scrape how many workers are `up`. Returns the function that counts a replaced worker."""
    replaced = Counter(
        "dualpool_worker_restarts", "Workers replaced because they had died or hung", registry=registry
    )
    Gauge("dualpool_workers_up", "Workers that are healthy", registry=registry).set_function(up)
    return replaced.inc


class _Learned(Collector):
    """Errors of the linear estimator by model, and ratios. `categories.limit` bounds the number of series."""

    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
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
        for entry in learned.get("linear", ()):
            error.add_metric([entry["model"]], entry["error"])
            fitted.add_metric([entry["model"]], entry["samples"])
        for entry in learned.get("ratios", ()):
            values = [entry["model"], entry["category"], entry["basis"]]
            ratio.add_metric(values, entry["bytes_per_token"])
            samples.add_metric(values, entry["samples"])
        return ratio, samples, error, fitted


class _Pressure(Collector):
    """How full the pools are. Labels are bounded: pools come from the configuration."""

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
