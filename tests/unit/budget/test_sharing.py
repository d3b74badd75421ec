"""Estimators that give and take what was learned."""

import itertools
import math

import pytest

from extproc.body.facts import Item
from extproc.body.usage import Usage
from extproc.budget.features import features
from extproc.budget.learner import Learner, Offer
from extproc.budget.linear import LinearEstimator
from extproc.budget.margin import SIZES, STEPS
from extproc.budget.moments import WIDTH
from extproc.budget.observation import Basis
from extproc.budget.output import BUCKETS, OutputReserve
from extproc.budget.ratio import RatioEstimator
from extproc.budget.sums import Sums, Table, merge
from extproc.config import Estimation, Output
from tests.unit.budget.figures import GLOBAL, figure
from tests.unit.budget.test_ratio import observation

LIMIT = 16


def prompt(size: int) -> tuple[float, ...]:
    return features(Item(text=b"a" * size))


def learner(*stores: str, estimator: type[RatioEstimator | LinearEstimator] = RatioEstimator) -> Learner:
    return Learner(estimator(Estimation(), LIMIT), OutputReserve(Output(), LIMIT), 4 * LIMIT, stores)


def teach(to: Learner, ratio: float, times: int) -> None:
    for _ in range(times):
        to.learn(observation(None, features=prompt(9000), usage=Usage(round(9000 / ratio), 700)))


def ratio(of: Learner) -> float:
    estimate = of.estimator.estimate("m", "latin", "text", prompt(90_000))
    return 90_000 / estimate.tokens


def test_what_is_exported_restores_the_same_estimates() -> None:
    """Nothing that an estimate depends on is lost on the way through the table."""
    first, second = learner(), learner()
    for value in (3.0, 4.5, 4.0):
        teach(first, value, 40)
    second.adopt(first.export())
    for key, sums in first.export().items():
        assert second.export()[key].values == pytest.approx(sums.values)
    assert second.estimator.estimate("m", "latin", "text", prompt(5000)) == first.estimator.estimate(
        "m", "latin", "text", prompt(5000)
    )
    assert second.output.reserve("m", "latin", None) == first.output.reserve("m", "latin", None)


def pending(of: Learner, store: str) -> int:
    return of.offer(store).pending[GLOBAL].samples


def test_what_was_learned_since_is_offered() -> None:
    """Each store is offered what it has not got."""
    one = learner("file", "redis")
    teach(one, 4.0, 3)
    assert pending(one, "file") == 3
    one.settle("file", None)
    teach(one, 4.0, 2)
    assert pending(one, "file") == 2
    assert pending(one, "redis") == 5


@pytest.mark.parametrize("estimator", [RatioEstimator, LinearEstimator])
@pytest.mark.parametrize("basis", ["text", "raw"])
def test_a_prepared_offer_is_the_same(estimator: type[RatioEstimator | LinearEstimator], basis: Basis) -> None:
    """Whatever is learned between two steps, or after the last."""

    def offered(prepared: bool) -> Offer:
        one = learner("file", estimator=estimator)
        learned = [observation(tokens, basis=basis, model=f"m{tokens % 5}") for tokens in range(80, 120)]
        for each in learned[:20]:
            one.learn(each)
        steps = itertools.chain(one.estimator.prepare(), one.output.prepare()) if prepared else iter(())
        for each in learned[20:30]:
            next(steps, None)
            one.learn(each)
        assert len(list(steps)) > 10 or not prepared
        for each in learned[30:]:
            one.learn(each)
        return one.offer("file")

    assert offered(prepared=True) == offered(prepared=False)


@pytest.mark.parametrize("estimator", [RatioEstimator, LinearEstimator])
@pytest.mark.parametrize("basis", ["text", "raw"])
def test_figures_made_ready_are_the_same(estimator: type[RatioEstimator | LinearEstimator], basis: Basis) -> None:
    """Whatever is learned between two steps, or after the last, comes on top of what the store gave, once."""

    def settled(ready: bool) -> tuple[Table, Offer, list[object]]:
        one, other = learner("file", estimator=estimator), learner(estimator=estimator)
        learned = [observation(tokens, basis=basis, model=f"m{tokens % 5}") for tokens in range(80, 140)]
        for each in learned[:20]:
            other.learn(each)
        for each in learned[20:40]:
            one.learn(each)
        table = merge(other.export(), one.offer("file").pending, 4 * LIMIT)
        steps = one.estimator.ready(table) if ready else iter(())
        for each in learned[40:45]:
            next(steps, None)
            one.learn(each)
        assert not ready or estimator is RatioEstimator or len(list(steps)) > 10
        for each in learned[45:48]:
            one.learn(each)
        one.settle("file", table)
        assert sum(sums.samples for key, sums in one.export().items() if key[0] == "output" and key[2]) == 48
        for each in learned[48:]:
            one.learn(each)
        guesses = [one.estimator.estimate(f"m{number}", "latin", basis, prompt(9000)) for number in range(5)]
        return one.export(), one.offer("file"), [*guesses]

    assert settled(ready=True) == settled(ready=False)


