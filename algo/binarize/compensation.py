"""Column blocks quantized from left to right, the error of each pushed into the columns not yet touched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

import numpy as np

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


class Feedback:
    """What the errors of a layer's first columns add to its later ones.

    Errors ``E`` [rows, columns] change the weights of block B by ``-sum of E_A @ U[A, B]`` over all earlier
    blocks A. With ``U = inverse(R)`` that is ``T_B @ U_BB``, where ``T_B`` is the sum of ``X_A @ R[A, B]``
    and ``X_B = (E_B - T_B) @ U_BB``: R alone is multiplied by, and its whole inverse is never made.
    """

    def __init__(self, curve: Curvature, rows: int, block: int) -> None:
        """``block``: no more columns are pushed at once, and none across a multiple of it."""
        self._curve, self._span = curve, max(block, _SPAN // block * block)
        self._owed = np.zeros((rows, len(curve.root)), curve.root.dtype)  #: T, complete to the span's end
        self._span_errors = np.zeros(
            (rows, min(self._span, len(curve.root))), curve.root.dtype
        )  #: X of the span's columns

    def at(self, here: slice) -> Floats:
        """What is to be added to the weights ``here`` before they are quantized, float64 [rows, k]."""
        owed = self._owed[:, here].astype(np.float64)
        return owed @ self._curve.square(here) if here.start else owed

    def push(self, error: Floats, here: slice) -> None:
        """Take ``E`` of the columns ``here``, the next ones; float64 [rows, k]."""
        root, columns = self._curve.root, len(self._curve.root)
        first = here.start // self._span * self._span
        last = min(first + self._span, columns)
        moved = ((error - self._owed[:, here]) @ self._curve.square(here)).astype(root.dtype)
        self._owed[:, here.stop : last] += moved @ root[here, here.stop : last]
        self._span_errors[:, here.start - first : here.stop - first] = moved
        if here.stop < last:
            return
        for strip in range(last, columns, _SPAN):
            behind = slice(strip, min(strip + _SPAN, columns))
            self._owed[:, behind] += self._span_errors @ root[first:last, behind]


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
    rows, columns = weight.shape
    diagonal = curvature.diagonal
    feedback = None if mode == "none" else Feedback(curvature, rows, block)
    fits, loss = [], 0.0
    for start in range(0, columns, block):
        here = slice(start, min(start + block, columns))
        now = np.where(curvature.dead[here], 0.0, weight[:, here])
        if feedback is not None:
            now += feedback.at(here)
        fitted = fit(now, here)
        error = now - fitted.values()
        scaled = error / diagonal[here]
        loss += 0.5 * float(np.sum(scaled**2))
        if feedback is not None and here.stop < columns:
            feedback.push(scaled if mode == "diag" else error @ curvature.root[here, here], here)
        fits.append(fitted)
    return fits, loss
