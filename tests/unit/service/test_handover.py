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
