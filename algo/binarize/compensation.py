"""Column blocks quantized from left to right, the error of each pushed into the columns not yet touched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

import numpy as np
from scipy.linalg import solve_triangular

from algo.binarize.curvature import Curvature
from algo.binarize.zone import Floats

COMPENSATIONS = ("diag", "exact", "none")

_STRIP = 1024  #: columns updated at once: the product's temporary stays small beside the layer


class Fitted(Protocol):
    """What a method makes of one column block."""

    def values(self) -> Floats:
        """The real matrix [rows, columns of the block] it stands for."""

    @property
    def pushed(self) -> Floats | None:
        """What is taken off the later columns, [rows, k], before it meets the factor; None: by the mode."""


Fit = TypeVar("Fit", bound=Fitted)


def compensate(
    weight: Floats,
    curvature: Curvature,
    block: int,
    mode: str,
    fit: Callable[[Floats, slice], Fit],
) -> tuple[list[Fit], float]:
    """Fit the column blocks of ``weight`` one after another.

    With ``E = (W_B - Q_B) / diag(U_BB)``, all columns behind block B change by ``-E @ U[B, behind]``. That is
    mode "diag", of the released BiLLM; "exact" solves ``E @ U_BB = W_B - Q_B``, the best answer of the later
    columns to an error made jointly; "none" leaves them alone. A fit that pushed its errors on within the
    block, column after column, brings its own ``E`` (`Fitted.pushed`).

    Parameters: weight, float64 [rows, columns], not changed; block, columns of a block, the last may be
    short; fit, called with W_B [rows, k] and the block's columns.
    Returns: the fits, and the loss ``0.5 * sum (W_B - Q_B)**2 / diag(U_BB)**2`` over all blocks.
    """
    left, columns = weight.copy(), weight.shape[1]
    left[:, curvature.dead] = 0
    diagonal = curvature.diagonal
    fits, loss = [], 0.0
    for start in range(0, columns, block):
        here = slice(start, min(start + block, columns))
        fitted = fit(left[:, here], here)
        error = left[:, here] - fitted.values()
        loss += 0.5 * float(np.sum((error / diagonal[here]) ** 2))
        if mode != "none":
            pushed = fitted.pushed
            if pushed is None and mode == "diag":
                pushed = error / diagonal[here]
            elif pushed is None:
                pushed = _solved(curvature.factor[here, here], error)
            for strip in range(here.stop, columns, _STRIP):
                behind = slice(strip, min(strip + _STRIP, columns))
                left[:, behind] -= pushed @ curvature.factor[here, behind]
        fits.append(fitted)
    return fits, loss


def _solved(factor: Floats, error: Floats) -> Floats:
    """``error @ inverse(factor)``, factor upper triangular."""
    return np.asarray(solve_triangular(factor, error.T, trans="T", lower=False).T)
