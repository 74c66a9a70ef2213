"""The Hessian of a layer's output error, made into the triangular root that block compensation reads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg.lapack import dtrtri

from algo.formats.quantized import Calibration

Floats = NDArray[np.float64]
Root = NDArray[np.floating]

#: Columns from which on the root is made, kept and multiplied by in float32, as the released codes do at
#: any width: half the time of a step that grows with the cube of the width, and half its memory.
SINGLE_FROM = 4096

_PANEL = 256  #: columns of the root made at once

#: What the damping is multiplied by, one after the other, until the factorization succeeds.
_ESCALATION = (1, 10, 100)


@dataclass(frozen=True, eq=False)
class Curvature:
    """Upper triangular ``R`` with ``R @ R.T = damped Hessian``.

    Its inverse ``U`` is the papers' Cholesky factor of the inverse Hessian, ``U.T @ U = inverse(H)``, and
    ``U[j, j]**2`` the inverse curvature of column j once the columns before it are fixed. Only squares of U
    on its diagonal are ever needed (`compensation.Feedback`), and a square of U is the inverse of R's.
    """

    root: Root  #: [columns, columns]
    dead: NDArray[np.bool_]  #: [columns], input channels that were 0 on all calibration tokens

    @property
    def diagonal(self) -> Floats:
        """Diagonal of ``U``, [columns]."""
        return 1 / np.diagonal(self.root).astype(np.float64)

    def square(self, here: slice) -> Floats:
        """``U`` at the rows and columns ``here``, float64 [k, k]."""
        return _inverse(self.root[here, here])


def flat(columns: int) -> Curvature:
    """The curvature of a layer nothing is known about: all columns weigh the same, none leans on another."""
    return Curvature(np.eye(columns), np.zeros(columns, np.bool_))


def curvature(hessian: ArrayLike, columns: int, damping: float) -> Curvature:
    """The root of a damped Hessian.

    A dead channel (diagonal 0) gets diagonal 1; then ``damping`` times the diagonal's mean is added to it,
    and ten or a hundred times that where the sum is still not positive definite.

    Parameters: hessian, float [columns, columns], symmetric; its scale does not matter to any user.
    Raises: ValueError if it has another shape, is not finite, or is not positive definite when damped.
    Source: Frantar et al., GPTQ, arXiv:2210.17323, section 4, step 3; differs in: float64 below
    `SINGLE_FROM` columns, and where float32 finds no root; the root, of a Cholesky factorization from
    the last column to the first, stands in the place of one copy of the Hessian and is never inverted.
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
            root = _root(given, dead, damping * times, kind)
            if root is not None:
                return Curvature(root, dead)
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


def _root(given: Floats, dead: NDArray[np.bool_], damping: float, kind: type) -> Root | None:
    """``R``, or None if the damped Hessian has no such root.

    Panels of columns from the last to the first, each in the place of the Hessian's: nearly all of it is the
    one product of a panel with those behind it, which BLAS does at full speed.
    """
    root: Root = given.astype(kind)
    diagonal = np.where(dead, 1.0, np.diagonal(given))
    np.fill_diagonal(root, diagonal + damping * diagonal.mean())
    for stop in range(len(root), 0, -_PANEL):
        start = max(stop - _PANEL, 0)
        panel = root[:stop, start:stop]
        panel -= root[:stop, stop:] @ root[start:stop, stop:].T
        try:
            square = np.linalg.cholesky(panel[start:].astype(np.float64)[::-1, ::-1])[::-1, ::-1]
        except np.linalg.LinAlgError:
            return None
        panel[:start] = panel[:start] @ _inverse(square).T.astype(kind)
        panel[start:] = square
        root[stop:, start:stop] = 0
    return root


def _inverse(upper: NDArray[np.floating]) -> Floats:
    """Of an upper triangle, float64, C-ordered."""
    inverse, _ = dtrtri(np.array(upper, np.float64, order="F"), overwrite_c=1)
    return np.ascontiguousarray(inverse)
