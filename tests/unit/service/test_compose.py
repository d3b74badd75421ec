"""What lives on from one configuration to the next."""

import json

from prometheus_client import CollectorRegistry

from extproc.config import Config
from extproc.metrics import Metrics
from extproc.routing.router import Head
from extproc.service.compose import compose

CHAT = Head(method="POST", path="/v1/chat/completions")


def body(size: int) -> bytes:
    return json.dumps({"messages": [{"content": "word " * size}], "max_tokens": 1, "user": "u"}).encode()


def test_a_conversation_that_has_gone_long_stays_long_after_a_reload() -> None:
    """Every step of a roll-out is a reload: none is to send conversations back."""
    config = Config.model_validate({"routing": {"sticky_long": True}})
    metrics = Metrics(CollectorRegistry())
    before = compose(config, metrics)
    assert before.router.decide(CHAT, body(10_000), whole=True).pool.name == "long"
    after = compose(config.model_copy(deep=True), metrics, before.learner, pools=before.pools)
    assert after.router.decide(CHAT, body(1), whole=True).reason == "sticky"
