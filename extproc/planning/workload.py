"""A workload: how long requests are, and how they arrive.

Lengths are kept as distinct (input, output, cap) triples with a weight, never as one record a request, so a
workload of forty million rows is as small as its distribution.
"""

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from extproc.planning.errors import PlanError

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

MOST_TOKENS = 100_000_000
"""No request has more; a figure beyond it is not a count of tokens."""

LEAST_RATE = 1e-9
"""Requests per second: one in thirty years. Times between much rarer ones are beyond what a float holds."""

NO_CAP = -1
"""Value of `Workload.caps` where the client set no output cap."""

CAP_LAWS = ("as logged", "none", "exact", "round")
"""How clients set output caps, see `caps_by`."""

SMALLEST_ROUND_CAP = 256


@dataclass(frozen=True)
class Arrivals:
    """When requests arrive.

    `rate` and `peak`: requests per second, mean and in the busiest minute. `cv`: coefficient of variation of the
    times between arrivals (1 for a Poisson process, None where it is not known). `by_minute`: requests
    per second of each minute. `seconds`: length of the recording, 0 when the rate was given and nothing recorded.
    """

    rate: float
    peak: float
    cv: float | None = 1.0
    seconds: float = 0.0
    by_minute: tuple[float, ...] = ()

    def scaled(self, rate: float) -> "Arrivals":
        """Return the same pattern at a mean of `rate` requests per second."""
        factor = rate / self.rate
        return replace(
            self, rate=rate, peak=self.peak * factor, by_minute=tuple(m * factor for m in self.by_minute)
        )


@dataclass(frozen=True)
class Workload:
    """Lengths in tokens, with weights, and arrivals.

    `inputs`, `outputs`, `caps`: aligned arrays, one element a distinct request. `caps` is the client's output cap,
    `NO_CAP` where there is none. `weights`: requests of each kind (any positive unit).
    `rows`, `bad`: requests read (0 where only a distribution is known) and rows left out. `notes`: what was assumed
    while reading, for every report. `untimed`: why there are no arrivals, empty where that needs no saying.
    """

    name: str
    inputs: Ints
    outputs: Ints
    caps: Ints
    weights: Floats
    arrivals: Arrivals | None = None
    rows: int = 0
    bad: int = 0
    notes: tuple[str, ...] = field(default=())
    untimed: str = ""

    @property
    def totals(self) -> Ints:
        """Tokens each request really used: input plus output."""
        return self.inputs + self.outputs

    def budgets(self, reserve: int | Ints) -> Ints:
        """Tokens each request asks for: input plus its cap, or plus `reserve` where it has none."""
        return np.asarray(self.inputs + np.where(self.caps == NO_CAP, reserve, self.caps), np.int64)

    def quantile(self, values: Ints, q: float) -> int:
        """Return the smallest element of `values` with at least the weight share `q` at or below it."""
        order = np.argsort(values, kind="stable")
        cumulative = np.cumsum(self.weights[order])
        index = np.searchsorted(cumulative, q * cumulative[-1] * (1 - 1e-12))  # sums are rounded
        return int(values[order[index]])

    def share(self, chosen: npt.NDArray[np.bool_]) -> float:
        """Weight share of the `chosen` requests."""
        return float(self.weights[chosen].sum() / self.weights.sum())

    def part(self, shares: Floats) -> "Workload | None":
        """Return that share of each kind of request, None when nothing is left; arrivals are thinned alike."""
        weights = self.weights * shares
        kept = weights > 0
        if not kept.any():
            return None
        share = float(weights.sum() / self.weights.sum())
        return replace(
            self,
            inputs=self.inputs[kept],
            outputs=self.outputs[kept],
            caps=self.caps[kept],
            weights=weights[kept],
            arrivals=self.arrivals and self.arrivals.scaled(self.arrivals.rate * share),
        )

    def mean(self, values: npt.NDArray[np.int64] | Floats) -> float:
        """Weighted mean of `values`."""
        return float(np.average(values, weights=self.weights))

    def with_rate(self, rate: float) -> "Workload":
        """Return the workload at a mean of `rate` requests per second; Poisson when nothing was recorded.

        Raises `PlanError` for a rate below `LEAST_RATE`.
        """
        if rate < LEAST_RATE:
            raise PlanError(f"--rate: {rate:g}: must be at least {LEAST_RATE:g} requests per second")
        arrivals = self.arrivals.scaled(rate) if self.arrivals else Arrivals(rate, rate)
        return replace(self, arrivals=arrivals)

    def needs_rate(self) -> Arrivals:
        """Return the arrivals. Raises `PlanError` where the source has no timestamps and no rate was given."""
        if self.arrivals is None:
            why = self.untimed or "has no timestamps"
            raise PlanError(f"{self.name}: {why}: give the arrival rate with --rate")
        return self.arrivals


