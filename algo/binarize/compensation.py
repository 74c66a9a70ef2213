"""Column blocks quantized from left to right, the error of each pushed into the columns not yet touched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

import numpy as np
from scipy.linalg import solve_triangular

from algo.binarize.curvature import Curvature
from algo.binarize.residual import Floats

COMPENSATIONS = ("diag", "exact", "none")


class Fitted(Protocol):
    """What a method makes of one column block."""

    def values(self) -> Floats:
        """The real matrix [rows, columns of the block] it stands for."""


Fit = TypeVar("Fit", bound=Fitted)


def compensate(
    weight: Floats,
    curvature: Curvature,
    block: int,
    mode: str,
    fit: Callable[[Floats, Floats], Fit],
) -> tuple[list[Fit], float]:
    """Fit the column blocks of ``weight`` one after another.

    With ``E = (W_B - Q_B) / diag(U_BB)``, all columns behind block B change by ``-E @ U[B, behind]``. That is
    mode "diag", of the released BiLLM; "exact" solves ``E @ U_BB = W_B - Q_B``, the best answer of the later
    columns to an error made jointly; "none" leaves them alone. No column of a block leans on another of it.

    Parameters: weight, float64 [rows, columns], not changed; block, columns of a block, the last may be
    short; fit, called with W_B [rows, k] and diag(U_BB) [k].
    Returns: the fits, and the loss ``0.5 * sum (W_B - Q_B)**2 / diag(U_BB)**2`` over all blocks.
    """
    left, columns = weight.copy(), weight.shape[1]
    fits, loss = [], 0.0
    for start in range(0, columns, block):
        here = slice(start, min(start + block, columns))
        behind = slice(here.stop, columns)
        diagonal = curvature.diagonal[here]
        fitted = fit(left[:, here], diagonal)
        error = left[:, here] - fitted.values()
        loss += 0.5 * float(np.sum((error / diagonal) ** 2))
        if mode != "none":
            pushed = error / diagonal if mode == "diag" else _solved(curvature.factor[here, here], error)
            left[:, behind] -= pushed @ curvature.factor[here, behind]
        fits.append(fitted)
    return fits, loss


def _solved(factor: Floats, error: Floats) -> Floats:
    """``error @ inverse(factor)``, factor upper triangular."""
    return np.asarray(solve_triangular(factor, error.T, trans="T", lower=False).T)
