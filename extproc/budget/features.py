"""The feature vector: what of a prompt its token count is estimated from.

One layout for every estimator, because it travels in `Observation`: bytes of the prompt by class, places where the
class changes, bytes of tool definitions, messages.

A byte-pair tokenizer first cuts text into runs (a word with the space before it, up to three digits, punctuation,
white space) and only then merges bytes inside them. So a token count follows two things that a gateway can count
without a tokenizer: how many runs begin, and how many bytes of each kind they hold. Every byte of UTF-8 falls into
a class by its value alone; a pair of neighbours says whether a run begins. One histogram over the pairs holds both.
Tool definitions are counted in the classes like text, and once more as `tool_bytes`, since every chat template
prints them in its own layout.
"""

import operator
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from extproc.body.facts import Item

BYTE_CLASSES: dict[str, str | Iterable[int]] = {
    "lower": "abcdefghijklmnopqrstuvwxyz",
    "upper": "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "digit": "0123456789",
    "space": " ",
    "line": "\n\r\t",
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
"""Byte values of each class; control characters count as `line`. Continuation bytes have a class of their own that
is no feature: the lead byte already says how many follow."""

_LETTERS = ("lower", "upper")
_PUNCTUATION = ("prose_punctuation", "code_punctuation")
_SCRIPTS = tuple(name for name in BYTE_CLASSES if name.endswith("_lead"))
_BLANK = ("space", "line")

PAIRS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "word": ((*_BLANK, "digit", *_PUNCTUATION, "continuation"), _LETTERS),
    "word_in_run": (("line", "digit", *_PUNCTUATION), _LETTERS),  # a word without a space before it
    "blank_in_run": (("space",), ("space",)),  # indentation, padding
    "camel": (("lower",), ("upper",)),
    "letter_digit": (_LETTERS, ("digit",)),
    "digit_letter": (("digit",), _LETTERS),  # besides `word`: hashes and base64 go back and forth
    "digit_in_run": (("digit",), ("digit",)),
    "punctuation": ((*_LETTERS, "digit", *_BLANK, "continuation"), _PUNCTUATION),
    "script": ((*_LETTERS, "digit", *_BLANK, *_PUNCTUATION), _SCRIPTS),  # other writing begins
}
"""Pairs of neighbouring bytes: a byte of the first classes followed by one of the second."""

WITHIN: dict[str, tuple[str, bytes]] = {
    "hebrew": ("two_byte_lead", b"\xd7"),
    "arabic": ("two_byte_lead", b"\xd8\xd9"),
    "e1_script": ("indic_lead", b"\xe1"),  # Vietnamese, Georgian, Ethiopic, Khmer, extended Greek, rare scripts
    "kana": ("cjk_lead", b"\xe3"),  # with Chinese and Japanese punctuation
}
"""Lead bytes that cost otherwise than the rest of their class: the class they are of, and the bytes. They are
looked for only in a prompt that has some of the class."""

NAMES = (*BYTE_CLASSES, *PAIRS, *WITHIN, "tool_bytes", "messages")
"""The layout: `features[i]` is the number of `NAMES[i]` in the prompt."""

TOOL_BYTES = NAMES.index("tool_bytes")
MESSAGES = NAMES.index("messages")

EXACT_BYTES = 16_384
"""A longer prompt is counted by a sample: the time to count is bounded whatever a client sends."""

WINDOWS = 512
WINDOW = 64
"""The sample: so many windows of so many bytes, one at a random place of each equal part of the prompt."""

_CLASSES = (*BYTE_CLASSES, "continuation")  # at most 16: a class is four bits of a pair
_LEADS = {"four_byte_lead": 4, "latin_lead": 2, "cyrillic_lead": 2, "two_byte_lead": 2}
BYTES_PER = tuple(_LEADS.get(name, 3 if name in _SCRIPTS else 1) for name in BYTE_CLASSES)
"""Bytes of text that one of each class stands for: a lead byte for the character it begins."""


def _class_table() -> bytes:
    """The class of every byte value."""
    table = bytearray([_CLASSES.index("line")]) * 256
    for number, members in enumerate((*BYTE_CLASSES.values(), range(0x80, 0xC0))):
        for value in members.encode() if isinstance(members, str) else members:
            table[value] = number
    return bytes(table)


