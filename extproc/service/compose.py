"""Builds everything that depends on the configuration, as a whole and anew whenever the configuration changes."""

import msgspec
from prometheus_client import CollectorRegistry

from extproc.budget.learner import Learner, go_on, new_budgeter, new_learner
from extproc.config import Config
from extproc.metrics import Metrics, requests_by_pool
from extproc.routing.in_flight import InFlight
from extproc.routing.router import Router, Sticky, new_sticky
from extproc.routing.spillover import Board
from extproc.service.context import Context
from extproc.service.messages import RoutingReplies
from extproc.service.route_settings import RouteSettingsReader
from extproc.service.watch import described


class PoolState(msgspec.Struct, frozen=True):
    """What changes about the pools while requests pass.

    `board`: how full they are. `in_flight`: the service's own count of the requests in them. `sticky`:
    conversations that have gone to the largest pool.
    """

    board: Board
    in_flight: InFlight
    sticky: Sticky = msgspec.field(default_factory=new_sticky)


class Core(msgspec.Struct, frozen=True):
    """Everything that decides under one configuration. `learner` and `pool_state` outlive it."""

    config: Config
    learner: Learner
    pool_state: PoolState
    router: Router
    context: Context


STARTED = ("server", "state", "in_proxy")
"""Sections that are read at the start only: a change to them takes a restart."""


def compose(
    config: Config,
    metrics: Metrics,
    learner: Learner | None = None,
    stores: tuple[str, ...] = (),
    pool_state: PoolState | None = None,
) -> Core:
    """Build what `config` asks for. A `learner` that is given goes on with what it has learned.

    `stores`: names of the stores that a new learner will be synced with. `pool_state`: by default nothing is known
    of any pool.
    """
    pool_state = pool_state or PoolState(Board(), InFlight(""))
    if learner is None:
        learner = new_learner(config, stores)
    else:
        go_on(learner, config)
    # The board holds what was judged before a reload turned spillover off, until the next look clears it.
    board = pool_state.board if config.spillover.enabled else None
    router = Router(config, new_budgeter(config, learner), board, pool_state.sticky)
    counted = config.spillover.enabled and bool(config.spillover.requests)
    if not counted:  # else requests that end meanwhile would seem to be in their pools, should this change again
        pool_state.in_flight.forget()
    context = Context(
        router=router,
        learner=learner,
        metrics=metrics,
        replies=RoutingReplies(config.routing.header),
        route_settings=RouteSettingsReader(config.pools),
        pool_names=frozenset(pool.name for members in config.pools.values() for pool in members),
        category_header=config.categories.header if "header" in config.categories.sources else None,
        conversation_header=config.routing.conversation_header,
        answers_percent=config.estimation.answers_percent,
        in_flight=pool_state.in_flight if counted else None,
    )
    return Core(config, learner, pool_state, router, context)


def describe(core: Core, registry: CollectorRegistry) -> dict[str, object]:
    """Return the content of `/state`: pools, the request counts in `registry` and everything learned."""
    config = core.config
    return {
        "pools": {
            name: [{"name": p.name, "capacity": p.capacity} for p in pools] for name, pools in config.pools.items()
        },
        "models": config.models,
        "shadow": config.routing.shadow,
        "rollout_percent": config.routing.rollout_percent,
        "spillover": {"enabled": config.spillover.enabled, "pools": described(core.pool_state.board.levels)},
        "requests": requests_by_pool(registry),
        "learned": core.learner.snapshot(),
    }
