"""The feature vector: what of a prompt its token count is estimated from.

One layout for every estimator, because it travels in `Observation`: bytes of the prompt by class, places where
classes meet, bytes of tool definitions, messages.

A byte-pair tokenizer first cuts text into runs (a word with the space before it, up to three digits, punctuation,
white space) and only then merges bytes inside them. So a token count follows three things that a gateway can count
without a tokenizer: how many runs begin, how many bytes of each kind they hold, and how usual the pairs of letters
in them are. One histogram over the pairs of bytes holds all (`extproc.budget.pairs`). Tool definitions are counted
like text, and once more as `tool_bytes`, since every chat template prints them in its own layout.
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
"""A longer prompt is counted by a sample: the time to count is bounded whatever a client sends."""

WINDOWS = 512
WINDOW = 64
"""The sample: so many windows of so many bytes, one at a random place of each equal part of the prompt."""

_NO_MORE = (0.0,) * (len(NAMES) - 1)
_CELL_OF, _ALL_PAIRS, _HALF_THE_PAIRS = tables()
_CELLS = _ALL_PAIRS.shape[1]
_PAIR = np.dtype("<u2")  # the first of two bytes is the low one
_PLACES = (np.arange(WINDOWS) + np.random.default_rng(0).random(WINDOWS)) / WINDOWS


def features(item: Item) -> tuple[float, ...]:
    """Return the feature vector of one prompt, laid out as `NAMES`. O(bytes) up to EXACT_BYTES, then O(1).

    Raw bytes, of which only the number is known, all count as `lower`.
    """
    if item.raw is not None:
        return (float(item.raw), *_NO_MORE)
    # Text and tools each begin after a line break, which is the first of their first pair.
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
