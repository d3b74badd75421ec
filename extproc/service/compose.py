"""What one configuration makes: built anew, and as a whole, whenever the configuration changes."""

import msgspec
from prometheus_client import CollectorRegistry

from extproc.budget.learner import Learner, new_budgeter, new_estimator, new_learner, new_output, table_limit
from extproc.config import Config
from extproc.metrics import Metrics, requests_by_pool
from extproc.routing.in_flight import InFlight
from extproc.routing.router import Router, Sticky, new_sticky
from extproc.routing.spillover import Board
from extproc.service.context import Context
from extproc.service.messages import RoutingAnswers
from extproc.service.route_settings import RouteSettingsReader
from extproc.service.watch import described


class Pools(msgspec.Struct, frozen=True):
    """What is known of the pools while requests go on: how full they are, what of it we know by ourselves, and
    which conversations have gone long."""

    board: Board
    in_flight: InFlight
    sticky: Sticky = msgspec.field(default_factory=new_sticky)


class Core(msgspec.Struct, frozen=True):
    """Everything that decides under one configuration. Learner and pools live on from one to the next."""

    config: Config
    learner: Learner
    pools: Pools
    router: Router
    context: Context


STARTED = ("server", "state", "in_proxy")
"""Sections that are in force from the start on: a change takes a restart."""


def compose(
    config: Config,
    metrics: Metrics,
    learner: Learner | None = None,
    stores: tuple[str, ...] = (),
    pools: Pools | None = None,
) -> Core:
    """Build what `config` asks for, around the `learner` there is, which is rebuilt for it.

    `stores`: names of those that a learner made here is to be synced with. `pools`: by default nothing is known of
    them.
    """
    pools = pools or Pools(Board(), InFlight(""))
    if learner is None:
        learner = new_learner(config, stores)
    else:
        limit = config.categories.limit
        estimator = new_estimator(config.estimation, limit)
        learner.rebuild(estimator, new_output(config), table_limit(config))
    router = Router(config, new_budgeter(config, learner), pools.board, pools.sticky)
    context = Context(
        router=router,
        learner=learner,
        metrics=metrics,
        answers=RoutingAnswers(config.routing.header),
        route_settings=RouteSettingsReader(config.pools),
        pools=frozenset(pool.name for members in config.pools.values() for pool in members),
        category_header=config.categories.header if "header" in config.categories.sources else None,
        conversation_header=config.routing.conversation_header,
        answers_percent=config.estimation.answers_percent,
        in_flight=pools.in_flight if config.spillover.enabled and config.spillover.requests else None,
    )
    return Core(config, learner, pools, router, context)


def describe(core: Core, registry: CollectorRegistry) -> dict[str, object]:
    """Return pools, the counts in `registry` and everything learned, as plain values."""
    config = core.config
    return {
        "pools": {
            name: [{"name": p.name, "capacity": p.capacity} for p in pools] for name, pools in config.pools.items()
        },
        "models": config.models,
        "shadow": config.routing.shadow,
        "rollout_percent": config.routing.rollout_percent,
        "spillover": {"enabled": config.spillover.enabled, "pools": described(core.pools.board.levels)},
        "requests": requests_by_pool(registry),
        "learned": core.learner.snapshot(),
    }
