"""The Hessian of a layer's output error, made into the triangular factor that block compensation reads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg.lapack import dpotrf, dtrtri, spotrf, strtri

from algo.formats.quantized import Calibration

Floats = NDArray[np.float64]
Factor = NDArray[np.floating]

#: Columns from which on the factor is made, kept and multiplied by in float32, as the released codes do at
#: any width: half the time of a step that grows with the cube of the width, and half its memory.
SINGLE_FROM = 4096

#: What the damping is multiplied by, one after the other, until the factorization succeeds.
_ESCALATION = (1, 10, 100)


@dataclass(frozen=True, eq=False)
class Curvature:
    """Upper triangular ``U`` with ``U.T @ U = inverse(damped Hessian)``.

    ``U[j, j]**2`` is the inverse curvature of column j once the columns before it are fixed.
    """

    factor: Factor  #: [columns, columns]
    dead: NDArray[np.bool_]  #: [columns], input channels that were 0 on all calibration tokens

    @property
    def diagonal(self) -> Floats:
        """Diagonal of the factor, [columns]."""
        return np.diagonal(self.factor).astype(np.float64)

    def square(self, here: slice) -> Floats:
        """The factor's square on its diagonal at some columns, float64 [k, k]."""
        return np.ascontiguousarray(self.factor[here, here], np.float64)

    def reach(self, pushed: NDArray[np.floating], here: slice, behind: slice) -> Factor:
        """What errors [rows, k] pushed at the columns ``here`` take off those ``behind``: one product."""
        product: Factor = pushed.astype(self.factor.dtype, copy=False) @ self.factor[here, behind]
        return product


def flat(columns: int) -> Curvature:
    """The curvature of a layer nothing is known about: all columns weigh the same, none leans on another."""
    return Curvature(np.eye(columns), np.zeros(columns, np.bool_))


def curvature(hessian: ArrayLike, columns: int, damping: float) -> Curvature:
    """Factor the inverse of a damped Hessian.

    A dead channel (diagonal 0) gets diagonal 1; then ``damping`` times the diagonal's mean is added to it,
    and ten or a hundred times that where the sum is still not positive definite.

    Parameters: hessian, float [columns, columns], symmetric; its scale does not matter to any user.
    Raises: ValueError if it has another shape, is not finite, or is not positive definite when damped.
    Source: Frantar et al., GPTQ, arXiv:2210.17323, section 4, step 3; differs in: float64 below
    `SINGLE_FROM` columns, and where float32 finds no factor; the factor is the inverse of a reversed Cholesky
    factor, in the place of one copy of the Hessian.
    """
    given = np.asarray(hessian, np.float64)
    if given.shape != (columns, columns):
        raise ValueError(f"hessian must have shape [{columns}, {columns}], not {list(given.shape)}")
    if not np.all(np.isfinite(given)):
        raise ValueError("hessian must be finite, not NaN or infinity")
    dead = np.diagonal(given) == 0
    kinds = (np.float32, np.float64) if columns >= SINGLE_FROM else (np.float64,)
    for times in _ESCALATION:
        for kind in kinds:
            factor = _factor(given, dead, damping * times, kind)
            if factor is not None:
                return Curvature(factor, dead)
    raise ValueError(
        f"hessian must be positive definite at damping {damping * times:g}, not indefinite: "
        "is it a sum of x x^T?"
    )


def known(columns: int, calibration: Calibration | None, damping: float, needed_for: str) -> Curvature:
    """The curvature of a calibration; `flat` without one, where nothing needs it.

    Parameters: needed_for, what reads the calibration, in words; empty: nothing must.
    Raises: ValueError if it is needed and None, or as `curvature` does.
    """
    if calibration is not None:
        return curvature(calibration.hessian, columns, damping)
    if needed_for:
        raise ValueError(f"calibration must be given for {needed_for}, not None")
    return flat(columns)


def _factor(given: Floats, dead: NDArray[np.bool_], damping: float, kind: type) -> Factor | None:
    """``U``, or None if the damped Hessian has no Cholesky factor."""
    # With rows and columns reversed H = L L^T, so H = R R^T with R upper triangular, and U is its inverse.
    # A C-ordered symmetric matrix is its own Fortran-ordered self: LAPACK works in place on this one copy.
    work: Factor = np.ascontiguousarray(given[::-1, ::-1], dtype=kind)
    diagonal = np.where(dead, 1.0, np.diagonal(given))
    np.fill_diagonal(work, (diagonal + damping * diagonal.mean())[::-1])
    cholesky, invert = (spotrf, strtri) if kind is np.float32 else (dpotrf, dtrtri)
    lower, failed = cholesky(work.T, lower=1, overwrite_a=1, clean=1)
    if failed:
        return None
    inverse, failed = invert(lower, lower=1, overwrite_c=1)
    return None if failed else _reversed(inverse.T).T


def _reversed(matrix: Factor) -> Factor:
    """Rows and columns of a C-ordered matrix in reverse, in place: products would copy what runs backward."""
    rows = len(matrix)
    top = matrix[: rows // 2].copy()
    bottom = matrix[rows - rows // 2 :]
    matrix[: rows // 2] = bottom[::-1, ::-1]
    bottom[:] = top[::-1, ::-1]
    if rows % 2:
        matrix[rows // 2] = matrix[rows // 2, ::-1].copy()
    return matrix
