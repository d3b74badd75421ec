"""The feature vector: what of a prompt its token count is estimated from.

One layout for every estimator, because it travels in `Observation`: bytes of the text by class, bytes of tool
definitions, messages. Bytes of UTF-8 fall into classes by value alone, so one pass over the text counts them.
"""

import numpy as np

from extproc.body.facts import Item

BYTE_CLASSES: dict[str, str | range] = {
    "lower": "abcdefghijklmnopqrstuvwxyz",
    "upper": "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "digit": "0123456789",
    "space": " ",
    "line": "\n\r\t",
    "prose_punctuation": ".,'-?!:;",
    "code_punctuation": '"#$%&()*+/<=>@[\\]^_`{|}~',
    "latin_lead": range(0xC2, 0xCE),
    "two_byte_lead": range(0xCE, 0xE0),
    "indic_lead": range(0xE0, 0xE3),
    "cjk_lead": range(0xE3, 0xF0),
    "four_byte_lead": range(0xF0, 0xF8),
    "continuation": range(0x80, 0xC0),
}
"""Byte values of each class; what is in none of them (control characters) counts as `line`."""

NAMES = (*BYTE_CLASSES, "tool_bytes", "messages")
"""The layout: `features[i]` is the number of `NAMES[i]` in the prompt."""

CLASSES = len(BYTE_CLASSES)
MESSAGES = NAMES.index("messages")


def _table() -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """The 256 × CLASSES matrix of ones and zeros that sums a byte histogram into classes."""
    names = list(BYTE_CLASSES)
    table = np.zeros((256, CLASSES), np.int64)
    for column, members in enumerate(BYTE_CLASSES.values()):
        values = members.encode() if isinstance(members, str) else members
        table[list(values), column] = 1
    table[table.sum(axis=1) == 0, names.index("line")] = 1
    return table


_TABLE = _table()


def features(item: Item) -> tuple[float, ...]:
    """Return the feature vector of one prompt, laid out as `NAMES`."""
    histogram = np.bincount(np.frombuffer(item.text, np.uint8), minlength=256)
    return (*(histogram @ _TABLE).tolist(), len(item.tools), item.messages)


def text_bytes(features: tuple[float, ...]) -> float:
    """Bytes of text and tool definitions in `features`."""
    return sum(features[: CLASSES + 1])


def total(parts: tuple[tuple[float, ...], ...]) -> tuple[float, ...]:
    """Sum the feature vectors of a batch, column by column."""
    return tuple(map(sum, zip(*parts, strict=True)))