def caps_by(law: str, outputs: Ints, logged: Ints) -> Ints:
    """Return the output caps of requests with `outputs` by `law`; `logged`: those their source has.

    `as logged`: what the source says. `none`: no client sets one. `exact`: the cap is the output, as an oracle
    would know it. `round`: the power of two at or above the output, at least 256, as people type them.
    A number: that cap for all, at least the output. Raises `PlanError` for any other law.
    """
    if law == "as logged":
        return logged
    if law == "none":
        return np.full_like(outputs, NO_CAP)
    if law == "exact":
        return outputs.copy()
    if law == "round":
        power = 2 ** np.ceil(np.log2(np.maximum(outputs, 1))).astype(np.int64)
        return np.asarray(np.maximum(power, SMALLEST_ROUND_CAP), np.int64)
    number = int(law[:20]) if law.isascii() and law.isdigit() else 0
    if 0 < number <= MOST_TOKENS:
        return np.asarray(np.maximum(outputs, number), np.int64)
    laws = ", ".join(CAP_LAWS)
    raise PlanError(f"--caps: {law[:60]!r}: must be one of {laws}, or a number of tokens up to {MOST_TOKENS}")


def with_caps(workload: Workload, law: str) -> Workload:
    """Return the workload with output caps set by `law`, which is named in its notes. Raises `PlanError`."""
    notes = workload.notes if law == "as logged" else (*workload.notes, f"output caps assumed: {law}")
    return replace(workload, caps=caps_by(law, workload.outputs, workload.caps), notes=notes)


def merge(workloads: list[Workload]) -> Workload:
    """Return all requests of `workloads` as one. Arrivals are superposed when all have some.

    Raises `PlanError` for a distribution among several, which does not say how many requests it stands for.
    """
    if len(workloads) == 1:
        return workloads[0]
    for part in workloads:
        if part.rows == 0:
            raise PlanError(f"{part.name}: is a distribution without a number of requests: give it by itself")
    arrivals = [w.arrivals for w in workloads]
    return Workload(
        name=" + ".join(w.name for w in workloads),
        inputs=np.concatenate([w.inputs for w in workloads]),
        outputs=np.concatenate([w.outputs for w in workloads]),
        caps=np.concatenate([w.caps for w in workloads]),
        weights=np.concatenate([w.weights for w in workloads]),
        arrivals=superpose([a for a in arrivals if a]) if all(arrivals) else None,
        rows=sum(w.rows for w in workloads),
        bad=sum(w.bad for w in workloads),
        notes=tuple(dict.fromkeys(note for w in workloads for note in w.notes)),
        untimed="; ".join(f"{w.name}: {w.untimed}" for w in workloads if w.untimed),
    )


def superpose(parts: list[Arrivals]) -> Arrivals:
    """All `parts` together, from the same start. The mean is all requests over the longest recording, the peak the
    busiest minute of the sum; the variation is the mean of the parts' squares, weighted with their requests."""
    seconds = max(p.seconds for p in parts)
    means = [p.rate * p.seconds / seconds if seconds else p.rate for p in parts]
    rate = sum(means)
    known = [(mean, p.cv) for mean, p in zip(means, parts, strict=True) if p.cv is not None]
    minutes = max(len(p.by_minute) for p in parts)
    by_minute = tuple(sum(p.by_minute[m] for p in parts if m < len(p.by_minute)) for m in range(minutes))
    return Arrivals(
        rate=rate,
        peak=max(rate, *by_minute) if by_minute else sum(p.peak for p in parts),
        cv=None if len(known) < len(parts) else sum(mean * cv**2 for mean, cv in known) ** 0.5 / rate**0.5,
        seconds=seconds,
        by_minute=by_minute,
    )