def _pair_tables() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The 256 × features matrices that sum a histogram of pairs (first · 16 + second) into features.

    The first is for a histogram of all pairs, in which every byte is the second of one. The second is for every
    other pair, where every byte is either the first or the second of one, and a pair stands for two.
    """
    bytes_, pairs = np.zeros((16, 16, len(BYTE_CLASSES))), np.zeros((16, 16, len(PAIRS)))
    for column in range(len(BYTE_CLASSES)):
        bytes_[:, column, column] = 1
    for column, (before, after) in enumerate(PAIRS.values()):
        for first in before:
            for second in after:
                pairs[_CLASSES.index(first), _CLASSES.index(second), column] = 1
    either = bytes_ + bytes_.transpose(1, 0, 2)
    return (
        np.concatenate((bytes_, pairs), axis=2).reshape(256, -1),
        np.concatenate((either, 2 * pairs), axis=2).reshape(256, -1),
    )


_NO_MORE = (0.0,) * (len(NAMES) - 1)
_NONE_WITHIN = (0.0,) * len(WITHIN)
_WITHIN = tuple((NAMES.index(name), [bytes((lead,)) for lead in leads]) for name, leads in WITHIN.values())
_CLASS_OF = _class_table()
_PLACES = (np.arange(WINDOWS) + np.random.default_rng(0).random(WINDOWS)) / WINDOWS
_ALL_PAIRS, _HALF_THE_PAIRS = _pair_tables()


def features(item: Item) -> tuple[float, ...]:
    """Return the feature vector of one prompt, laid out as `NAMES`. O(bytes) up to EXACT_BYTES, then O(1).

    Raw bytes, of which only the number is known, all count as `lower`.
    """
    if item.raw is not None:
        return (float(item.raw), *_NO_MORE)
    # Text and tools each begin after a line break, which is the first of their first pair.
    prompt = b"\n%b\n%b" % (item.text, item.tools) if item.tools else b"\n" + item.text
    if len(prompt) <= EXACT_BYTES:
        classes = np.frombuffer(prompt.translate(_CLASS_OF), np.uint8)
        pairs = classes[:-1] << 4
        pairs |= classes[1:]
        counts = np.bincount(pairs, minlength=256).dot(_ALL_PAIRS)
        within = _within(prompt, 1.0, counts)
    else:
        sample = _sample(prompt)
        scale = (len(prompt) - 1) / len(sample)
        pairs = np.frombuffer(sample.translate(_CLASS_OF), "<u2")  # the first of two is the low byte
        counts = scale * np.bincount((pairs << 4 | pairs >> 8) & 0xFF, minlength=256).dot(_HALF_THE_PAIRS)
        within = _within(sample, scale, counts)
    return (*counts.tolist(), *within, len(item.tools), item.messages)


def _within(sample: bytes, scale: float, counts: NDArray[np.float64]) -> tuple[float, ...]:
    """Return the counts of `WITHIN` in a prompt of which `sample` is one part in `scale`."""
    if sample.isascii():
        return _NONE_WITHIN
    return tuple(scale * sum(map(sample.count, leads)) if counts[column] else 0.0 for column, leads in _WITHIN)


def _sample(prompt: bytes) -> bytes:
    """Return `WINDOWS` windows of `WINDOW` bytes from all over `prompt`.

    Where tokens per byte differ by a standard deviation s from window to window, the estimate of the whole is off
    by s/√WINDOWS at most, which is 1.3 % for s = 30 %, the spread between prose and tables; neighbours are alike,
    so it is less in fact (docs/estimation.md). Random places meet rows and columns of any length alike, and even
    and odd places in turn, so that of the pairs every second one will do.
    """
    last = len(prompt) - WINDOW
    windows = np.ndarray((last + 1,), f"V{WINDOW}", prompt, strides=(1,))
    return windows[(_PLACES * last).astype(np.intp)].tobytes()


def text_bytes(features: tuple[float, ...]) -> float:
    """Bytes of text and tool definitions in `features`."""
    size: float = sum(map(operator.mul, features, BYTES_PER))
    return size
