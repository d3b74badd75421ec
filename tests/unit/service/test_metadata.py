"""Rules of `extproc.service.metadata`: what is written at the decision is read in the access log, exactly."""

import msgspec
import pytest
from google.protobuf.struct_pb2 import Struct
from hypothesis import given
from hypothesis import strategies as st

from extproc.budget.estimate import Estimate, Reserve
from extproc.budget.features import NAMES
from extproc.budget.observation import Observation
from extproc.config import Pool
from extproc.pb import dualpool_extproc_pb2 as pb
from extproc.routing.decision import Decision
from extproc.service.metadata import metadata, plain, read_observation

COUNT = st.integers(0, 2**31 - 1)
SOME = st.integers(1, 2**31 - 1)
FEATURES = st.lists(st.floats(0, 2**31), min_size=len(NAMES), max_size=len(NAMES)).map(tuple)
OBSERVATIONS = st.builds(
    Observation,
    model=st.text(st.characters(codec="utf-8"), max_size=128),
    category=st.text(st.characters(codec="utf-8"), max_size=64),
    basis=st.sampled_from(("text", "raw", "tokens")),
    features=FEATURES,
    estimate=COUNT,
    cap=st.none() | COUNT,
    prompts=SOME,
    choices=SOME,
    teaches=st.booleans(),
    pool=st.just("short"),
    capacity=SOME,
    largest=st.booleans(),
)
POOL = Pool(name="short", capacity=8192)


def written(decision: Decision) -> Struct:
    """The namespace that Envoy keeps of an answer with this metadata."""
    return pb.ProcessingResponse.FromString(metadata(decision, "")).dynamic_metadata.fields["dualpool"].struct_value


@given(OBSERVATIONS)
def test_round_trip(seen: Observation) -> None:
    """Every observation comes back as it was, the whole feature tuple and each of its bits included."""
    decision = Decision(
        pool=POOL,
        chosen=POOL,
        reason="fits",
        estimate=Estimate(10, 12, "learned"),
        reserve=Reserve(5, "cap"),
        budget=17,
        observation=seen,
    )
    assert read_observation(written(decision).fields) == seen


def test_a_decision_without_facts_has_no_observation() -> None:
    """A body that was not read leaves pool and reason, and nothing to learn."""
    space = written(Decision(pool=POOL, chosen=POOL, reason="not_json"))
    assert {key: value.string_value for key, value in space.fields.items()} == {
        "pool": "short",
        "chosen": "short",
        "reason": "not_json",
    }
    assert read_observation(space.fields) is None


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"model": 1}', '{"outcome": "stolen"}', '{"x":' + "[" * 10_000, 7, None]
)
def test_foreign_metadata_is_no_observation(text: str | float | None) -> None:
    """Whatever else is in the field is not an observation, and no error."""
    space = Struct()
    space.update({"observation": text})
    assert read_observation(space.fields) is None


def test_the_observation_is_plain_json() -> None:
    """Anything that writes JSON can write it: the in-proxy filter does."""
    space = Struct()
    seen = Observation("m", "all", "raw", (9.0, 0.0), 3, None, 1, 1, True, "short", 10, False)
    space.update({"observation": msgspec.json.encode(seen).decode()})
    assert read_observation(space.fields) == seen


def test_what_has_no_plain_value_is_left_out() -> None:
    """Null, lists and objects: none of them is a number, as 0 would be."""
    space = Struct()
    space.update({"a": "text", "b": 1.0, "c": False, "d": None, "e": [1], "f": {"g": 1}})
    assert plain(space) == {"a": "text", "b": 1.0, "c": False}
