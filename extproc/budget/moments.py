"""The sums that least squares are solved from: Σ κ·u·uᵀ with u = (x / y, 1), fading.

Nothing but solving needs them, so observations are only noted as they come, and added all at once, as one product
of matrices, when the sums are asked for.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from extproc.budget.prior import WEIGHTS
from extproc.budget.sums import Sums

Vector = NDArray[np.float64]

_SIDE = WEIGHTS + 1
_ROWS, _COLUMNS = np.triu_indices(_SIDE)

WIDTH = len(_ROWS) + 2
"""Length of the values: the upper triangle of the matrix, then Σ weight and Σ weight·|error|."""


class _Seen(NamedTuple):
    x: Vector
    tokens: float
    keep: float
    weight: float
    error: float
    kappa: float


class Moments:
    """The sums of one model. `weight` and `error` are always up to date, the matrix when it is asked for."""

    __slots__ = ("_new", "_new_keep", "_new_samples", "_pending", "_values", "error", "weight")

    def __init__(self) -> None:
        self._values = np.zeros(WIDTH)
        self._pending: list[_Seen] = []
        self._forget_new()
        self.weight = 0.0
        self.error = 0.0

    def add(self, x: Vector, tokens: float, keep: float, weight: float, error: float, kappa: float) -> None:
        """Note an observation: inputs x and y tokens, the share `keep` of earlier sums that it leaves, its weight,
        that times its absolute error, and κ."""
        self._pending.append(_Seen(x, tokens, keep, weight, error, kappa))
        self.weight = keep * self.weight + weight
        self.error = keep * self.error + error

    @property
    def matrix(self) -> Vector:
        """Σ κ·u·uᵀ: its upper triangle, with zeros below."""
        self._add_pending()
        matrix = np.zeros((_SIDE, _SIDE))
        matrix[_ROWS, _COLUMNS] = self._values[:-2]
        return matrix

    @property
    def values(self) -> tuple[float, ...]:
        """All sums, `WIDTH` of them."""
        self._add_pending()
        return tuple(self._values.tolist())

    def take(self) -> Sums | None:
        """Return what was added since the last `take`, None for nothing."""
        self._add_pending()
        taken = Sums(self._new_samples, self._new_keep, tuple(self._new.tolist()))
        self._forget_new()
        return taken if taken.samples else None

    def restore(self, values: Vector) -> None:
        """Become `values`, of length `WIDTH`. Nothing of them is new."""
        self._pending.clear()
        self._forget_new()
        self._values = values
        self.weight, self.error = values[-2:].tolist()

    def _forget_new(self) -> None:
        self._new, self._new_keep, self._new_samples = np.zeros(WIDTH), 1.0, 0

    def _add_pending(self) -> None:
        if not self._pending:
            return
        xs, tokens, keeps, weights, errors, kappas = map(np.array, zip(*self._pending, strict=True))
        self._pending.clear()
        left = np.append(np.cumprod(keeps[:0:-1])[::-1], 1.0)  # of each by those after it
        u = np.ones((len(xs), _SIDE))
        np.divide(xs, tokens[:, None], out=u[:, :-1])
        matrix = (u * (left * kappas)[:, None]).T.dot(u)
        values = np.concatenate((matrix[_ROWS, _COLUMNS], (left.dot(weights), left.dot(errors))))
        keep = float(keeps.prod())
        self._values = keep * self._values + values
        self._new = keep * self._new + values
        self._new_keep *= keep
        self._new_samples += len(xs)
