"""What the router's estimates do to a plan: the chance that a request of known length is sent to a pool.

The ratio estimator's upper estimate of a prompt of n tokens and B bytes is B / (c − z·σ), and B = n·c·f for a text
whose bytes per token are f times the mean c of its category. So estimate over truth is f / (1 − z·σ/c); with f
log-normal of mean 1 (`text`) its distribution is known for every category, without simulating anything.
"""

import math
from dataclasses import dataclass

import numpy as np

from extproc.planning.text import TextModel
from extproc.planning.workload import Floats

GRID = np.geomspace(0.05, 20.0, 2001)
"""Ratios of estimate to truth at which the distribution is tabulated."""


@dataclass(frozen=True)
class Estimates:
    """Learned ratios, settled, on texts of `texts`, less `deviations` standard deviations (the configured z)."""

    texts: TextModel
    deviations: float

    def below(self, ratio: Floats) -> Floats:
        """Chance that the upper estimate is at most `ratio` times the truth."""
        return np.asarray(np.interp(ratio, GRID, self._table(), left=0.0), np.float64)

    def _table(self) -> Floats:
        total = sum(kind.share for kind in self.texts)
        table = np.zeros(len(GRID))
        for kind in self.texts:
            careful = max(1 - self.deviations * kind.spread, 0.05)
            sigma = math.sqrt(math.log1p(kind.spread**2)) or 1e-9
            scores = (np.log(GRID * careful) + sigma**2 / 2) / sigma
            table += kind.share / total * np.array([math.erfc(-s / math.sqrt(2)) / 2 for s in scores])
        return table


def exact(ratio: Floats) -> Floats:
    """The same for an oracle: a request is at most what it is."""
    return np.asarray(ratio >= 1, np.float64)
