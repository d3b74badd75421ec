"""What a worker starts from."""

from pathlib import Path

from extproc.config import Config
from extproc.service.handover import hand_over, take_over
from extproc.service.workers import SharedDirectory


def test_a_configuration_arrives_whole(tmp_path: Path) -> None:
    """With its password, and with the file that was looked at last."""
    redis = {"url": "redis://host", "password": "secret"}
    config = Config.model_validate({"state": {"redis": redis}, "routing": {"shadow": True}})
    shared = SharedDirectory(tmp_path)
    for seen in ((1, 2, 3, 4), None):
        hand_over(shared, config, seen)
        assert take_over(shared) == (config, seen)
        assert shared.start.stat().st_mode & 0o077 == 0


def test_what_is_left_at_its_default_arrives_too(tmp_path: Path) -> None:
    """A worker is told of all sections, and finds no fault in those that nobody has written."""
    config = Config.model_validate({"routing": {"header": "x-token-category"}})
    hand_over(SharedDirectory(tmp_path), config, None)
    assert take_over(SharedDirectory(tmp_path)) == (config, None)
