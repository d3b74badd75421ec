"""What the supervisor hands a worker to start from: the configuration in force, whatever the file holds by now.

A worker that dies is replaced while its file may be half edited or ask for another address; its successor is to be
what it was.
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
    """Write what workers start from. `seen`: the file that was looked at last, accepted or not. Raises `OSError`.

    The file is its owner's alone: the password of Redis is in it.
    """
    tree = config.model_dump(mode="json")
    if config.state.redis is not None and config.state.redis.password is not None:
        tree["state"]["redis"]["password"] = config.state.redis.password.get_secret_value()
    replace(shared.start, msgspec.json.encode(_Start(tree, seen)), mode=0o600)


def take_over(shared: SharedDirectory) -> tuple[Config, Signature | None]:
    """Return the configuration to start from, and the file that was looked at last. Raises `OSError`."""
    start = msgspec.json.decode(shared.start.read_bytes(), type=_Start)
    return Config.model_validate(start.config), start.seen
