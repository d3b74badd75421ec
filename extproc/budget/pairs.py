"""Tables of what each pair of neighbouring bytes counts for.

The class of a UTF-8 byte follows from its value alone, and whether a run begins from two neighbours, so a table
over the 65,536 pairs of bytes says everything. It maps each pair to a cell, where all pairs of a cell count for
the same features. So all that is needed of a text is a histogram over a few cells.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from extproc.budget.letters import costs

Array = NDArray[np.float64]

BYTE_CLASSES: dict[str, str | Iterable[int]] = {
    "lower": "abcdefghijklmnopqrstuvwxyz",
    "upper": "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "digit": "0123456789",
    "space": " ",
    "line": (*range(0x20), 0x7F, 0xC0, 0xC1, *range(0xF8, 0x100)),
    "prose_punctuation": ".,'-?!:;",
    "code_punctuation": '"#$%&()*+/<=>@[\\]^_`{|}~',
    "latin_lead": range(0xC2, 0xCE),  # accented Latin, combining marks
    "cyrillic_lead": range(0xD0, 0xD4),
    "two_byte_lead": (0xCE, 0xCF, *range(0xD4, 0xE0)),  # Greek, Armenian, Hebrew, Arabic
    "indic_lead": range(0xE0, 0xE2),  # Devanagari to Thai, Georgian, Ethiopic
    "symbol_lead": (0xE2,),  # typographic quotes and dashes, arrows, box drawing
    "cjk_lead": (*range(0xE3, 0xEA), 0xEE, 0xEF),  # kana, Han, full-width forms
    "hangul_lead": range(0xEA, 0xEE),
    "four_byte_lead": range(0xF0, 0xF8),  # emoji, rare Han
}
"""Byte values of each class. Control characters count as `line`. Continuation bytes are no feature: the lead byte
already says how many follow."""

WITHIN: dict[str, tuple[int, ...]] = {
    "hebrew": (0xD7,),
    "arabic": (0xD8, 0xD9),
    "kana": (0xE3,),  # with Chinese and Japanese punctuation
}
"""Lead bytes whose cost differs from the rest of their class."""

_LETTERS = ("lower", "upper")
_PUNCTUATION = ("prose_punctuation", "code_punctuation")
_SCRIPTS = tuple(name for name in BYTE_CLASSES if name.endswith("_lead"))
_BLANK = ("space", "line")

Side = tuple[str, ...] | bytes
"""One side of a pair: classes, or bytes."""

PAIRS: dict[str, tuple[Side, Side]] = {
    "word": ((*_BLANK, "digit", *_PUNCTUATION, "continuation"), _LETTERS),
    "word_in_run": (("line", "digit", *_PUNCTUATION), _LETTERS),  # a word without a space before it
    "blank_in_run": (("space",), ("space",)),  # indentation, padding
    "line_after_letter": (_LETTERS, ("line",)),  # after punctuation many tokens hold both
    "camel": (("lower",), ("upper",)),
    "snake": (b"_", _LETTERS),  # a word with the underscore before it is often one token
    "letter_digit": (_LETTERS, ("digit",)),
    "digit_letter": (("digit",), _LETTERS),  # besides `word`: hashes and base64 go back and forth
    "digit_in_run": (("digit",), ("digit",)),
    "decimal": (("prose_punctuation",), ("digit",)),  # versions, dates, addresses
    "punctuation": ((*_LETTERS, "digit", *_BLANK, "continuation"), _PUNCTUATION),
    "closed": (b")]}>", ("prose_punctuation",)),  # one token in most vocabularies that have seen code
    "script": ((*_LETTERS, "digit", *_BLANK, *_PUNCTUATION), _SCRIPTS),  # other writing begins
    "vietnamese": (b"\xe1", b"\xba\xbb"),  # besides `indic_lead`: Latin letters with two marks
}
"""Pairs of neighbouring bytes: one of the first side followed by one of the second."""

RARE = {
    0xE1: (*range(0x8E, 0x9E), *range(0xA0, 0xB8)),  # Cherokee to runes, Mongolian to Balinese; Khmer is not
    0xE3: range(0x90, 0xC0),  # rare Han (extension A)
    0xE4: range(0x80, 0xB7),
    0xEA: range(0x80, 0xB0),  # Yi, Vai, Javanese
}
RARE_SCRIPT = "rare_script"
"""Feature for characters of blocks that no vocabulary covers: `RARE` has their lead bytes and second bytes."""

REPEATED = "repeated"
"""Feature for a punctuation mark after the same one: rulers, table borders and comment lines are few tokens."""

LETTER_PAIRS = "letter_pairs"
"""Feature for the cost of neighbouring letters, in tokens (`extproc.budget.letters`)."""

COUNTED = (*BYTE_CLASSES, *WITHIN, *PAIRS, RARE_SCRIPT, REPEATED, LETTER_PAIRS)
"""All features that a pair may count for, in the order of the rows of `tables`."""

_LEADS = {"four_byte_lead": 4, "latin_lead": 2, "cyrillic_lead": 2, "two_byte_lead": 2}
BYTES_PER = tuple(_LEADS.get(name, 3 if name in _SCRIPTS else 1) for name in BYTE_CLASSES)
"""Bytes of text that one byte of each class stands for: a lead byte stands for its whole character."""

_CONTINUATION = range(0x80, 0xC0)


def tables() -> tuple[NDArray[np.intp], Array, Array]:
    """Return the cell of every pair, and two matrices, `COUNTED` × cells, that turn a histogram of cells into
    counts.

    The number of a pair is first + 256 · second, as a little-endian read of the two bytes gives it. The first
    matrix is for a histogram of all pairs, where every byte is the second of one. The second is for every other
    pair, where each byte is the first or the second of one, and each pair stands for two.
    """
    first, second = np.arange(1 << 16) & 0xFF, np.arange(1 << 16) >> 8
    # In valid UTF-8 a lead byte is followed by a continuation byte. Counting nothing elsewhere saves cells.
    broken = (first >= 0xC0) & ((second < 0x80) | (second >= 0xC0))
    single = [_member(bytes(_values(name))) for name in BYTE_CLASSES]
    single += [_member(bytes(leads)) for leads in WITHIN.values()]
    by_first, by_second = [member[first] & ~broken for member in single], [member[second] for member in single]
    both = [_member(_side(before))[first] & _member(_side(after))[second] for before, after in PAIRS.values()]
    both.append(np.any([(first == lead) & np.isin(second, places) for lead, places in RARE.items()], axis=0))
    both.append((first == second) & _member(_side(_PUNCTUATION))[first])
    tenths = costs()[first, second]

    key = tenths.astype(np.uint64)  # all that a pair counts for, in 4 + 2 · 18 + 16 bits
    for column in (*by_first, *by_second, *both):
        key = key << np.uint64(1) | column
    _, examples, cells = np.unique(key, return_index=True, return_inverse=True)
    of_first, of_second, of_both = (
        np.stack([column[examples] for column in columns]).astype(np.float64)
        for columns in (by_first, by_second, [*both, tenths / 10])
    )
    return (
        cells,
        np.vstack((of_second, of_both)),
        np.vstack((of_first + of_second, 2 * of_both)),
    )


def _member(values: bytes) -> NDArray[np.bool_]:
    """Return, for each of the 256 bytes, whether it is one of `values`."""
    found = np.zeros(256, np.bool_)
    found[list(values)] = True
    return found


def _side(side: Side) -> bytes:
    return side if isinstance(side, bytes) else bytes(value for name in side for value in _values(name))


def _values(name: str) -> Iterable[int]:
    if name == "continuation":
        return _CONTINUATION
    members = BYTE_CLASSES[name]
    return members.encode() if isinstance(members, str) else members
