"""Learners that share what they learn, whatever the order in which they learn, are asked, and exchange."""

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extproc.body.facts import Item
from extproc.body.usage import Usage
from extproc.budget.features import features, text_bytes
from extproc.budget.learner import Learner, new_learner
from extproc.budget.observation import Basis
from extproc.budget.sums import Key
from extproc.config import Config
from extproc.state.codec import Stored
from extproc.state.store import updated
from tests.unit.budget.test_ratio import observation

pytestmark = pytest.mark.no_cover  # thousands of observations: tracing each line would double the time

PROMPTS: list[tuple[Basis, tuple[float, ...]]] = [
    ("text", features(Item(text=b"The quick brown fox jumps over the lazy dog. " * 300, messages=1))),
    ("text", features(Item(text=b"def f(x):\n    return [y**2 for y in range(x)]\n" * 300, messages=2))),
    ("raw", features(Item(raw=20_000))),
]

steps = st.lists(
    st.tuples(
        st.integers(0, 2),  # who
        st.sampled_from(["m", "n"]),  # of which model
        st.integers(0, 150),  # learns so many answers
        st.sampled_from(["exchanges", "fails to", "does not"]),
    ),
    max_size=6,
)


def teach(one: Learner, model: str, draw: random.Random) -> None:
    """Be asked for an estimate, then learn from the answer."""
    basis, vector = draw.choice(PROMPTS)
    one.estimator.estimate(model, "latin", basis, vector)
    usage = Usage(round(text_bytes(vector) / draw.gauss(4.0, 0.3)), draw.randint(1, 2000))
    one.learn(observation(None, model=model, basis=basis, features=vector, usage=usage))


def exchange(one: Learner, kept: Stored) -> Stored:
    """Do as `Sync` with a store that holds `kept`; return what it holds then."""
    offer = one.offer("store")
    kept = updated(kept, offer.pending, offer.whole, one.limit, kept.lineage, 0.0) or kept
    for _ in one.ready(kept.table):
        pass
    one.settle("store", kept.table)
    return kept


def samples(of: Learner) -> dict[Key, int]:
    return {key: sums.samples for key, sums in of.export().items()}


def tokens(of: Learner) -> list[int]:
    """Estimates, and reserves for output, of known models and of another."""
    found = []
    for model in ("m", "n", "another"):
        found.append(of.output.reserve(model, "latin", None).tokens)
        for basis, vector in PROMPTS:
            estimate = of.estimator.estimate(model, "latin", basis, vector)
            found += [estimate.tokens, estimate.upper]
    return found


@pytest.mark.parametrize("estimator", ["linear", "ratio"])
@settings(max_examples=30)
@given(steps, st.integers(0, 99))
def test_all_end_with_what_all_have_learned(
    estimator: str, taken: list[tuple[int, str, int, str]], seed: int
) -> None:
    """No answer is lost or counted twice, and all decide alike, as does who starts from the store."""
    draw = random.Random(seed)
    config = Config.model_validate({"estimation": {"estimator": estimator}})
    learners = [new_learner(config, ("store",)) for _ in range(3)]
    kept, learned = Stored({}, 0.0), Counter[str]()
    for who, model, answers, then in taken:
        for _ in range(answers):
            teach(learners[who], model, draw)
        learned[model] += answers
        if then == "fails to":
            learners[who].offer("store")
        elif then == "exchanges":
            kept = exchange(learners[who], kept)
    for one in learners * 3:  # an offer that failed, then what came after it, then to all what all have learned
        kept = exchange(one, kept)
    started = new_learner(config)
    started.adopt(kept.table)
    known = samples(started)
    assert {model: known.get(("output", model, ""), 0) for model in learned} == learned
    for one in learners:
        assert samples(one) == known
        assert tokens(one) == pytest.approx(tokens(started), abs=1)  # sums differ by rounding
