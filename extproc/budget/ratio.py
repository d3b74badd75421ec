"""The ratio estimator: bytes per token of a category, a moving mean less a margin (arXiv:2604.08075).

For category k with bytes per token x observed at each usage report, weight α:

    c ← c + α·d               d = x − c, limited to ± 3σ once the figure has settled
    v ← (1 − α)·(v + α·d²)    the matching moving variance (West 1979, exponential weights)

A prompt of B bytes and m messages is estimated at B / c + t·m tokens and is not expected to exceed
B / (c − z·σ) + t·m, σ = √v, t tokens per message. The reciprocal is convex, so dividing by a lowered ratio errs to
the safe side. α starts at 1/(n + 1), which makes the first figures plain averages.
"""

import math

import msgspec

from extproc.budget.bounded import Bounded
from extproc.budget.estimate import Estimate, Verdict
from extproc.budget.features import MESSAGES, text_bytes
from extproc.budget.observation import Basis, Observation
from extproc.config import Estimation

LEAST_RATIO = 0.5
MOST_RATIO = 16.0
"""Bytes per token outside these are not tokenisation (DESIGN: figures are clamped to what is possible)."""

OUTLIER_DEVIATIONS = 3.0
LEAST_DEVIATION = 0.05
"""Relative to the mean: keeps a long run of equal observations from making every new one an outlier."""

FULL_WEIGHT_BYTES = 256.0
"""A shorter prompt teaches less: much of its token count is chat template, not text."""

Key = tuple[Basis, str, str]


class Ratio(msgspec.Struct):
    """Bytes per token of one key: moving mean and variance, and the observations behind them."""

    mean: float
    variance: float = 0.0
    samples: int = 0

    @property
    def deviation(self) -> float:
        """Standard deviation, bytes per token."""
        return math.sqrt(self.variance)

    def update(self, observed: float, smoothing: float, min_samples: int, weight: float) -> bool:
        """Move towards `observed` (bytes per token); True when it lay so far off that its step was limited."""
        alpha = max(smoothing, 1.0 / (self.samples + 1)) * weight
        if self.samples == 0:
            self.mean, alpha = observed, 0.0
        step = observed - self.mean
        bound = OUTLIER_DEVIATIONS * max(self.deviation, LEAST_DEVIATION * self.mean)
        outlier = self.samples >= min_samples and abs(step) > bound
        if outlier:
            step = math.copysign(bound, step)
        self.mean = min(max(self.mean + alpha * step, LEAST_RATIO), MOST_RATIO)
        self.variance = (1 - alpha) * (self.variance + alpha * step * step)
        self.samples += 1
        return outlier


class RatioEstimator:
    """A ratio per (model, category), falling back to the model's, the global one, and the configured prior."""

    def __init__(self, settings: Estimation, limit: int) -> None:
        self._settings = settings
        self._ratios: Bounded[Key, Ratio] = Bounded(limit)

    def estimate(self, model: str, category: str, basis: Basis, features: tuple[float, ...]) -> Estimate:
        """Estimate prompt tokens from the bytes and messages in `features`."""
        size = text_bytes(features)
        template = self._settings.tokens_per_message * features[MESSAGES]
        for key in _keys(basis, model, category):
            ratio = self._ratios.get(key)
            if ratio is not None and ratio.samples >= self._settings.min_samples:
                careful = max(LEAST_RATIO, ratio.mean - self._settings.deviations * ratio.deviation)
                tokens = math.ceil(size / ratio.mean + template)
                return Estimate(tokens, math.ceil(size / careful + template), "learned")
        tokens = math.ceil(size / self._settings.prior_bytes_per_token + template)
        return Estimate(tokens, tokens, "prior")

    def learn(self, observation: Observation) -> Verdict:
        """Move the category's, the model's and the global ratio; the verdict is the category's."""
        usage = observation.usage
        if usage is None or usage.prompt_tokens is None:
            return "no_usage"
        size = text_bytes(observation.features)
        template = self._settings.tokens_per_message * observation.features[MESSAGES]
        ratio = size / max(1.0, usage.prompt_tokens - template)
        if not LEAST_RATIO <= ratio <= MOST_RATIO:
            return "implausible"
        weight = min(1.0, size / FULL_WEIGHT_BYTES)
        outliers = [
            self._ratios.use(key, lambda: Ratio(mean=ratio)).update(
                ratio, self._settings.smoothing, self._settings.min_samples, weight
            )
            for key in reversed(_keys(observation.basis, observation.model, observation.category))
        ]
        return "outlier" if outliers[-1] else "used"

    def snapshot(self) -> dict[str, object]:
        """Return the ratios by key, oldest first."""
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
                for (basis, model, category), ratio in self._ratios.items()
            ]
        }


def _keys(basis: Basis, model: str, category: str) -> tuple[Key, Key, Key]:
    """From the most to the least specific."""
    return (basis, model, category), (basis, model, ""), (basis, "", "")