@pytest.mark.parametrize("estimator", [RatioEstimator, LinearEstimator])
@pytest.mark.parametrize("basis", ["text", "raw"])
def test_offers_add_up_to_what_is_known(estimator: type[RatioEstimator | LinearEstimator], basis: Basis) -> None:
    """To all kinds of figures: what a store has, with what it is offered next, is what the learner has then."""
    one = learner("file", estimator=estimator)
    for tokens in (240, 250, 260) * 10:
        one.learn(observation(tokens, basis=basis))
    kept = one.offer("file").whole
    one.settle("file", None)
    for tokens in (240, 250, 260) * 10:
        one.learn(observation(tokens, basis=basis))
    offer = one.offer("file")
    assert offer.pending.keys() == offer.whole.keys()
    for key, sums in merge(kept, offer.pending, 4 * LIMIT).items():
        assert sums.samples == offer.whole[key].samples
        assert 0 < sums.keep <= 1
        assert 0 < offer.whole[key].keep <= 1
        assert sums.values == pytest.approx(offer.whole[key].values, rel=0.1)


def test_an_offer_stays_as_it_is_until_it_is_taken() -> None:
    """A store that failed is offered the same again, and what came on top afterwards."""
    one = learner("file")
    teach(one, 4.0, 3)
    offer = one.offer("file")
    teach(one, 4.0, 2)
    assert one.offer("file") == offer
    assert offer.whole[GLOBAL].samples == 3
    one.settle("file", None)
    assert pending(one, "file") == 2


def test_what_was_offered_to_nobody_yet_is_kept_when_common_figures_are_adopted() -> None:
    """A store that was away for long has not got it: it is added to what the store gave."""
    one = learner("redis")
    teach(one, 4.0, 30)
    common = one.offer("redis").whole
    teach(one, 4.0, 5)
    one.offer("redis")  # fails
    one.settle("redis", common)
    assert one.export()[GLOBAL].samples == 35


def test_what_is_learned_during_an_exchange_stays() -> None:
    """Taking over the common figures does not undo what was learned while they were fetched."""
    one = learner("file")
    teach(one, 4.0, 30)
    common = one.offer("file").whole
    teach(one, 4.0, 7)
    one.settle("file", common)
    assert one.export()[GLOBAL].samples == 37
    assert pending(one, "file") == 7


def test_a_copy_settles_everything() -> None:
    """A store that was given all figures has no news to come, whatever it was offered before."""
    one = learner("file")
    teach(one, 4.0, 3)
    one.offer("file")
    teach(one, 4.0, 2)
    assert one.has_news("file")
    assert one.copy("file")[GLOBAL].samples == 5
    one.copied("file", worked=True)
    assert not one.has_news("file")
    assert one.offer("file").pending == {}


@pytest.mark.parametrize(("worked", "news"), [(True, 2), (False, 5)])
def test_what_a_copy_held_is_news_until_it_has_worked(worked: bool, news: int) -> None:
    """What is learned while it is on its way is news in any case."""
    one = learner("file")
    teach(one, 4.0, 3)
    one.copy("file")
    teach(one, 4.0, 2)
    assert one.has_news("file")
    one.copied("file", worked)
    assert pending(one, "file") == news


def test_a_rebuilt_learner_keeps_what_was_learned() -> None:
    """New settings make new estimators; the figures and what is pending are theirs."""
    one = learner("file")
    teach(one, 4.0, 30)
    one.rebuild(RatioEstimator(Estimation(smoothing=0.5), LIMIT), OutputReserve(Output(), LIMIT), 4 * LIMIT)
    assert ratio(one) == pytest.approx(4.0, rel=0.01)
    assert pending(one, "file") == 30


