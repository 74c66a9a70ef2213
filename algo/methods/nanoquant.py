"""NanoQuant: a matrix as the product of two thin matrices of signs, between a row and a column of scales.

Nothing else is stored, so the published bits are honest: 1, 0.8 or 0.55 at the rank that allows them. The
activations pass both sign matrices one after the other; the second reads integers of more bits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from algo.bitplane import words
from algo.bitplane.build import EXPONENT_BITS
from algo.bitplane.format import Digit
from algo.bitplane.ints import Ints
from algo.bitplane.matrix import PackedMatrix, Term
from algo.bitplane.planes import Plane
from algo.bitplane.scales import MANTISSA_BITS
from algo.compiled import kernel
from algo.formats import grouping
from algo.formats.grouped import check_integer, check_number
from algo.formats.low_rank import leading, truncated
from algo.formats.quantized import Calibration, Quantized, checked_weight

SOURCE = "Chong et al., NanoQuant, arXiv:2602.06694, section 3"
FORMATS: tuple[str, ...] = ()  #: the method is its own format

_SCALE_FORMAT = "fp16"
_SHRINK = 0.2  #: share of its mean in a preconditioner, as published
_PENALTY = 0.3  #: ADMM's rho over the mean diagonal of the Gram matrix: own choice, best of 0.1, 0.3, 1, 3
_RIDGE = 1e-3  #: ADMM's lambda over the same; own choice
_ROUNDS = 50  #: of ADMM; own choice
_REFINEMENTS = 20  #: rounds of signs and scales, at most; own choice
_STILL = 1e-4  #: relative gain of a round below which the refinement ends

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Config:
    """The published setting of one bit a weight."""

    bits: float = 1.0  #: stored, by ``(rank + 16) (rows + columns) / (rows * columns)``
    rank: int | None = None  #: signs of a row and of a column; None: as many as ``bits`` allow, at least 1

    def __post_init__(self) -> None:
        check_number("bits", self.bits)
        if self.rank is not None:
            check_integer("rank", self.rank)

    def rank_of(self, rows: int, columns: int) -> int:
        """The rank of a matrix, no larger than its sides."""
        wanted = self.rank
        if wanted is None:
            wanted = int(self.bits * rows * columns / (rows + columns) - 16)
        return min(max(wanted, 1), rows, columns)


@dataclass(eq=False)
class Product:
    """``diag(left) U V^T diag(right)`` with entries -1 and +1 in U and V."""

    u: Floats  #: [rows, rank]
    v: Floats  #: [columns, rank]
    left: Floats  #: [rows]
    right: Floats  #: [columns]

    def values(self) -> Floats:
        """The real matrix, [rows, columns]."""
        return (self.u * self.left[:, None]) @ (self.v * self.right[:, None]).T


def needs_calibration(config: Config) -> bool:
    """Never; with it, columns of strong channels are fitted closer."""
    return False


def quantize(
    weight: NDArray[np.float64], calibration: Calibration | None = None, config: Config | None = None
) -> Quantized:
    """``diag(s1) U V^T diag(s2)``, U and V of signs, by ADMM on real factors, then in turns of exact steps.

    The target is ``W D`` with D the root second moment of each channel, over its mean, a fifth of the mean
    mixed in; 1 without calibration. ADMM solves for one real factor at a time, drawn to the sign matrix
    between two vectors that is nearest to it (SVID). The refinement then flips every sign that lowers the
    squared error and takes each scale by least squares; no step can raise the error.

    Parameters: weight, float64 [rows, columns]; calibration, its second moments are read.
    Returns: Quantized: ``matrix`` is U with s1, ``inner`` is V^T with s2; published_bits
    ``(rank + 16) (rows + columns) / (rows * columns)``; notes "rank".
    Raises: ValueError if the weight is not finite or not of two axes, calibration has another width, or a
    scale does not fit fp16.
    Source: `SOURCE`; differs in: the layer alone is fitted, with no refinement of blocks and no tuning of
    scales against the model's outputs; outputs have no preconditioner, for which gradients would be needed;
    signs are refined exactly, there by straight-through gradients; ADMM starts from the truncated singular
    value decomposition; its constants are own choices; s1 is fp16 times a power of two of the matrix.
    """
    weight = checked_weight(weight)
    config = Config() if config is None else config
    rows, columns = weight.shape
    rank = config.rank_of(rows, columns)
    strength = _strength(columns, calibration)
    # fp16 is too narrow for tiny weights, and squares vanish: the rows' exponents take a power of two off.
    power = int(np.frexp(np.abs(weight).max())[1])
    target = np.ldexp(weight, -power) * strength
    product = started(target, rank)
    refine(target, product)
    outer, inner = _packed(target, product, strength, power)
    return Quantized(
        matrix=outer,
        inner=inner,
        published_bits=(rank + 16) * (rows + columns) / (rows * columns),
        notes={"rank": rank},
    )


def started(target: Floats, rank: int) -> Product:
    """Signs of the factors that ADMM ends with, scaled by their mean magnitudes."""
    v = truncated(target, rank).T
    size = np.sum(v**2, axis=0)
    u = np.divide(target @ v, size, out=np.zeros((len(target), rank)), where=size > 0)
    # Both factors of a singular vector take the root of its value.
    balance = np.sqrt(np.divide(np.sum(u**2, axis=0), size, out=np.ones(rank), where=size > 0)) ** 0.5
    u, v = np.divide(u, balance, out=u, where=balance > 0), v * balance
    near_u, near_v = _svid(u), _svid(v)
    off_u, off_v = np.zeros_like(u), np.zeros_like(v)
    for _ in range(_ROUNDS):
        u = _drawn(target @ v, v, near_u - off_u)
        near_u = _svid(u + off_u)
        off_u += u - near_u
        v = _drawn(target.T @ u, u, near_v - off_v)
        near_v = _svid(v + off_v)
        off_v += v - near_v
    product = Product(
        _signs(near_u), _signs(near_v), np.abs(near_u).mean(axis=1), np.abs(near_v).mean(axis=1)
    )
    product.left = _least_squares(target, product.values(), axis=1) * product.left
    return product


def refine(target: Floats, product: Product) -> list[float]:
    """Signs and scales of ``product`` in turns, in place; the squared error after every round.

    A pass over the signs of U flips each in turn if that lowers its row's error, V's likewise.
    """
    errors: list[float] = []
    for _ in range(_REFINEMENTS):
        _flip(product.u, product.left, product.v * product.right[:, None], target)
        product.left *= _least_squares(target, product.values(), axis=1)
        _flip(product.v, product.right, product.u * product.left[:, None], target.T)
        product.right *= _least_squares(target, product.values(), axis=0)
        errors.append(float(np.sum((target - product.values()) ** 2)))
        if len(errors) > 1 and errors[-1] >= (1 - _STILL) * errors[-2]:
            break
    return errors


def _strength(columns: int, calibration: Calibration | None) -> Floats:
    if calibration is None:
        return np.ones(columns)
    if len(calibration.peak) != columns:
        raise ValueError(
            f"calibration must have {columns} columns as the weight has, not {len(calibration.peak)}"
        )
    root = np.sqrt(calibration.second_moment)
    mean = root.mean()
    return np.asarray((1 - _SHRINK) * root / mean + _SHRINK, np.float64) if mean > 0 else np.ones(columns)


def _drawn(product: Floats, other: Floats, near: Floats) -> Floats:
    """The factor that answers ``other`` best while drawn to ``near``, both [.., rank]."""
    gram = other.T @ other
    size = np.trace(gram) / len(gram) or 1.0
    gram[np.diag_indices(len(gram))] += (_PENALTY + _RIDGE) * size
    solved = cho_solve(cho_factor(gram, lower=True), (product + _PENALTY * size * near).T)
    return np.ascontiguousarray(solved.T)


def _svid(factor: Floats) -> Floats:
    """The signs of a factor times the best matrix of rank one for its magnitudes."""
    magnitudes = np.abs(factor)
    column = leading(magnitudes)
    return _signs(factor) * np.outer(magnitudes @ column, column)


def _signs(values: Floats) -> Floats:
    return np.where(values >= 0, 1.0, -1.0)


def _least_squares(target: Floats, fitted: Floats, axis: int) -> Floats:
    """Factor of each row (axis 1) or column (axis 0) that brings ``fitted`` nearest to ``target``."""
    energy: Floats = np.sum(fitted**2, axis=axis)
    return np.divide(np.sum(target * fitted, axis=axis), energy, out=np.zeros_like(energy), where=energy > 0)


def _flip(signs: Floats, scale: Floats, basis: Floats, target: Floats) -> None:
    """One pass over ``signs`` [n, rank], ``target ~ diag(scale) signs basis^T``, in place."""
    gram = np.ascontiguousarray(basis.T @ basis)
    _flip_rows(signs, scale, gram, signs @ gram, target @ basis)


@kernel
def _flip_rows(signs: Floats, scale: Floats, gram: Floats, reached: Floats, wanted: Floats) -> None:
    """``reached`` = signs @ gram and ``wanted`` = target @ basis, both [n, rank]; the first is kept so."""
    rows, rank = signs.shape
    for i in range(rows):
        s = scale[i]
        for k in range(rank):
            sign = signs[i, k]
            # Four times this is what flipping sign k adds to the row's squared error.
            if s * sign * (wanted[i, k] - s * (reached[i, k] - gram[k, k] * sign)) < 0:
                signs[i, k] = -sign
                for other in range(rank):
                    reached[i, other] -= 2 * sign * gram[k, other]


def _packed(
    target: Floats, product: Product, strength: Floats, power: int
) -> tuple[PackedMatrix, PackedMatrix]:
    """Outer and inner factor as stored; s1 once more by least squares after s2 is rounded."""
    rows, rank = product.u.shape
    right = product.right / strength
    right /= np.sqrt(np.mean(right**2)) or 1.0
    column = right.astype(np.float16)
    fitted = product.u @ (product.v * (column.astype(np.float64) * strength)[:, None]).T
    left = _least_squares(target, fitted, axis=1)
    ints, exponent = grouping.stored_scalars({"row_scale": left[:, None]}, _SCALE_FORMAT)
    outer = PackedMatrix(
        rows=rows,
        columns=rank,
        group=rank,
        terms=(Term(planes=("left",), coefs=(1,), digit=Digit.BIPOLAR, scale="row_scale"),),
        planes={"left": Plane(words.pack(product.u > 0))},
        ints=ints,
        exponent=Ints(exponent.values + power, EXPONENT_BITS, signed=True),
    )
    one = np.ones((1, 1), np.int64)
    inner = PackedMatrix(
        rows=rank,
        columns=len(column),
        group=len(column),
        terms=(Term(planes=("right",), coefs=(1,), digit=Digit.BIPOLAR, scale="one", col="column_scale"),),
        planes={"right": Plane(words.pack(product.v.T > 0))},
        ints={"one": Ints(one, MANTISSA_BITS, signed=True)},
        exponent=Ints(0 * one, EXPONENT_BITS, signed=True),
        factors={"column_scale": column},
    )
    return outer, inner
