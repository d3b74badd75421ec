"""The estimate-error model: texts for requests of which only tokens are known.

A kind of text is drawn, then bytes per token for the request: the kind's mean times a log-normal factor of mean 1.
The bytes are of the classes that the kind has, so that an estimator finds in them what it finds in real text.
`measure` takes the figures from request bodies with true token counts.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from extproc.body.usage import Usage
from extproc.budget.category import content_class
from extproc.budget.features import MESSAGES, NAMES, features, text_bytes
from extproc.budget.linear import LinearEstimator
from extproc.budget.observation import Observation
from extproc.config import Config
from extproc.planning.errors import PlanError
from extproc.planning.request_log import LogError, Logged, RequestLog
from extproc.planning.workload import MOST_TOKENS, Floats

LOWER = NAMES.index("lower")

TEMPLATE_TOKENS = 4
"""Tokens of a message that are not its text."""

LEAST_TOKENS = 50
"""Shorter prompts are mostly chat template and say little of text."""

TOKENIZER = "llama3"
"""Name of the tokenizer whose counts are taken where a log has those of several."""

PASSES = 2
"""An estimator is settled after having seen all bodies once; what it is off by in the last pass is the spread."""


@dataclass(frozen=True)
class TextKind:
    """A kind of text: its `share` of requests, its mean `ratio` (bytes per token) and `spread`, what a settled
    estimator is off by, relative to the truth. `mix`: features a byte of text, by name (`extproc.budget.features`).
    """

    name: str
    share: float
    ratio: float
    spread: float
    mix: tuple[tuple[str, float], ...] = (("lower", 1.0),)

    @cached_property
    def vector(self) -> Floats:
        """Features of one byte of text."""
        values = dict(self.mix)
        return np.array([values.get(name, 0.0) for name in NAMES])

    @cached_property
    def category(self) -> str:
        """What the service takes such a text for."""
        return content_class(tuple(self.vector.tolist()), 1.0)


TextModel = tuple[TextKind, ...]


def read_model(text: str) -> TextModel:
    """Return the model that `write_model` wrote."""
    return tuple(TextKind(**{**kind, "mix": tuple(kind["mix"].items())}) for kind in json.loads(text))


def write_model(model: TextModel) -> str:
    """Return a model as JSON, a kind a line."""
    return "[\n" + ",\n".join(json.dumps({**asdict(kind), "mix": dict(kind.mix)}) for kind in model) + "\n]\n"


MEASURED = read_model((Path(__file__).parent / "texts.json").read_text("utf-8"))
"""What `measure` says of 1,700 composed request bodies of 19 kinds with their Llama 3 token counts, written by
`write_model`. The shares are those of that collection, not of anybody's traffic."""


def spread(model: TextModel, factor: float) -> TextModel:
    """Return the model with every deviation times `factor`."""
    return tuple(replace(kind, spread=kind.spread * factor) for kind in model)


class _Body(NamedTuple):
    kind: str
    vector: tuple[float, ...]
    tokens: int


def measure(path: Path) -> TextModel:
    """Measure a text model from the request log at `path` (`extproc.planning.request_log`).

    The kind of a text is the log's `category`, or else what the service takes the text for. Of tokens by several
    tokenizers those of `TOKENIZER` count. Bodies with several prompts, token ids or media are left out.

    Raises `PlanError` for a file without usable bodies.
    """
    try:
        bodies = [body for logged in RequestLog(path) if (body := _body(logged))]
    except LogError as error:
        raise PlanError(f"--texts: {error}") from None
    if not bodies:
        raise PlanError(f"--texts: {path}: no body with text and token counts")
    errors = _errors(bodies)
    names = dict.fromkeys(b.kind for b in bodies)
    kinds = [
        _kind(n, [(b, e) for b, e in zip(bodies, errors, strict=True) if b.kind == n], len(bodies)) for n in names
    ]
    return tuple(sorted(kinds, key=lambda kind: -kind.share))


def _body(logged: Logged) -> _Body | None:
    """Kind, features and tokens of one body, None when it says nothing."""
    item, *others = logged.facts.items
    tokens = logged.tokens.get(TOKENIZER, logged.tokens.get("", 0))
    vector = features(item)
    few = tokens - TEMPLATE_TOKENS * vector[MESSAGES] < LEAST_TOKENS
    if others or item.media or item.tokens is not None or few:
        return None
    return _Body(logged.kind or content_class(vector, text_bytes(vector)), vector, tokens)


