"""Learned figures as bytes."""

import hashlib
import math

import msgspec
import pytest

from extproc.budget.budget import MODEL_BYTES
from extproc.budget.learner import KINDS
from extproc.budget.margin import SIZES, STEPS
from extproc.budget.moments import WIDTH
from extproc.budget.output import BUCKETS
from extproc.budget.sums import Key, Table
from extproc.config import Categories
from extproc.state.codec import AGEING_SECONDS, LARGEST, Ageing, BadStateError, Stored, decode, encode, faded
from tests.unit.budget.figures import figure

TABLE: Table = {
    ("ratio", "text", "m", "latin"): figure(40, 0.1, (20.0, 80.0, 330.0)),
    ("output", "", ""): figure(2, 1, (1.0,)),
}
GOOD = encode(TABLE, 1000.0)


def plain(table: Table) -> list[tuple[Key, tuple[int, float, list[float]]]]:
    return [(key, (sums.samples, sums.keep, sums.values.tolist())) for key, sums in table.items()]


def whole(body: bytes) -> bytes:
    """A state whose header fits `body`, whatever that is."""
    checksum = hashlib.sha256(body).hexdigest()
    header = {"format": "dualpool-state", "version": 2, "saved": 5.0, "sha256": checksum}
    return msgspec.json.encode(header) + b"\n" + body


def test_what_was_encoded_is_decoded() -> None:
    """Figures and time come back exactly."""
    assert decode(GOOD) == Stored(TABLE, 1000.0)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not written by this program"),
        (b"\x00\xff\n", "not written by this program"),
        (b"[" * 100_000, "not written by this program"),
        (b'{"some": "json"}', "not written by this program"),
        (GOOD.replace(b"dualpool-state", b"another-thing"), "its format is 'another-thing'"),
        (GOOD.replace(b'"version":2', b'"version":3'), "its version is 3; this program reads version 2"),
        (GOOD[:-1], "torn or altered"),
        (GOOD.replace(b"80.0", b"81.0"), "torn or altered"),
        (whole(b"[1]"), "figures cannot be read"),
        (whole(b"[" * 100_000), "figures cannot be read"),
    ],
)
def test_what_is_not_a_whole_state_is_recognised(data: bytes, reason: str) -> None:
    """Torn, altered, older and foreign bytes each give their reason."""
    with pytest.raises(BadStateError, match=reason):
        decode(data)


def test_a_state_of_the_most_models_is_read() -> None:
    """Each figure at its widest, every number at its longest: what a service writes, its next start reads."""
    model, number = "m" * MODEL_BYTES, 1.2345678901234567e-100
    widths = {"linear": WIDTH, "linear-errors": SIZES * STEPS, "raw-errors": SIZES * STEPS, "output": BUCKETS}
    figures: Table = {(kind, model): figure(2**53, number, (number,) * width) for kind, width in widths.items()}
    figures["ratio", "raw", model, model] = figure(2**53, number, (number,) * 3)
    most = Categories.model_json_schema()["properties"]["limit"]["maximum"]
    assert len(figures) == KINDS
    assert most * len(encode(figures, 1000.0)) < LARGEST


def test_impossible_entries_are_dropped() -> None:
    """An entry that merging could choke on is not written, nor believed when another wrote it."""
    bad: Table = {
        (): figure(1, 1, (1.0,)),
        ("x" * 1000,): figure(1, 1, (1.0,)),
        ("x", "m" * 1000): figure(1, 1, (1.0,)),
        ("a",): figure(0, 1, (1.0,)),
        ("b",): figure(2**60, 1, (1.0,)),
        ("c",): figure(1, 1.5, (1.0,)),
        ("d",): figure(1, 1, (1.7e308 * 10,)),
    }
    assert decode(encode({**bad, **TABLE}, 0.0)).table == TABLE
    body = b"\n".join(map(msgspec.json.encode, plain({**bad, **TABLE}))).replace(b"null", b"1e308")
    assert set(decode(whole(body)).table) == {("d",), *TABLE}


def test_age_fades_confidence_and_keeps_the_figure() -> None:
    """After one half-life a figure counts for half as many observations, and says the same."""
    old = faded(Stored(TABLE, 1000.0), now=1000.0 + 3600, half_life=3600)
    assert old == {
        ("ratio", "text", "m", "latin"): figure(20, 0.1, (10.0, 40.0, 165.0)),
        ("output", "", ""): figure(1, 1, (0.5,)),
    }


@pytest.mark.parametrize(("now", "kept"), [(-1e12, 2), (1e15, 0)])
def test_a_stepped_clock_is_survived(now: float, kept: int) -> None:
    """A clock that went back fades nothing, one that went far ahead everything, and neither is an error."""
    assert len(faded(Stored(TABLE, 1000.0), now, half_life=3600)) == kept


def test_what_a_running_service_keeps_does_not_age() -> None:
    """Only what a start finds fades, by its age then, however often it is read and wherever the clock steps."""
    ageing = Ageing(half_life=3600)
    found, later = Stored(TABLE, 1000.0), Stored(TABLE, 5000.0)
    half = faded(found, 4600.0, 3600)
    assert ageing.aged(found, now=4600.0).table == half != TABLE
    assert ageing.aged(found, now=1e12).table == half
    assert ageing.aged(later, now=1e12).table == TABLE
    assert ageing.aged(later, now=0.0).table == TABLE
    assert ageing.aged(None, now=1e12).table == {}
    assert ageing.aged(Stored(TABLE, 900.0), now=900.0).table == TABLE  # written after the clock was set back


def test_what_comes_after_nothing_does_not_age() -> None:
    """A service that found nothing wrote it itself, or another that runs."""
    ageing = Ageing(half_life=3600)
    assert ageing.aged(None, now=1000.0).table == {}
    assert ageing.aged(Stored(TABLE, 1000.0), now=1e12).table == TABLE


@pytest.mark.parametrize("values", [(1.0, math.inf), (math.nan, 1.0)])
def test_one_value_that_is_no_number_costs_no_other_entry_its_place(values: tuple[float, ...]) -> None:
    """JSON has no word for it: written, it would make the whole state unreadable."""
    assert decode(encode({("e",): figure(1, 1.0, values), **TABLE}, 0.0)).table == TABLE


@pytest.mark.parametrize(("seconds", "samples"), [(AGEING_SECONDS - 0.1, 40), (AGEING_SECONDS, 20)])
def test_figures_of_a_moment_ago_are_as_sure_as_ever(seconds: float, samples: int) -> None:
    """A restart costs nothing of what is known."""
    found = faded(Stored(TABLE, 1000.0), now=1000.0 + seconds, half_life=AGEING_SECONDS)
    assert found["ratio", "text", "m", "latin"].samples == samples
