"""The ratio estimator: bytes per token of a category, a moving mean less a margin (arXiv:2604.08075).

For category k with bytes per token x observed at each usage report, weight α:

    c ← c + α·d               d = x − c, limited to ± 3σ once the figure has settled
    v ← (1 − α)·(v + α·d²)    the matching moving variance (West 1979, exponential weights)

A prompt of B bytes and m messages is estimated at B / c + t·m tokens, with t tokens per message, and is not
expected to exceed B / (c − z·σ) + t·m, where σ = √v. The reciprocal is convex, so dividing by a lowered ratio
errs to the safe side. α starts at 1/(n + 1), which makes the first figures plain averages.
"""

import math
from collections.abc import Iterator

import msgspec
import numpy as np

from extproc.budget.bounded import Bounded
from extproc.budget.estimate import Estimate, RawRatio, Snapshot, Verdict
from extproc.budget.features import MESSAGES, text_bytes
from extproc.budget.observation import Basis, Observation
from extproc.budget.sums import Recent, Sums, Table
from extproc.config import Estimation

LEAST_RATIO = 0.5
MOST_RATIO = 16.0
"""Bounds of plausible bytes per token: no tokenizer is outside."""

OUTLIER_DEVIATIONS = 3.0
LEAST_DEVIATION = 0.05
"""Least deviation, relative to the mean: so a run of equal observations does not make every new one an outlier."""

YOUNG_SAMPLES = 100
"""Observations of a category that also count for the more general figures: its model's, and that of all."""

FULL_WEIGHT_BYTES = 256.0
"""Shorter prompts weigh less: much of their token count is chat template, not text."""

ROUNDING = 1e-9
"""Rounding error of a mean at its bound after a round trip through sums."""

KIND = "ratio"
"""First part of a key. Sums: weight W, Σ w·x, Σ w·x² of bytes per token x, fading by 1 − α·w, so that W tends to
1/α."""

Key = tuple[str, str, str, str]


class Ratio(msgspec.Struct):
    """Bytes per token of one key: moving mean and variance, and the number of observations behind them."""

    mean: float
    variance: float = 0.0
    samples: int = 0

    @property
    def deviation(self) -> float:
        """Standard deviation, bytes per token."""
        return math.sqrt(self.variance)

    def limited(self, observed: float, min_samples: int) -> float:
        """Return `observed` (bytes per token), limited to the furthest value that one observation may count for."""
        if self.samples < min_samples:
            return observed
        step = observed - self.mean
        bound = OUTLIER_DEVIATIONS * max(self.deviation, LEAST_DEVIATION * self.mean)
        return observed if abs(step) <= bound else self.mean + math.copysign(bound, step)

    def update(self, observed: float, smoothing: float, weight: float) -> None:
        """Move towards `observed` (bytes per token), as returned by `limited`."""
        alpha = max(smoothing, 1.0 / (self.samples + 1)) * weight
        if self.samples == 0:
            self.mean, alpha = observed, 0.0
        step = observed - self.mean
        self.mean = min(max(self.mean + alpha * step, LEAST_RATIO), MOST_RATIO)
        self.variance = (1 - alpha) * (self.variance + alpha * step * step)
        self.samples += 1

    def sums(self, smoothing: float) -> Sums:
        """Return the sums that this mean and variance come from."""
        weight = min(float(self.samples), 1.0 / smoothing)
        square = self.variance + self.mean * self.mean
        values = np.array((weight, weight * self.mean, weight * square))
        return Sums(self.samples, (1.0 - smoothing) ** self.samples, values)


def from_sums(sums: Sums) -> Ratio | None:
    """Return the ratio that `sums` describe, None when it is not a possible one."""
    if len(sums.values) != 3 or sums.samples < 1:
        return None
    weight, first, second = sums.values.tolist()
    if not weight > 0:  # written so that NaN fails too, as below
        return None
    mean = first / weight
    if not LEAST_RATIO - ROUNDING <= mean <= MOST_RATIO + ROUNDING:
        return None
    variance = second / weight - mean * mean
    if not variance < MOST_RATIO * MOST_RATIO:
        return None
    return Ratio(mean, max(0.0, variance), sums.samples)


