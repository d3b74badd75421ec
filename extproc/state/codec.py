"""Learned figures as bytes: a header line, then a line for each figure.

Figures are decoded line by line, since decoding one large JSON document would hold up requests.

The header is a JSON object with the format, its version, when it was written (seconds since 1970) and the SHA-256
of everything after the line break. It is checked before the rest is decoded, so that a state which was cut short,
altered, or written by another version or program is recognised.
"""

import hashlib
import io
import math
from collections.abc import Mapping

import msgspec
import numpy as np

from extproc.budget.sums import Key, Sums, Table

FORMAT = "dualpool-state"
VERSION = 2

LARGEST = 256 * 1024 * 1024
"""Bytes of the largest state that is read. One of ours has some 28 kB for each of at most 4,096 models."""

AGEING_SECONDS = 60.0
"""A service that runs writes its figures again at this interval, even if nothing is new, since what it knows does
not age. Figures older than this at a start have been left alone, and fade by their age."""

MOST_SAMPLES = 2**53
LONGEST_KEY_PART = 256


class BadStateError(Exception):
    """Bytes are not a state that this version can read. The message says why."""


class _Header(msgspec.Struct, omit_defaults=True):
    format: str
    version: int
    saved: float
    sha256: str
    lineage: str = ""
    writers: dict[str, int] = {}


class Stored(msgspec.Struct, frozen=True):
    """A state as it was stored.

    `saved`: when, in seconds since 1970. `writers`: by replica, the number of the last offer that it merged into
    the state. `lineage`: a name that a state begun anew would not have; "" for one written by `calibrate`.
    """

    table: Table
    saved: float
    writers: dict[str, int] = {}
    lineage: str = ""


_header = msgspec.json.Decoder(_Header)
_entry = msgspec.json.Decoder(tuple[Key, tuple[int, float, list[float]]])


def encode(table: Table, now: float, writers: Mapping[str, int] | None = None, lineage: str = "") -> bytes:
    """Return `table` as bytes, without entries that `decode` would not accept. `now`: seconds since 1970."""
    body = b"\n".join(_line(key, sums) for key, sums in table.items() if _possible(key, sums))
    header = _Header(FORMAT, VERSION, now, hashlib.sha256(body).hexdigest(), lineage, dict(writers or {}))
    return msgspec.json.encode(header) + b"\n" + body


def decode(data: bytes) -> Stored:
    """Read what `encode` wrote. Raises `BadStateError` for any other bytes."""
    if len(data) > LARGEST:
        raise BadStateError(f"it is longer than {LARGEST} bytes")
    first, _, body = data.partition(b"\n")
    try:
        header = _header.decode(first)
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise BadStateError("it was not written by this program, or is damaged at its beginning") from None
    if header.format != FORMAT:
        raise BadStateError(f"its format is {header.format[:64]!r}, not {FORMAT!r}")
    if header.version != VERSION:
        raise BadStateError(f"its version is {header.version}; this program reads version {VERSION}")
    if hashlib.sha256(body).hexdigest() != header.sha256:
        raise BadStateError("it is torn or altered: its checksum is wrong")
    try:
        entries = map(_entry.decode, io.BytesIO(body))
        figures = ((key, Sums(samples, keep, np.array(values))) for key, (samples, keep, values) in entries)
        table = {key: sums for key, sums in figures if _possible(key, sums)}
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise BadStateError("its figures cannot be read") from None
    return Stored(table, header.saved, header.writers, header.lineage)


def _line(key: Key, sums: Sums) -> bytes:
    return msgspec.json.encode((key, (sums.samples, sums.keep, sums.values.tolist())))


def _possible(key: Key, sums: Sums) -> bool:
    """Whether an entry can be merged. Whether its figures make sense is for the estimator to judge."""
    return (
        0 < len(key) <= 8
        and all(len(part) <= LONGEST_KEY_PART for part in key)
        and 0 < sums.samples <= MOST_SAMPLES
        and 0 <= sums.keep <= 1
        and bool(np.isfinite(sums.values).all())
    )


def faded(stored: Stored, now: float, half_life: float) -> Table:
    """Return the figures of `stored`, faded by age: samples and sums halve every `half_life` seconds.

    Means stay as they are, but weigh less against new observations; below `min_samples` a more general figure takes
    their place. Nothing fades before `AGEING_SECONDS`, nor when the clock has gone back.
    """
    if now - stored.saved < AGEING_SECONDS:
        return stored.table
    factor = 0.5 ** ((now - stored.saved) / half_life)
    table: Table = {}
    for key, sums in stored.table.items():
        samples = round(sums.samples * factor)
        if samples > 0:
            table[key] = Sums(samples, sums.keep, factor * sums.values)
    return table


class Ageing:
    """Fades the state found at the start of the process, by its age at that time.

    A state written later comes from a service that runs, and does not age: neither while there is nothing to learn,
    nor when the clock steps.
    """

    def __init__(self, half_life: float) -> None:
        """`half_life`: seconds after which figures count half."""
        self._half_life = half_life
        self._found: tuple[float, float] | None = None

    def aged(self, stored: Stored | None, now: float) -> Stored:
        """Return `stored`, faded if it is the one found at the start; empty for None. `now`: seconds since 1970."""
        if self._found is None:
            self._found = (math.nan if stored is None else stored.saved, now)
        if stored is None:
            return Stored({}, now)
        saved, started = self._found
        if stored.saved != saved:
            return stored
        return msgspec.structs.replace(stored, table=faded(stored, started, self._half_life))
