"""Rules of `extproc.service.in_proxy`: what the filter goes by, and how that is written."""

import pytest

from extproc.body.facts import Item
from extproc.budget.features import features
from extproc.budget.learner import TURN, new_learner
from extproc.config import Config
from extproc.service.in_proxy import Figures, collect, figures, program, read, written
from tests.unit.budget.test_ratio import observation


def test_a_row_is_written_where_it_says_something_of_its_own() -> None:
    """Many categories cost nothing until one of them is learned, and then the model's own row is not repeated."""
    allowed = [f"category-{number}" for number in range(64)]
    sections = {"sources": ["header", "model"], "allowed": allowed}
    config = Config.model_validate({"categories": sections, "estimation": {"min_samples": 2}})
    learner = new_learner(config)
    raw = features(Item(raw=4000))
    for model, category, tokens in (("m", "all", 1000), ("m", "all", 1000), ("m", "category-7", 500)) * 2:
        learner.learn(observation(tokens, basis="raw", features=raw, model=model, category=category, cap=5))
    values = figures(config, learner)
    assert {category: set(rows) for category, rows in values["figures"].items() if rows} == {
        "all": {"m"},
        "category-7": {"m"},
    }
    assert len(program(values)) < len(program(figures(config, new_learner(config)))) + 1000


def test_requests_get_a_turn_between_rows() -> None:
    """However many models there are: a service with thousands of adapters collects for half a second."""
    config = Config.model_validate({"categories": {"limit": 256}})
    learner = new_learner(config)
    for number in range(10 * TURN):
        model = f"adapter-{number}"
        learner.learn(observation(1000, basis="raw", features=features(Item(raw=4000)), model=model, cap=5))
    values: Figures = {}
    assert sum(1 for _ in collect(values, config, learner)) >= 10
    assert values == figures(config, learner)


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{}", b'{"resources": []}', b"\xff", b'{"resources": [{"typed_config": 1}]}', b"[" * 9999],
)
def test_what_is_no_filter_of_ours_holds_no_figures(content: bytes) -> None:
    """Nor does one whose program somebody has changed."""
    assert read(content) is None
    config = Config()
    good = written(figures(config, new_learner(config)))
    assert read(good) == figures(config, new_learner(config))
    assert read(good.replace(b"function decide", b"function dicide")) is None


def test_a_fresh_filter_knows_the_priors() -> None:
    """The seed decides by the configuration alone."""
    config = Config.model_validate({"estimation": {"prior_bytes_per_token": 2.5}, "models": {"m": "default"}})
    values = figures(config, new_learner(config))
    assert values["figures"] == {"all": {}}  # none has figures of its own
    assert values["of_models"] == {}
    assert values["others"]["careful"] == 2.5
    assert values["others"]["reserve_source"] == "unknown"


def test_text_cannot_leave_its_quotes() -> None:
    """A model's name is data in the program, whatever it is made of."""
    written = program({"model": 'x"] = os.exit() --\n', "other": "x\\"})
    assert '"x\\034] = os.exit() --\\010"' in written
