"""What a simulation measures: latency histograms and counts, by pool, in memory that does not grow."""

from typing import Any

import numpy as np
import numpy.typing as npt

BINS_A_DECADE = 230
"""Bins are 1 % wide, which is the error of a percentile."""

LEAST, DECADES = 1e-4, 9
"""The bins begin at 0.1 ms and end at 10⁵ s: what is outside counts as their first or last."""

PERCENTILES = (0.5, 0.95, 0.99)
QUANTITIES = ("ttft", "latency", "tpot")

_BINS = BINS_A_DECADE * DECADES


class Measures:
    """Latencies (s) and counts of the requests of one pool, or of the fleet.

    `late`: requests whose first token came after `ttft_objective`, s.
    """

    def __init__(self, ttft_objective: float) -> None:
        self._objective = ttft_objective
        self._bins = {name: np.zeros(_BINS + 1, np.int64) for name in QUANTITIES}
        self._sums = dict.fromkeys(QUANTITIES, 0.0)
        self._counts = dict.fromkeys(QUANTITIES, 0)
        self.late = 0
        self.preemptions = 0
        self.tokens = 0

    @property
    def completed(self) -> int:
        """Requests finished."""
        return self._counts["latency"]

    def take(self, rows: npt.NDArray[Any]) -> None:
        """Add finished requests (rows of `rows.FINISHED`)."""
        ttft = rows["first"] - rows["arrival"]
        several = rows[rows["generated"] > 1]
        self._add("ttft", ttft)
        self._add("latency", rows["end"] - rows["arrival"])
        self._add("tpot", (several["end"] - several["first"]) / (several["generated"] - 1))
        self.preemptions += int(rows["preempted"].sum())
        self.tokens += int(rows["generated"].sum())
        self.late += int((ttft > self._objective).sum())

    def _add(self, name: str, values: npt.NDArray[np.float64]) -> None:
        bins = np.log10(np.maximum(values, LEAST) / LEAST) * BINS_A_DECADE
        self._bins[name] += np.bincount(np.minimum(bins.astype(np.int64), _BINS), minlength=_BINS + 1)
        self._sums[name] += float(values.sum())
        self._counts[name] += len(values)

    def mean(self, name: str) -> float:
        """Mean of a quantity in seconds, 0 when there is none."""
        return self._sums[name] / self._counts[name] if self._counts[name] else 0.0

    def percentile(self, name: str, q: float) -> float:
        """Upper edge of the bin that holds quantile `q`, in seconds; 0 when there is none."""
        if not self._counts[name]:
            return 0.0
        place = int(np.searchsorted(np.cumsum(self._bins[name]), q * self._counts[name]))
        return float(LEAST * 10 ** ((place + 1) / BINS_A_DECADE))

    def record(self) -> dict[str, Any]:
        """Everything as plain values."""
        figures: dict[str, Any] = {"completed": self.completed, "tokens": self.tokens}
        for name in QUANTITIES:
            figures[name] = {"mean": self.mean(name)} | {
                f"p{q * 100:g}": self.percentile(name, q) for q in PERCENTILES
            }
        figures["preemptions_per_1000"] = 1000 * self.preemptions / self.completed if self.completed else 0.0
        figures["late"] = self.late / self.completed if self.completed else 0.0
        return figures
