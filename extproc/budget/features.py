"""The feature vector: the counts from which a prompt's tokens are estimated.

All estimators share one layout, because it travels in `Observation`: bytes of the prompt by class, places where
classes meet, bytes of tool definitions, messages.

A byte-pair tokenizer first cuts text into runs (a word with the space before it, up to three digits, punctuation,
white space) and then merges bytes inside each. So the token count follows from three things that a gateway can
count without a tokenizer: how many runs begin, how many bytes of each kind they hold, and how common their pairs
of letters are. One histogram over pairs of bytes holds all three (`extproc.budget.pairs`). Tool definitions are
counted like text, and once more as `tool_bytes`, since every chat template prints them in its own layout.
"""

import operator

import numpy as np
from numpy.typing import NDArray

from extproc.body.facts import Item
from extproc.budget.pairs import BYTES_PER, COUNTED, tables

NAMES = (*COUNTED, "tool_bytes", "messages")
"""The layout: `features[i]` is the number of `NAMES[i]` in the prompt."""

TOOL_BYTES = NAMES.index("tool_bytes")
MESSAGES = NAMES.index("messages")

EXACT_BYTES = 16_384
"""Longer prompts are counted by a sample, which bounds the time whatever a client sends."""

WINDOWS = 512
WINDOW = 64
"""The sample: `WINDOWS` windows of `WINDOW` bytes, one at a random place in each equal part of the prompt."""

_NO_MORE = (0.0,) * (len(NAMES) - 1)
_CELL_OF, _ALL_PAIRS, _HALF_THE_PAIRS = tables()
_CELLS = _ALL_PAIRS.shape[1]
_PAIR = np.dtype("<u2")  # the first of two bytes is the low one
_PLACES = (np.arange(WINDOWS) + np.random.default_rng(0).random(WINDOWS)) / WINDOWS


def features(item: Item) -> tuple[float, ...]:
    """Return the feature vector of one prompt, laid out as `NAMES`. O(bytes) up to `EXACT_BYTES`, then O(1).

    Where only the size of the body is known, all its bytes count as `lower`.
    """
    if item.raw is not None:
        return (float(item.raw), *_NO_MORE)
    # A line break before text and before tools gives their first byte a pair.
    prompt = b"\n%b\n%b" % (item.text, item.tools) if item.tools else b"\n" + item.text
    if len(prompt) <= EXACT_BYTES:
        counts = _ALL_PAIRS.dot(_cells(prompt, step=1))
    else:
        sample = _sample(prompt)
        counts = _HALF_THE_PAIRS.dot(_cells(sample, step=2))
        counts *= (len(prompt) - 1) / len(sample)
    return (*counts.tolist(), len(item.tools), item.messages)


def _cells(text: bytes, step: int) -> NDArray[np.intp]:
    """Count the cells of the pairs of `text` that begin `step` bytes apart."""
    pairs = np.ndarray(((len(text) - 2) // step + 1,), _PAIR, text, strides=(step,))
    return np.bincount(_CELL_OF.take(pairs), minlength=_CELLS)


def _sample(prompt: bytes) -> bytes:
    """Return `WINDOWS` windows of `WINDOW` bytes from all over `prompt`, joined.

    If tokens per byte vary by a standard deviation s from window to window, the estimate of the whole is off by
    s/√WINDOWS: 1.3 % for s = 30 %, the spread between prose and tables, and less in fact, since neighbouring
    windows are alike (docs/estimation.md). Random places avoid resonance with rows and columns of any length, and
    fall on even and odd bytes alike, so that counting every second pair is enough.
    """
    last = len(prompt) - WINDOW
    windows = np.ndarray((last + 1,), f"V{WINDOW}", prompt, strides=(1,))
    return windows[(_PLACES * last).astype(np.intp)].tobytes()


def text_bytes(features: tuple[float, ...]) -> float:
    """Return the bytes of text and tool definitions in `features`."""
    size: float = sum(map(operator.mul, features, BYTES_PER))
    return size
