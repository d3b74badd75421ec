"""A tenth of `make fuzz`, spread over the workers that run the tests."""

import random
from pathlib import Path

import pytest

from tests.fuzz import corpus, run
from tests.fuzz.corpus import LONGEST, PLACE, keep, kept
from tests.fuzz.run import REPLAYS, fuzz
from tests.fuzz.targets import Target, targets

pytestmark = pytest.mark.no_cover  # thousands of inputs: tracing each line would double the time


@pytest.mark.parametrize("seed", range(10))
def test_no_input_raises_and_none_is_slow(seed: int) -> None:
    """Whatever comes from outside, nothing is raised and no decision takes more than 50 ms of thread CPU time."""
    found = fuzz(10_000, seed)
    assert found.failures == []
    assert found.slow == 0


def test_every_target_has_a_corpus() -> None:
    """Of small inputs, and no folder is of a target that is no more."""
    found = {target.name: kept(target.name) for target in targets()}
    assert all(found.values())
    assert max(len(data) for each in found.values() for data in each) <= LONGEST
    assert {name.replace(" ", "-") for name in found} == {folder.name for folder in PLACE.iterdir()}


def test_a_find_is_kept_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it has broken something, every run begins with it; one too long to keep is only told."""
    monkeypatch.setattr(run, "kept", lambda name: corpus.kept(name, tmp_path))
    tried: list[bytes] = []

    def broken(data: bytes, _: random.Random) -> None:
        tried.append(data)
        if b"bad" in data:
            raise ValueError("bad")

    target = Target("a target", broken, [b"good"], share=1.0)
    assert fuzz(0, 1, [target]).failures == []
    assert keep("a target", b"so bad", tmp_path) is not None
    assert fuzz(0, 1, [target]).failures == [("a target", b"so bad", "ValueError('bad')")] * REPLAYS
    assert tried == [b"so bad"] * REPLAYS
    assert keep("a target", b"x" * (LONGEST + 1), tmp_path) is None
