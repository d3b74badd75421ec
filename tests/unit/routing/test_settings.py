"""A route's settings take the place of the configuration's, for its own requests and no others."""

import json

import pytest

from extproc.budget.learner import new_budgeter, new_learner
from extproc.config import Config
from extproc.routing.router import Head, Router
from extproc.routing.settings import NO_SETTINGS, RouteSettings

CONFIG = Config.model_validate(
    {
        "pools": {
            "default": [{"name": "short", "capacity": 1000}, {"name": "long", "capacity": 100_000}],
            "three": [
                {"name": "tiny", "capacity": 100},
                {"name": "middle", "capacity": 1000},
                {"name": "vast", "capacity": 50_000},
            ],
        },
        "models": {"tiny-model": "three"},
    }
)
HEAD = Head(method="POST", path="/v1/chat/completions")


def body(words: int, model: str = "m", cap: int | None = 10) -> bytes:
    request = {"model": model, "messages": [{"role": "user", "content": "word " * words}], "max_tokens": cap}
    return json.dumps(request).encode()


@pytest.fixture
def router() -> Router:
    return Router(CONFIG, new_budgeter(CONFIG, new_learner(CONFIG)))


def test_pool_set(router: Router) -> None:
    """A route's pool set is used whatever the model, and its largest pool takes what is not understood."""
    settings = RouteSettings(pools="three")
    assert router.decide(HEAD, body(100), True, settings).pool.name == "middle"
    assert router.decide(HEAD, body(100, "tiny-model"), True, RouteSettings(pools="default")).pool.name == "short"
    assert router.decide(HEAD, b"not json", True, settings).pool.name == "vast"
    assert router.default_pool(settings).name == "vast"
    assert router.default_pool().name == "long"


def test_oversized(router: Router) -> None:
    """A body too long to be parsed goes to the largest pool of the route's set."""
    decision = router.decide(HEAD, body(100_000), True, RouteSettings(pools="three"))
    assert (decision.pool.name, decision.reason) == ("vast", "oversized")


def test_threshold(router: Router) -> None:
    """A threshold moves requests to the next pool; the capacity stays what the observation says."""
    settings = RouteSettings(thresholds={"short": 100})
    assert router.decide(HEAD, body(100), True).pool.name == "short"
    assert router.decide(HEAD, body(100), True, settings).pool.name == "long"
    small = router.decide(HEAD, body(1), True, settings)
    assert small.pool.name == "short"
    assert small.observation is not None
    assert small.observation.capacity == 1000


def test_threshold_never_raises_a_capacity(router: Router) -> None:
    """A threshold above a pool's capacity (another set's pool may have that name) changes nothing."""
    settings = RouteSettings(thresholds={"short": 90_000})
    assert router.decide(HEAD, body(1000), True, settings).pool.name == "long"


def test_shadow_and_rollout(router: Router) -> None:
    """Shadow mode and roll-out can be set for one route, on and off."""
    assert router.decide(HEAD, body(1), True, RouteSettings(shadow=True)).reason == "shadow"
    assert router.decide(HEAD, body(1), True, RouteSettings(rollout_percent=0.0)).reason == "rollout"
    assert router.decide(HEAD, body(1), True, NO_SETTINGS).reason == "fits"


def test_default_output(router: Router) -> None:
    """A route's default output is reserved for requests without a cap, which go long without it."""
    assert router.decide(HEAD, body(1, cap=None), True).reason == "no_output_cap"
    decision = router.decide(HEAD, body(1, cap=None), True, RouteSettings(default_output=50))
    assert decision.pool.name == "short"
    assert decision.reserve is not None
    assert (decision.reserve.tokens, decision.reserve.source) == (50, "default")


def test_category(router: Router) -> None:
    """A route's category is what its requests are learned under."""
    observation = router.decide(HEAD, body(1), True, RouteSettings(category="batch")).observation
    assert observation is not None
    assert observation.category == "batch"


def test_a_route_may_act_where_the_configuration_does_not() -> None:
    """Shadow mode and roll-out are the route's own where it says anything: one route may go ahead of the others."""
    config = CONFIG.model_copy(
        update={"routing": CONFIG.routing.model_copy(update={"shadow": True, "rollout_percent": 0.0})}
    )
    router = Router(config, new_budgeter(config, new_learner(config)))
    assert router.decide(HEAD, body(1), True).reason == "shadow"
    assert router.decide(HEAD, body(1), True, RouteSettings(shadow=False)).reason == "rollout"
    assert router.decide(HEAD, body(1), True, RouteSettings(shadow=False, rollout_percent=100.0)).reason == "fits"
