"""The fading sums from which least squares are solved: Σ κ·u·uᵀ with u = (x / y, 1).

Only solving needs them, so observations are queued as they come, and added all at once, by one matrix product, when
the sums are asked for.
"""

import numpy as np

from extproc.budget.pairs import Array
from extproc.budget.prior import WEIGHTS
from extproc.budget.sums import Sums

_SIDE = WEIGHTS + 1
_UPPER = np.triu_indices(_SIDE)

WIDTH = len(_UPPER[0]) + 2
"""Length of the values: the upper triangle of the matrix, then Σ weight and Σ weight·|error|."""


class Moments:
    """The sums of one model. `weight` and `error` are always up to date, the matrix whenever it is read."""

    __slots__ = ("_matrix", "_new", "_pending", "error", "weight")

    def __init__(self) -> None:
        self._matrix = np.zeros((_SIDE, _SIDE))
        self._pending: list[tuple[Array, float, float, float, float, float]] = []
        self._new: Sums | None = None
        self.weight = 0.0
        self.error = 0.0

    def add(self, x: Array, tokens: float, keep: float, weight: float, error: float, kappa: float) -> None:
        """Queue an observation.

        `x`: inputs. `tokens`: y. `keep`: share of the earlier sums that it leaves. `error`: `weight` times its
        absolute relative error, limited for an outlier. `kappa`: κ, which is `weight`, reduced for an outlier.
        """
        self._pending.append((x, tokens, keep, weight, error, kappa))
        self.weight = keep * self.weight + weight
        self.error = keep * self.error + error

    @property
    def matrix(self) -> Array:
        """Σ κ·u·uᵀ, symmetric."""
        self._add_pending()
        return self._matrix

    @property
    def values(self) -> Array:
        """All sums, `WIDTH` of them."""
        return _values(self.matrix, self.weight, self.error)

    def take(self) -> Sums | None:
        """Return what was added since the last `take`, None if nothing was."""
        self._add_pending()
        taken, self._new = self._new, None
        return taken

    def restore(self, values: Array) -> None:
        """Become `values`, of length `WIDTH`. None of it will be returned by `take`."""
        self._pending.clear()
        self._new = None
        self._matrix[_UPPER] = self._matrix.T[_UPPER] = values[:-2]
        self.weight, self.error = values[-2:].tolist()

    def _add_pending(self) -> None:
        if not self._pending:
            return
        xs, tokens, keeps, weights, errors, kappas = map(np.array, zip(*self._pending, strict=True))
        self._pending.clear()
        left = np.append(np.cumprod(keeps[:0:-1])[::-1], 1.0)  # what later observations leave of each
        u = np.ones((len(xs), _SIDE))
        np.divide(xs, tokens[:, None], out=u[:, :-1])
        matrix = (u * (left * kappas)[:, None]).T.dot(u)
        keep = float(keeps.prod())
        self._matrix = keep * self._matrix + matrix
        run = Sums(len(xs), keep, _values(matrix, left.dot(weights), left.dot(errors)))
        self._new = run if self._new is None else self._new.then(run)


def _values(matrix: Array, weight: float, error: float) -> Array:
    return np.append(matrix[_UPPER], (weight, error))
