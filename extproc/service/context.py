"""What exchanges and the access log work with, under one configuration."""

import random
from collections.abc import Callable
from time import perf_counter

import msgspec

from extproc.budget.learner import Learner
from extproc.metrics import Metrics
from extproc.routing.in_flight import InFlight
from extproc.routing.router import Router
from extproc.service.messages import RoutingAnswers
from extproc.service.route_settings import RouteSettingsReader


class Context(msgspec.Struct, frozen=True):
    """One snapshot: an exchange takes it when its stream opens, the access log with each message.

    `pools`: names of all. `category_header`, `conversation_header`: request headers that are read, None for none.
    `answers_percent`: share of answers that are read once a figure is settled. `in_flight`: where decisions and
    ends are counted, None when nobody wants to know. `clock`: seconds. `draw`: a number from 0 to 1, by which
    answers are sampled.
    """

    router: Router
    learner: Learner
    metrics: Metrics
    answers: RoutingAnswers
    route_settings: RouteSettingsReader
    pools: frozenset[str]
    category_header: str | None
    conversation_header: str | None
    answers_percent: float = 100.0
    in_flight: InFlight | None = None
    clock: Callable[[], float] = perf_counter
    draw: Callable[[], float] = random.random
