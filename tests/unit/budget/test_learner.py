"""Rules of `extproc.budget.learner`."""

from typing import Any

import pytest

from extproc.body.usage import Usage
from extproc.budget.learner import Learner, new_learner
from extproc.budget.linear import LinearEstimator
from extproc.budget.output import OutputReserve
from extproc.budget.ratio import RatioEstimator
from extproc.config import Config, Estimation, Output
from tests.unit.budget.test_ratio import observation


@pytest.mark.parametrize(
    ("changes", "verdict", "ratios", "lengths"),
    [
        ({}, "used", 3, 3),
        ({"usage": None}, "no_usage", 0, 0),
        ({"basis": "tokens"}, "exact", 0, 3),
        ({"teaches": False}, "not_text", 0, 3),
        ({"usage": Usage(1, 50)}, "implausible", 0, 0),
        ({"usage": Usage(250, 10**6)}, "implausible", 0, 0),
        ({"usage": Usage(None, 50)}, "no_usage", 0, 0),
        ({"features": (1000.0,) * 20}, "unparsable", 0, 0),  # another version's
        ({"outcome": "rejected"}, "used", 3, 3),
        ({"cap": 10}, "used", 3, 0),
    ],
)
def test_what_an_answer_teaches(changes: dict[str, Any], verdict: str, ratios: int, lengths: int) -> None:
    """Only text moves a ratio, and a completion without a cap the reserve: both only with plausible usage."""
    learner = Learner(RatioEstimator(Estimation(), 16), OutputReserve(Output(), 16))
    assert learner.learn(observation(204, **changes)) == verdict
    snapshot = learner.snapshot()
    assert (len(snapshot["ratios"]), len(snapshot["output"])) == (ratios, lengths)


def test_without_a_model_an_answer_counts_once() -> None:
    """Where the model's key and the global one are the same, it is taught once."""
    learner = Learner(RatioEstimator(Estimation(), 16), OutputReserve(Output(), 16))
    learner.learn(observation(250, model=""))
    assert {key: sums.samples for key, sums in learner.export().items() if not key[-1]} == {
        ("ratio", "text", "", ""): 1,
        ("output", "", ""): 1,
    }


def test_whatever_may_move_a_figure_is_a_change() -> None:
    """An answer that teaches, and figures that come from elsewhere; not one that says nothing."""
    learner = new_learner(Config())
    seen = [learner.changes]
    learner.learn(observation(None))
    assert learner.changes == seen[0]
    for change in (
        lambda: learner.learn(observation(80)),
        lambda: learner.adopt({}),
        lambda: learner.rebuild(learner.estimator, learner.output, learner.limit),
    ):
        change()
        seen.append(learner.changes)
    assert len(set(seen)) == 4


def test_an_outlier_teaches_how_long_answers_are() -> None:
    """Its prompt is out of the ordinary; its completion is one like others."""
    learner = Learner(RatioEstimator(Estimation(min_samples=1), 16), OutputReserve(Output(), 16))
    verdicts = [learner.learn(observation(tokens)) for tokens in (204, 104)]
    assert verdicts == ["used", "outlier"]
    assert learner.export()["output", "", ""].samples == 2


def test_as_much_is_shared_as_is_learned() -> None:
    """No figure that a learner has room for is lost on its way through a store."""
    learner = new_learner(Config.model_validate({"categories": {"limit": 4}}), ("file",))
    for number in range(12):
        for basis in ("text", "raw"):
            learner.learn(observation(250, model=f"m{number}", category=f"c{number}", basis=basis))
    known = learner.export()
    assert len(known) > 4 * 4
    learner.settle("file", learner.offer("file").whole)
    assert learner.export().keys() == known.keys()


@pytest.mark.parametrize("basis", ["text", "raw"])
def test_without_a_model_an_error_counts_once(basis: str) -> None:
    """Of the linear estimator too, where errors set the margin."""
    learner = Learner(LinearEstimator(Estimation(), 16), OutputReserve(Output(), 16))
    learner.learn(observation(250, model="", basis=basis))
    assert {sums.samples for sums in learner.export().values()} == {1}