def _errors(bodies: list[_Body]) -> list[float]:
    """What a linear estimator that has seen all bodies is off by, as a logarithm, before it learns each again."""
    estimator = LinearEstimator(Config().estimation, 1)
    errors = [0.0] * len(bodies)
    order = np.random.default_rng(1).permutation(len(bodies)).tolist()
    for place in order * PASSES:
        body = bodies[place]
        errors[place] = float(np.log(body.tokens / estimator.estimate("", "", "text", body.vector).tokens))
        estimator.learn(answered(body.kind, body.vector, body.tokens))
    return errors


def answered(
    category: str, features: tuple[float, ...], tokens: int, output: int = 1, cap: int | None = None
) -> Observation:
    """What the service hears of a prompt of `features` that had `tokens` tokens, and `output` in its answer.

    `cap`: of the answer, None for none. It came from a pool that holds everything.
    """
    return Observation(
        model="",
        category=category,
        basis="text",
        features=features,
        estimate=0,
        cap=cap,
        prompts=1,
        choices=1,
        teaches=True,
        pool="",
        capacity=MOST_TOKENS,
        largest=True,
        usage=Usage(prompt_tokens=tokens, completion_tokens=output),
        finish_reason="stop",
        outcome="completed",
    )


def _kind(name: str, seen: Iterable[tuple[_Body, float]], count: int) -> TextKind:
    bodies, errors = zip(*seen, strict=True)
    sizes = np.array([text_bytes(b.vector) for b in bodies])
    text_tokens = np.array([b.tokens - TEMPLATE_TOKENS * b.vector[MESSAGES] for b in bodies])
    mix = (np.array([b.vector for b in bodies]) / sizes[:, None]).mean(axis=0)
    return TextKind(
        name=name,
        share=round(len(bodies) / count, 4),
        ratio=round(float((sizes / text_tokens).mean()), 4),
        spread=round(float(np.sqrt(np.square(errors).mean())), 4),
        mix=tuple(_rounded(mix)),
    )


def _rounded(mix: Floats) -> Iterator[tuple[str, float]]:
    for name, value in zip(NAMES, mix.tolist(), strict=True):
        if name != NAMES[MESSAGES] and value > 0:
            yield name, float(f"{value:.3g}")


def _known(size: int) -> tuple[float, ...]:
    """The features of text of which only the number of bytes is known."""
    vector = [0.0] * len(NAMES)
    vector[LOWER] = float(size)
    vector[MESSAGES] = 1.0
    return tuple(vector)


KNOWN = "known"
"""Category of texts whose bytes a trace gives."""


class Texts:
    """Draws texts, the same ones for the same seed."""

    _AT_ONCE = 4096

    def __init__(self, model: TextModel, seed: int) -> None:
        self._model = model
        self._random = np.random.default_rng(seed)
        shares = np.array([kind.share for kind in model])
        self._shares = shares / shares.sum()
        self._drawn: list[tuple[int, float]] = []

    def draw(self, tokens: int, size: int = 0) -> tuple[str, tuple[float, ...]]:
        """Return a category and the feature vector of a message of `tokens` tokens in it, template included.

        A text of known `size` (bytes) is taken as it is; its category is unknown, so all share one.
        """
        if size:
            return KNOWN, _known(size)
        if not self._drawn:
            self._refill()
        number, ratio = self._drawn.pop()
        kind = self._model[number]
        vector = (kind.vector * (max(tokens - TEMPLATE_TOKENS, 1) * ratio)).tolist()
        vector[MESSAGES] = 1.0
        return kind.category, tuple(vector)

    def _refill(self) -> None:
        kinds = self._random.choice(len(self._model), self._AT_ONCE, p=self._shares)
        sigma = np.sqrt(np.log1p(np.array([k.spread for k in self._model]) ** 2))[kinds]
        noise = np.exp(sigma * self._random.standard_normal(self._AT_ONCE) - sigma**2 / 2)
        ratios = np.array([k.ratio for k in self._model])[kinds] * noise
        self._drawn = list(zip(kinds.tolist(), ratios.tolist(), strict=True))
