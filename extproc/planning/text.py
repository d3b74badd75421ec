"""The estimate-error model: bytes for requests of which only tokens are known.

A category is drawn, then bytes per token for the request: the category's mean times a log-normal factor of mean 1.
`measure` takes the figures from request bodies with true token counts.
"""

import gzip
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from extproc.body.facts import PromptFacts
from extproc.body.request import api_of, read_request
from extproc.budget.category import content_class
from extproc.budget.features import MESSAGES, NAMES, features, text_bytes
from extproc.planning.errors import PlanError

LOWER = NAMES.index("lower")

KNOWN = "known"
"""Category of texts whose bytes a trace gives."""


@dataclass(frozen=True)
class TextKind:
    """A category: its `share` of requests, its mean `ratio` (bytes per token) and `spread` (deviation / mean)."""

    name: str
    share: float
    ratio: float
    spread: float


TextModel = tuple[TextKind, ...]

MEASURED: TextModel = (
    TextKind("latin", 0.391, 4.16, 0.135),
    TextKind("code", 0.264, 3.89, 0.139),
    TextKind("structured", 0.196, 2.80, 0.169),
    TextKind("cjk", 0.121, 3.69, 0.126),
    TextKind("other_script", 0.027, 4.34, 0.322),
)
"""What `measure` says of 1,660 composed request bodies of 21 kinds with their Llama 3 token counts. The shares are
those of that collection, not of anybody's traffic."""

LEAST_TOKENS = 50
"""Shorter prompts are mostly chat template and say little of text."""


def spread(model: TextModel, factor: float) -> TextModel:
    """Return the model with every deviation times `factor`."""
    return tuple(replace(kind, spread=kind.spread * factor) for kind in model)


def measure(path: Path, tokenizer: str = "llama3") -> TextModel:
    """Measure a text model from JSON lines of `path` (of the API), `body` (the request, as text), `prompt_tokens`.

    `prompt_tokens` is a number, or an object of numbers by tokenizer. Bodies with several prompts, token ids or
    media are left out.

    Raises `PlanError` for a file without usable bodies.
    """
    ratios: dict[str, list[float]] = {}
    try:
        raw = path.read_bytes()
        lines = (gzip.decompress(raw) if path.suffix == ".gz" else raw).split(b"\n")
        for line in filter(None, lines):
            found = _ratio(json.loads(line), tokenizer)
            if found:
                ratios.setdefault(found[0], []).append(found[1])
    except OSError as error:
        raise PlanError(f"--texts: {path}: cannot be read: {error}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PlanError(f"--texts: {path}: is not lines of path, body and prompt_tokens: {error!r}") from None
    count = sum(map(len, ratios.values()))
    if count == 0:
        raise PlanError(f"--texts: {path}: no body with text and token counts")
    return tuple(
        TextKind(name, len(values) / count, float(np.mean(values)), float(np.std(values) / np.mean(values)))
        for name, values in sorted(ratios.items(), key=lambda item: -len(item[1]))
    )


def _ratio(record: dict[str, Any], tokenizer: str) -> tuple[str, float] | None:
    """Category and bytes per token of one body, None when it says nothing."""
    api = api_of(record["path"])
    facts = read_request(api, record["body"].encode()) if api else None
    if not isinstance(facts, PromptFacts) or len(facts.items) > 1:
        return None
    item = facts.items[0]
    counted = record["prompt_tokens"]
    vector = features(item)
    tokens = (counted[tokenizer] if isinstance(counted, dict) else counted) - 4 * vector[MESSAGES]
    if item.media or item.tokens is not None or tokens < LEAST_TOKENS:
        return None
    return content_class(vector), text_bytes(vector) / tokens


def _vector(size: int) -> tuple[float, ...]:
    vector = [0.0] * len(NAMES)
    vector[LOWER] = float(size)
    vector[MESSAGES] = 1.0
    return tuple(vector)


class Texts:
    """Draws texts, the same ones for the same seed."""

    _AT_ONCE = 4096

    def __init__(self, model: TextModel, seed: int) -> None:
        self._model = model
        self._random = np.random.default_rng(seed)
        shares = np.array([kind.share for kind in model])
        self._cumulative = np.cumsum(shares / shares.sum())
        self._drawn: list[tuple[int, float]] = []

    def draw(self, tokens: int, size: int = 0) -> tuple[str, tuple[float, ...]]:
        """Return a category and the feature vector of a text of `tokens` tokens in it.

        A text of known `size` (bytes) is taken as it is; its category is unknown, so all share one.
        """
        if size:
            return KNOWN, _vector(size)
        if not self._drawn:
            self._refill()
        kind, ratio = self._drawn.pop()
        return self._model[kind].name, _vector(round(tokens * ratio))

    def _refill(self) -> None:
        picks = np.searchsorted(self._cumulative, self._random.random(self._AT_ONCE), side="right")
        kinds = np.minimum(picks, len(self._model) - 1)
        sigma = np.sqrt(np.log1p(np.array([k.spread for k in self._model]) ** 2))[kinds]
        noise = np.exp(sigma * self._random.standard_normal(self._AT_ONCE) - sigma**2 / 2)
        ratios = np.array([k.ratio for k in self._model])[kinds] * noise
        self._drawn = list(zip(kinds.tolist(), ratios.tolist(), strict=True))
