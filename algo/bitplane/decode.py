"""What a packed matrix means, in the plainest NumPy: the definition the fast engines are held against."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from algo.bitplane import words
from algo.bitplane.activations import Activations
from algo.bitplane.hadamard import rotated_activations
from algo.bitplane.matrix import PackedMatrix, Term

Int = NDArray[np.int64]

SUM_LIMIT = 2.0**63  #: a sum that could reach this is refused: int64 must hold it


def mask_bits(matrix: PackedMatrix, term: Term) -> NDArray[np.bool_]:
    """Entries the term speaks for, boolean [rows, columns]."""
    return words.unpack(matrix.words_of(term.mask), matrix.columns)


def digits(matrix: PackedMatrix, term: Term) -> Int:
    """Digits of a term, zero point taken off, 0 off the mask; int64 [rows, columns]."""
    total = np.zeros((matrix.rows, matrix.columns), np.int64)
    for text, coef in zip(term.planes, term.coefs, strict=True):
        total += coef * term.digit.of(words.unpack(matrix.words_of(text), matrix.columns))
    if term.zero is not None:
        total -= _per_column(matrix, matrix.ints[term.zero].values)
    return np.where(mask_bits(matrix, term), total, 0)


def integer_weights(matrix: PackedMatrix, stream: str | None) -> Int:
    """Integers [rows, columns] the activations of ``stream`` are multiplied by: mantissas times digits."""
    total = np.zeros((matrix.rows, matrix.columns), np.int64)
    for term in matrix.terms:
        if term.col != stream:
            continue
        total += _per_column(matrix, matrix.ints[term.scale].values) * digits(matrix, term)
        if term.offset is not None:
            offsets = _per_column(matrix, matrix.ints[term.offset].values)
            total += np.where(mask_bits(matrix, term), offsets, 0)
    return total


def dequantize(matrix: PackedMatrix) -> NDArray[np.float64]:
    """The real matrix that the layer multiplies by, float64 [rows, columns].

    Of a rotated matrix that is the one before the rotation: what the planes stand for, turned back. All
    other functions here stay in the domain of the planes, in which the activations they take are too.
    """
    from algo.bitplane import rows

    whole = np.empty((matrix.rows, matrix.columns))
    for here, part in rows.split(matrix):
        real = _real(part)
        whole[here] = real if matrix.rotate is None else rotated_activations(real, matrix.rotate)
    return whole


def _real(matrix: PackedMatrix) -> NDArray[np.float64]:
    total = np.zeros((matrix.rows, matrix.columns))
    for stream in matrix.streams:
        part = integer_weights(matrix, stream).astype(np.float64)
        total += part if stream is None else part * matrix.factors[stream]
    total = np.ldexp(total, np.broadcast_to(matrix.exponent.values, (matrix.rows, 1)))
    return total if matrix.row is None else total * matrix.row[:, None].astype(np.float64)


def partial_sums(matrix: PackedMatrix, term: Term, values: Int) -> Int:
    """``P[n,m,g]``, the term's digits times activations within each column group.

    Parameters: values, int64 [tokens, columns]. Returns int64 [tokens, rows, groups].
    """
    product = digits(matrix, term)[None] * values[:, None, :]
    return np.add.reduceat(product, _starts(matrix), axis=2)


def mask_sums(matrix: PackedMatrix, term: Term, values: Int) -> Int:
    """Sum of the activations on the term's mask per group, int64 [tokens, rows, groups]."""
    product = mask_bits(matrix, term)[None] * values[:, None, :]
    return np.add.reduceat(product, _starts(matrix), axis=2)


def integer_sums(matrix: PackedMatrix, activations: Sequence[Activations]) -> Int:
    """``S``, int64 [streams, tokens, rows]: all partial sums times their mantissas, exact.

    Raises ValueError if an activation does not fit the matrix or a sum could leave int64.
    """
    check_fit(matrix, activations)
    sums = [np.zeros((len(act.values), matrix.rows), np.int64) for act in activations]
    for term in matrix.terms:
        index = matrix.streams.index(term.col)
        act = activations[index]
        weighted = matrix.ints[term.scale].values * partial_sums(matrix, term, act.values)
        if term.offset is not None:
            weighted += matrix.ints[term.offset].values * mask_sums(matrix, term, act.values)
        if act.mantissa is not None:
            weighted *= act.mantissa[:, None, :]
        sums[index] += weighted.sum(axis=2)
    return np.stack(sums)


def outputs(matrix: PackedMatrix, activations: Sequence[Activations], sums: Int) -> NDArray[np.float32]:
    """``y``, float32 [tokens, rows]: the one conversion from integers, one rounding at its end.

    ``y = float32(float64(S) * 2**exponent * row * s_x)``, multiplied in this order; several streams are
    added in stored order, in float64, before the rounding.
    """
    total = np.zeros(sums.shape[1:])
    # A product with a power of two is exact; ldexp on the whole array takes ten times as long.
    power = np.ldexp(1.0, np.broadcast_to(matrix.exponent.values, (matrix.rows, 1))[:, 0])
    for part, act in zip(sums, activations, strict=True):
        product = part * power
        if matrix.row is not None:
            product *= matrix.row.astype(np.float64)
        product *= act.scale.astype(np.float64)[:, None]
        total += product
    return total.astype(np.float32)


def sum_bound(matrix: PackedMatrix, activations: Sequence[Activations]) -> float:
    """No sum of any stream is larger in magnitude than this (counted on whole groups, masks ignored)."""
    sizes = np.bincount(matrix.group_of, minlength=matrix.groups).astype(np.float64)
    bounds = np.zeros((len(activations), matrix.rows))
    for term in matrix.terms:
        index = matrix.streams.index(term.col)
        act = activations[index]
        low, high = term.digit_range()
        zero: Int | int = 0 if term.zero is None else matrix.ints[term.zero].values
        reach = np.maximum(np.abs(low - zero), np.abs(high - zero)).astype(np.float64)
        weight = np.abs(matrix.ints[term.scale].values) * reach
        if term.offset is not None:
            weight = weight + np.abs(matrix.ints[term.offset].values)
        lane = float(act.limit) * (
            1.0 if act.mantissa is None else float(np.abs(act.mantissa).max(initial=0))
        )
        bounds[index] += (weight * sizes).sum(axis=1) * lane
    # Float rounding of the bound itself stays below this margin.
    return float(bounds.max(initial=0.0) * (1 + 2.0**-40))


def check_fit(matrix: PackedMatrix, activations: Sequence[Activations]) -> None:
    """Refuse activations that do not fit the matrix, or sums that int64 might not hold."""
    if len(activations) != len(matrix.streams):
        raise ValueError(f"activations must be {len(matrix.streams)} streams, not {len(activations)}")
    for act in activations:
        if act.values.shape != (len(activations[0].values), matrix.columns):
            raise ValueError(
                f"activations must have {matrix.columns} columns and one token count in all streams, "
                f"not shape {list(act.values.shape)}"
            )
        if act.mantissa is not None and act.mantissa.shape[1] != matrix.groups:
            raise ValueError(f"mantissa must have {matrix.groups} groups, not {act.mantissa.shape[1]}")
    bound = sum_bound(matrix, activations)
    if bound >= SUM_LIMIT:
        raise ValueError(f"integer sums must stay below 2**63 for int64, not reach {bound:.3g}")


def _per_column(matrix: PackedMatrix, per_group: Int) -> Int:
    return np.broadcast_to(per_group[:, matrix.group_of], (matrix.rows, matrix.columns))


def _starts(matrix: PackedMatrix) -> Int:
    return np.arange(0, matrix.columns, matrix.group)
