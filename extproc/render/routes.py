"""Routes: by the header that the decision sets, the largest pool for everything else."""

from extproc.render.answers import READ_ANSWERS, Answers
from extproc.render.layout import Layout, Options
from extproc.render.text import Tree, commented
from extproc.render.typed import any_of, awake

IDLE = "600s"

COMPOSITE_SINCE = (1, 40)
"""Envoy version whose composite cluster passes on the requests of a pool without servers.

That of 1.37 to 1.39 answers 503, and 1.36 has none; an aggregate cluster with a retry priority comes nearest."""


def virtual_host(layout: Layout, options: Options) -> Tree:
    """Return the virtual host that routes to the pools."""
    routes = [_route(layout, name, options) for name in layout.pools if name != layout.default]
    routes += _reading(layout) if options.usage == "access-log" else []
    return {
        "name": "llm",
        "domains": ["*"],
        "# The usage in a compressed answer cannot be read, so none is asked for.": None,
        "request_headers_to_remove": ["accept-encoding"],
        "routes": [*routes, _default(layout, options)],
    }


def retrying_cluster(layout: Layout, pool: str) -> str:
    """Name of the cluster that asks `pool` first and its larger one second."""
    return f"{pool}-then-{layout.larger[pool]}"


def retry_policy(options: Options) -> Tree:
    """Return the retry that turns a misroute into a success."""
    priorities = "envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig"
    skip_tried = {
        "name": "envoy.retry_priorities.previous_priorities",
        "typed_config": any_of(priorities, {"update_frequency": 1}),
    }
    return {
        "# vLLM answers 400 to a request that does not fit. It is retried once, on the larger pool. (The text of "
        "the error is not matched, since it changes.) reset: so is a request whose server died before its answer "
        "began; it is generated again.": None,
        "retry_on": "retriable-status-codes,connect-failure,refused-stream,reset",
        "retriable_status_codes": [400],
        "num_retries": 1,
        "retry_back_off": {"base_interval": "0.001s", "max_interval": "0.001s"},
        **({} if options.envoy >= COMPOSITE_SINCE else {"retry_priority": skip_tried}),
    }


def _route(layout: Layout, pool: str, options: Options) -> Tree:
    refusable = pool in layout.larger
    return {
        "name": pool,
        "match": {"prefix": "/", "headers": [{"name": layout.header, "string_match": {"exact": pool}}]},
        "route": {
            "cluster": retrying_cluster(layout, pool) if refusable else pool,
            "# No limit on how long an answer takes (the default is 15 s), only on silence.": None,
            "timeout": "0s",
            "idle_timeout": IDLE,
            **({"retry_policy": retry_policy(options)} if refusable else {}),
        },
    }


def _reading(layout: Layout) -> list[Tree]:
    """Where requests begin whose answers teach; the filters are chosen by the first route of a request."""
    return commented(
        "# Answers whose usage is read. Others may be of any size and kind, and are left alone.",
        [_read(layout, answers) for answers in READ_ANSWERS],
    )


def _read(layout: Layout, answers: Answers) -> Tree:
    return {
        "name": answers.route,
        "match": {"safe_regex": {"regex": answers.paths}},
        "route": _to_default(layout),
        "typed_per_filter_config": {name: awake() for name in answers.filters},
    }


def _default(layout: Layout, options: Options) -> Tree:
    away = "" if options.exchange == "in-proxy" else ", and everything while Dualpool is away"
    return {
        f"# Everything else{away}: the pool that holds it all.": None,
        "name": layout.default,
        "match": {"prefix": "/"},
        "route": _to_default(layout),
    }


def _to_default(layout: Layout) -> Tree:
    return {"cluster": layout.default, "timeout": "0s", "idle_timeout": IDLE}
