"""The linear estimator: the cost of every kind of byte in tokens, learned online for each model.

    tokens ≈ w · x

The weights w are learned by `extproc.budget.least_squares`. The relative variance of an estimate e is
τ² = s² + xᵀPx / e²: the usual error s, and how little is known about the text at hand, with P the covariance of the
weights. How far the upper estimate is above e follows from the errors seen, in units of τ
(`extproc.budget.margin`).

Of a raw body only the number of bytes is known. There the ratio estimator takes over, with a margin that follows
from its own errors in the same way; one margin for all sizes, so that the in-proxy filter needs only two figures.
"""

import math
from collections.abc import Iterator

from extproc.budget.bounded import Bounded
from extproc.budget.estimate import Estimate, RawRatio, Snapshot, Source, Verdict
from extproc.budget.features import text_bytes
from extproc.budget.least_squares import Expected, Fit, inputs
from extproc.budget.margin import KEEP, SIZES, STEPS, Errors, cell_of
from extproc.budget.observation import Basis, Observation
from extproc.budget.pairs import Array
from extproc.budget.prior import INPUTS
from extproc.budget.ratio import LEAST_RATIO, YOUNG_SAMPLES, RatioEstimator
from extproc.budget.sums import Recent, Sums, Table, are_counts
from extproc.config import Estimation

KIND = "linear"
"""First part of a key. Sums: those of `Fit`."""

ERRORS = "linear-errors"
RAW_ERRORS = "raw-errors"
"""First parts of keys, of text and of raw bodies. Sums: `Errors.counts`, flattened."""

RAW_DEVIATION = 0.3
"""The deviation τ of raw bodies, about their usual relative error."""