def test_one_absurd_report_moves_the_shared_figures_no_further_than_ones_own() -> None:
    """What is limited here is limited in what others are told too."""
    one = learner("file")
    teach(one, 4.0, 50)
    common = one.offer("file").pending
    one.settle("file", None)
    teach(one, 15.0, 1)
    other = learner()
    other.adopt({key: common[key].then(new) for key, new in one.offer("file").pending.items()})
    assert ratio(other) == pytest.approx(ratio(one), rel=0.005)
    assert ratio(one) < 4.1


@pytest.mark.parametrize(
    "sums",
    [
        figure(10, 0.5, (10.0,)),
        figure(10, 0.5, (0.0, 0.0, 0.0)),
        figure(10, 0.5, (-10.0, -40.0, 160.0)),
        figure(10, 0.5, (10.0, 1e6, 1e11)),
        figure(10, 0.5, (10.0, 40.0, 1e9)),
        figure(10, 0.5, (math.nan, math.nan, math.nan)),
        figure(0, 0.5, (10.0, 40.0, 160.0)),
    ],
)
def test_impossible_figures_are_left_out(sums: Sums) -> None:
    """What cannot have been learned is not believed, wherever it comes from."""
    one = learner()
    keys = [
        GLOBAL,
        ("output", "", ""),
        ("ratio", "odd"),
        ("unheard-of",),
        ("output", "a", "b", "c"),
    ]
    table: Table = dict.fromkeys(keys, sums)
    one.adopt(table)
    assert one.snapshot() == {"ratios": [], "output": []}


@pytest.mark.parametrize(
    ("width", "value"), [(3, -1.0), (BUCKETS, -1.0), (SIZES * STEPS, -1.0), (WIDTH, -1.0), (7, 1.0)]
)
def test_impossible_figures_of_a_linear_estimator_are_left_out(width: int, value: float) -> None:
    """They are neither believed nor passed on; those of kinds that it does not know are passed on as they are."""
    one = learner(estimator=LinearEstimator)
    kinds = ("linear", "linear-errors", "raw-errors", "ratio", "output")
    keys = [(kind, *names) for kind in kinds for names in ((), ("m",), ("m", "n"))]
    table: Table = dict.fromkeys([*keys, ("unheard-of", "m")], figure(10, 0.5, (value,) * width))
    assert len(list(one.ready(table))) > 0
    one.adopt(table)
    assert one.export().keys() == {("unheard-of", "m")}


def test_figures_of_the_other_estimator_are_kept() -> None:
    """They are there when the configuration goes back to it, and in all that is kept and shared meanwhile."""
    one = learner()
    teach(one, 4.0, 30)
    learned = one.export()
    one.rebuild(LinearEstimator(Estimation(), LIMIT), one.output, one.limit)
    assert one.export().keys() >= learned.keys()
    one.rebuild(RatioEstimator(Estimation(), LIMIT), one.output, one.limit)
    assert ratio(one) == pytest.approx(4.0, rel=0.01)


def test_figures_of_a_linear_estimator_are_kept() -> None:
    """The ratio estimator has no use for them."""
    one = learner(estimator=LinearEstimator)
    teach(one, 4.0, 30)
    learned = one.export()
    one.rebuild(RatioEstimator(Estimation(), LIMIT), one.output, one.limit)
    one.rebuild(LinearEstimator(Estimation(), LIMIT), one.output, one.limit)
    assert one.export() == learned


def test_an_offer_that_was_not_taken_is_news() -> None:
    """Though nothing was learned since."""
    one = learner("file")
    one.offer("file")  # of nothing
    assert not one.has_news("file")
    teach(one, 4.0, 3)
    assert one.has_news("file")
    one.offer("file")
    assert one.has_news("file")


def test_a_copy_on_its_way_is_news() -> None:
    """Whether it arrives nobody knows yet."""
    one = learner("file")
    teach(one, 4.0, 3)
    one.copy("file")
    assert one.has_news("file")


def test_a_copy_that_failed_leaves_all_that_it_held_to_be_offered() -> None:
    """The offer that it took the place of, and what a copy before it held."""
    one = learner("file")
    teach(one, 4.0, 3)
    one.offer("file")
    one.copy("file")
    teach(one, 4.0, 2)
    one.copy("file")
    one.copied("file", worked=False)
    assert pending(one, "file") == 5
