"""Hands the configuration in force from the supervisor to the workers that it starts.

A worker that replaces another must not read the configuration file itself: by then it may be half edited, or ask
for another address.
"""

from typing import Any

import msgspec

from extproc.config import Config
from extproc.service.workers import SharedDirectory
from extproc.state.atomic import Signature, replace


class _Start(msgspec.Struct, frozen=True):
    config: dict[str, Any]
    seen: Signature | None


def hand_over(shared: SharedDirectory, config: Config, seen: Signature | None) -> None:
    """Write the configuration for workers to start from. Raises `OSError`.

    `seen`: the version of the configuration file that was read last, accepted or not. Only the owner may read what
    is written: it holds the password of Redis.
    """
    tree = config.model_dump(mode="json")
    if config.state.redis is not None and config.state.redis.password is not None:
        tree["state"]["redis"]["password"] = config.state.redis.password.get_secret_value()
    replace(shared.start, msgspec.json.encode(_Start(tree, seen)), mode=0o600)


def take_over(shared: SharedDirectory) -> tuple[Config, Signature | None]:
    """Return the configuration to start from, and the version of the file read last. Raises `OSError`."""
    start = msgspec.json.decode(shared.start.read_bytes(), type=_Start)
    return Config.model_validate(start.config), start.seen