class RatioEstimator:
    """A ratio per model and category. It falls back to the model's, the global one, and the configured prior."""

    kinds = frozenset({KIND})

    def __init__(self, settings: Estimation, limit: int) -> None:
        self._settings = settings
        self._limit = limit
        self._ratios: Bounded[Key, Ratio] = Bounded(limit)
        self._recent = Recent(limit)

    def estimate(self, model: str, category: str, basis: Basis, features: tuple[float, ...]) -> Estimate:
        """Estimate prompt tokens from the bytes and messages in `features`."""
        size = text_bytes(features)
        template = self._settings.tokens_per_message * features[MESSAGES]
        ratio = self._ratio(basis, model, category)
        return Estimate(
            tokens=math.ceil(size / ratio.mean + template),
            upper=math.ceil(size / ratio.careful + template),
            source=ratio.source,
        )

    def raw(self, model: str, category: str) -> RawRatio:
        """Return bytes per token of raw bodies, messages included: those cannot be counted there."""
        return self._ratio("raw", model, category)

    def raw_keys(self) -> set[tuple[str, str]]:
        """Return model and category, "" for all, of every ratio of raw bodies."""
        return {(model, category) for (_, basis, model, category), _ in self._ratios.items() if basis == "raw"}

    def is_settled(self, model: str, category: str, basis: Basis) -> bool:
        """Whether exactly these have a ratio of their own with `min_samples`."""
        return self._settled((KIND, basis, model, category)) is not None

    def _settled(self, key: Key) -> Ratio | None:
        ratio = self._ratios.get(key)
        return ratio if ratio is not None and ratio.samples >= self._settings.min_samples else None

    def _ratio(self, basis: Basis, model: str, category: str) -> RawRatio:
        for key in _keys(basis, model, category):
            ratio = self._settled(key)
            if ratio is not None:
                careful = max(LEAST_RATIO, ratio.mean - self._settings.deviations * ratio.deviation)
                return RawRatio(ratio.mean, careful, "learned")
        prior = self._settings.prior_bytes_per_token
        return RawRatio(prior, prior, "prior")

    def learn(self, observation: Observation) -> Verdict:
        """Update the category's ratio and, while that is young, also the model's and the global one."""
        return self.learn_size(observation, text_bytes(observation.features))

    def learn_size(self, observation: Observation, size: float) -> Verdict:
        """Do as `learn`, for a caller that has computed `size`, the text bytes of the features, already."""
        usage = observation.usage
        if usage is None or usage.prompt_tokens is None:
            return "no_usage"
        template = self._settings.tokens_per_message * observation.features[MESSAGES]
        ratio = size / max(1.0, usage.prompt_tokens - template)
        if not LEAST_RATIO <= ratio <= MOST_RATIO:
            return "implausible"
        weight = min(1.0, size / FULL_WEIGHT_BYTES)
        category, *wider = _keys(observation.basis, observation.model, observation.category)
        known = self._ratios.get(category)
        if known is None or known.samples < YOUNG_SAMPLES:
            for key in {*wider} - {category}:  # without a model some keys are the same
                self._update(key, ratio, weight)
        return "outlier" if self._update(category, ratio, weight) else "used"

    def _update(self, key: Key, observed: float, weight: float) -> bool:
        """Learn from one observation. True when it was so far off that its step was limited."""
        settings = self._settings
        ratio = self._ratios.use(key, lambda: Ratio(mean=observed))
        limited = ratio.limited(observed, settings.min_samples)
        values = (weight, weight * limited, weight * limited * limited)
        self._recent.add(key, 1.0 - settings.smoothing * weight, values)
        ratio.update(limited, settings.smoothing, weight)
        return limited != observed

    def prepare(self) -> Iterator[None]:
        """Do what takes time in `take` beforehand, in small steps."""
        return self._recent.prepare()

    def export(self) -> Table:
        """Return the sums of every ratio."""
        return {key: ratio.sums(self._settings.smoothing) for key, ratio in self._ratios.items()}

    def take(self) -> Table:
        """Return the sums of what was learned since the last `take`."""
        return self._recent.take()

    def ready(self, table: Table) -> Iterator[None]:  # noqa: ARG002 - the protocol's
        """Do what takes time in `restore` beforehand: nothing does."""
        return iter(())

    def restore(self, table: Table) -> None:
        """Replace every ratio by those of `table`, without impossible ones."""
        self._recent.take()
        self._ratios = Bounded(self._limit)
        for key, sums in table.items():
            ratio = from_sums(sums) if key[0] == KIND and len(key) == 4 else None
            if ratio is not None:
                self._ratios.put((key[0], key[1], key[2], key[3]), ratio)

    def snapshot(self) -> Snapshot:
        """Return all ratios, least recently used first."""
        return {
            "ratios": [
                {
                    "basis": basis,
                    "model": model,
                    "category": category,
                    "bytes_per_token": ratio.mean,
                    "deviation": ratio.deviation,
                    "samples": ratio.samples,
                }
                for (_, basis, model, category), ratio in self._ratios.items()
            ]
        }


def _keys(basis: Basis, model: str, category: str) -> tuple[Key, Key, Key]:
    """Return the keys from the most to the least specific."""
    return (KIND, basis, model, category), (KIND, basis, model, ""), (KIND, basis, "", "")