class LinearEstimator:
    """Keeps a `Fit` and `Errors` for each model and for models not yet known, and ratios for raw bodies."""

    kinds = RatioEstimator.kinds | {KIND, ERRORS, RAW_ERRORS}

    def __init__(self, settings: Estimation, limit: int, before: "LinearEstimator | None" = None) -> None:
        """`before`: whose figures `restore` keeps where they are the same, instead of solving for them again."""
        self._settings = settings
        self._rate = settings.misroute_percent / 100.0
        self._limit = limit
        self._fits: Bounded[str, Fit] = before._fits if before else Bounded(limit)
        self._errors: Bounded[tuple[str, str], Errors] = before._errors if before else Bounded(2 * limit)
        self._ready: dict[str, Fit] = {}
        self._nothing = Fit()
        self._no_errors = Errors()
        self._recent = Recent(2 * limit)
        self._raw = RatioEstimator(settings, limit)

    def estimate(self, model: str, category: str, basis: Basis, features: tuple[float, ...]) -> Estimate:
        """Estimate prompt tokens from the byte classes in `features`. The category matters for raw bodies only."""
        if basis == "raw":
            return self.raw(model, category).estimate(text_bytes(features))
        name, fit = self._known(model)
        found = fit.estimate(inputs(features))
        expected = min(max(found.tokens, found.least), found.most)
        errors = self._errors.get((ERRORS, name)) or self._no_errors
        upper = min(expected * math.exp(errors.margin(expected, found.deviation, self._rate)), found.most)
        source: Source = "learned" if fit.samples >= self._settings.min_samples else "prior"
        return Estimate(max(round(expected), math.ceil(found.least)), math.ceil(upper), source)

    def _known(self, model: str) -> tuple[str, Fit]:
        """Return the name and the fit that estimates for `model` use: its own if settled, else the general one."""
        fit = self._fits.get(model)
        if fit is not None and fit.samples >= self._settings.min_samples:
            return model, fit
        return "", self._fits.get("") or self._nothing

    def raw(self, model: str, category: str) -> RawRatio:
        """Return bytes per token of raw bodies."""
        ratio = self._raw.raw(model, category)
        errors = self._errors.get((RAW_ERRORS, model)) or self._errors.get((RAW_ERRORS, ""))
        if ratio.source == "prior" or errors is None:
            return ratio
        margin = errors.overall(RAW_DEVIATION, self._rate)
        return RawRatio(ratio.mean, max(LEAST_RATIO, ratio.mean * math.exp(-margin)), ratio.source)

    def raw_keys(self) -> set[tuple[str, str]]:
        """Return model and category of each figure of raw bodies: ratios, and errors, which outlive them."""
        return self._raw.raw_keys() | {(name, "") for (kind, name), _ in self._errors.items() if kind == RAW_ERRORS}

    def is_settled(self, model: str, category: str, basis: Basis) -> bool:
        """Whether the model has weights of its own, or the category a ratio of raw bodies."""
        if basis == "raw":
            return self._raw.is_settled(model, category, basis)
        fit = self._fits.get(model)
        return fit is not None and fit.samples >= self._settings.min_samples

    def learn(self, observation: Observation) -> Verdict:
        """Learn from the error of an estimate made now, then update the model's weights."""
        if observation.basis == "raw":
            return self._learn_raw(observation)
        usage = observation.usage
        if usage is None or usage.prompt_tokens is None:
            return "no_usage"
        x = inputs(observation.features)
        fit = self._fits.get(observation.model) or self._nothing
        expected = fit.estimate(x)
        tokens = float(usage.prompt_tokens)
        if tokens < 1 or not expected.least <= tokens <= expected.most:
            return "implausible"
        if observation.model and fit.samples < YOUNG_SAMPLES:
            self._learn("", x, tokens, (self._fits.get("") or self._nothing).estimate(x))
        return "outlier" if self._learn(observation.model, x, tokens, expected) else "used"

    def _learn_raw(self, observation: Observation) -> Verdict:
        size = text_bytes(observation.features)
        expected = size / self._raw.raw(observation.model, observation.category).mean
        verdict = self._raw.learn_size(observation, size)
        usage = observation.usage
        if verdict in ("used", "outlier") and usage is not None and usage.prompt_tokens:
            cell = cell_of(expected, math.log(usage.prompt_tokens / expected) / RAW_DEVIATION)
            if self._count(RAW_ERRORS, observation.model, cell) <= YOUNG_SAMPLES and observation.model:
                self._count(RAW_ERRORS, "", cell)
        return verdict

    def _learn(self, name: str, x: Array, tokens: float, expected: Expected) -> bool:
        cell = cell_of(expected.tokens, math.log(tokens / expected.tokens) / expected.deviation)
        outlier = self._fits.use(name, Fit).learn(x, tokens)
        self._count(ERRORS, name, cell)
        return outlier

    def _count(self, kind: str, name: str, cell: int) -> int:
        """Count an error, and return the number of errors so far."""
        errors = self._errors.use((kind, name), Errors)
        errors.add(cell)
        self._recent.count((kind, name), KEEP, SIZES * STEPS, cell)
        return errors.samples

    def prepare(self) -> Iterator[None]:
        """Do what takes time in `export` and `take` beforehand, in small steps."""
        for figures in (self._fits, self._errors):
            for _, figure in figures.items():
                figure.sums()
                yield
        yield from self._recent.prepare()
        yield from self._raw.prepare()

    def export(self) -> Table:
        """Return the sums of every model."""
        table: Table = {(KIND, name): fit.sums() for name, fit in self._fits.items()}
        table |= {key: errors.sums() for key, errors in self._errors.items()}
        return {**table, **self._raw.export()}

    def take(self) -> Table:
        """Return the sums of what was learned since the last `take`."""
        table: Table = {}
        for name, fit in self._fits.items():
            news = fit.take()
            if news is not None:
                table[(KIND, name)] = news
        return {**table, **self._recent.take(), **self._raw.take()}

    def ready(self, table: Table) -> Iterator[None]:
        """Do what takes time in `restore` beforehand, in small steps: solve for the weights that are new.

        Also for those of a model learned here, whose last observations were not solved for yet: whoever else is
        given the same sums solves for all of them, and all are to estimate alike.
        """
        self._ready = {}
        for key, sums in table.items():
            if len(key) == 2 and key[0] == KIND:
                fit = self._fit(key[1], sums)
                if fit is not None:
                    fit.catch_up()
                    self._ready[key[1]] = fit
            yield

    def restore(self, table: Table) -> None:
        """Replace every model by those of `table`, without impossible ones.

        Models that the table does not change are kept as they are: solving hundreds again would hold up requests.
        """
        self._recent.take()
        fits: Bounded[str, Fit] = Bounded(self._limit)
        errors: Bounded[tuple[str, str], Errors] = Bounded(2 * self._limit)
        for key, sums in table.items():
            if len(key) != 2:
                continue
            kind, name = key
            if kind == KIND:
                fit = self._fit(name, sums)
                if fit is not None:
                    fits.put(name, fit)
            elif kind in (ERRORS, RAW_ERRORS):
                counted = _errors(self._errors.get((kind, name)), sums)
                if counted is not None:
                    errors.put((kind, name), counted)
        self._fits, self._errors, self._ready = fits, errors, {}
        self._raw.restore(table)

    def _fit(self, name: str, sums: Sums) -> Fit | None:
        """Return the fit of `sums`, which may be known already; None when they are impossible."""
        before = self._fits.get(name)
        for known in (before, self._ready.get(name)):
            if known is not None and known.has(sums):
                return known
        fit = Fit()
        return fit if fit.restore(sums, before) else None

    def snapshot(self) -> Snapshot:
        """Return weights (tokens each) and the usual error by model, and the ratios of raw bodies."""
        models = [
            {
                "model": name,
                "samples": fit.samples,
                "error": fit.error,
                "weights": dict(zip(INPUTS, fit.weights.tolist(), strict=True)),
            }
            for name, fit in self._fits.items()
        ]
        return {"linear": models, **self._raw.snapshot()}


def _errors(before: Errors | None, sums: Sums) -> Errors | None:
    """Return the errors of `sums`, which may be those before; None when they are impossible."""
    if before is not None and before.sums() == sums:
        return before
    if len(sums.values) != SIZES * STEPS or not are_counts(sums.values):
        return None
    return Errors(sums)
