"""Column blocks quantized from left to right, the error of each pushed into the columns not yet touched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

import numpy as np
from scipy.linalg import solve_triangular

from algo.binarize.curvature import Curvature
from algo.binarize.zone import Floats

COMPENSATIONS = ("diag", "exact", "none")

#: Columns after which what the blocks pushed reaches all later columns, in one product: it is read once for
#: eight blocks, and its temporary stays small beside the layer.
_SPAN = 1024


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
    fit: Callable[[Floats, slice], Fit],
) -> tuple[list[Fit], float]:
    """Fit the column blocks of ``weight`` one after another.

    With ``E = (W_B - Q_B) / diag(U_BB)``, all columns behind block B change by ``-E @ U[B, behind]``. That is
    mode "diag", of the released BiLLM; "exact" solves ``E @ U_BB = W_B - Q_B``, the best answer of the later
    columns to an error made jointly; "none" leaves them alone.

    Parameters: weight, float64 [rows, columns], not changed; block, columns of a block, the last may be
    short; fit, called with W_B [rows, k] and the block's columns.
    Returns: the fits, and the loss ``0.5 * sum (W_B - Q_B)**2 / diag(U_BB)**2`` over all blocks.
    """
    left, columns = weight.copy(), weight.shape[1]
    left[:, curvature.dead] = 0
    diagonal = curvature.diagonal
    fits, loss = [], 0.0
    span = max(block, _SPAN // block * block)
    for first in range(0, columns, span):
        last = min(first + span, columns)
        moved = np.zeros((len(weight), last - first), curvature.factor.dtype)
        for start in range(first, last, block):
            here = slice(start, min(start + block, columns))
            now = np.ascontiguousarray(left[:, here])
            fitted = fit(now, here)
            error = now - fitted.values()
            loss += 0.5 * float(np.sum((error / diagonal[here]) ** 2))
            if mode != "none" and here.stop < columns:
                pushed = _pushed(error, curvature, here, mode)
                left[:, here.stop : last] -= curvature.reach(pushed, here, slice(here.stop, last))
                moved[:, start - first : here.stop - first] = pushed
            fits.append(fitted)
        for strip in range(last, columns, _SPAN) if mode != "none" else ():
            behind = slice(strip, min(strip + _SPAN, columns))
            left[:, behind] -= curvature.reach(moved, slice(first, last), behind)
    return fits, loss


def _pushed(error: Floats, curvature: Curvature, here: slice, mode: str) -> Floats:
    if mode == "diag":
        return np.asarray(error / curvature.diagonal[here])
    return _solved(curvature.square(here), error)


def _solved(factor: Floats, error: Floats) -> Floats:
    """``error @ inverse(factor)``, factor upper triangular."""
    return np.asarray(solve_triangular(factor, error.T, trans="T", lower=False).T)
