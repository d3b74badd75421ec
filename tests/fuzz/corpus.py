"""The kept corpus: small inputs worth trying every time, by target; what once broke something is added here.

One file an input, under `corpus/TARGET/`. A run replays each of them before it makes new ones of them.
"""

import hashlib
from pathlib import Path

PLACE = Path(__file__).parent / "corpus"

LONGEST = 64 * 1024
"""Bytes of an input that is kept; a find that takes more is reported, and for a person to make small."""


def kept(target: str, place: Path = PLACE) -> list[bytes]:
    """Return the inputs kept for `target`, in the order of their names."""
    return [file.read_bytes() for file in sorted((place / _folder(target)).glob("*"))]


def keep(target: str, data: bytes, place: Path = PLACE) -> Path | None:
    """Keep a find, under a name of its own; return its file, None when it is too long."""
    if len(data) > LONGEST:
        return None
    file = place / _folder(target) / f"find-{hashlib.sha256(data).hexdigest()[:12]}"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return file


def _folder(target: str) -> str:
    return target.replace(" ", "-")
