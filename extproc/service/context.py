"""What an exchange and the access log need, under one configuration."""

import random
from collections.abc import Callable
from time import perf_counter

import msgspec

from extproc.budget.learner import Learner
from extproc.metrics import Metrics
from extproc.routing.in_flight import InFlight
from extproc.routing.router import Router
from extproc.service.messages import RoutingReplies
from extproc.service.route_settings import RouteSettingsReader


class Context(msgspec.Struct, frozen=True):
    """One snapshot: an exchange takes it when its stream opens, the access log with each message.

    `replies`: what Envoy is told. `pool_names`: of all pool sets. `category_header`, `conversation_header`: request
    headers to read, None for none. `answers_percent`: share of the pools' answers that are read once a figure is
    settled. `in_flight`: counts decisions and ends, None where spillover has no use for that count. `clock`:
    seconds. `draw`: a random number from 0 to 1, by which answers are sampled.
    """

    router: Router
    learner: Learner
    metrics: Metrics
    replies: RoutingReplies
    route_settings: RouteSettingsReader
    pool_names: frozenset[str]
    category_header: str | None
    conversation_header: str | None
    answers_percent: float
    in_flight: InFlight | None
    clock: Callable[[], float] = perf_counter
    draw: Callable[[], float] = random.random
