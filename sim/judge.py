"""The judge: torch in int64 on unpacked digits.

It reads the stored arrays of a matrix and nothing else: bits, expressions and sums are its own code, so that
no fault of the packed engines, or of the packing they share, can hide in it.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from math import comb

import numpy as np
import torch
from numpy.typing import NDArray

from algo.bitplane.activations import Activations
from algo.bitplane.format import Digit
from algo.bitplane.matrix import PackedMatrix, Term
from algo.bitplane.planes import Pattern, PerGroup, Plane, Stored

LIMIT = 2.0**63 * (1 - 2.0**-40)  #: int64, less what float64 may lose in the sum that is held against it
TOKENS = 64  #: tokens multiplied at once; the product's temporary stays below the layer


def integer_sums(matrix: PackedMatrix, activations: Sequence[Activations]) -> NDArray[np.int64]:
    """``S``, int64 [streams, tokens, rows].

    Parameters: activations, one per stream of the matrix, in its order.
    Raises ValueError if they do not fit the matrix, or a sum could leave int64.
    """
    if len(activations) != len(matrix.streams):
        raise ValueError(f"activations must be {len(matrix.streams)} streams, not {len(activations)}")
    sums = []
    for stream, act in zip(matrix.streams, activations, strict=True):
        weights = _integer_weights(matrix, stream).T
        values = torch.from_numpy(act.values)
        if values.shape[1] != matrix.columns:
            raise ValueError(f"activations must have {matrix.columns} columns, not {values.shape[1]}")
        if act.mantissa is not None:
            values = values * _spread(torch.from_numpy(act.mantissa), matrix)
        _refuse_overflow(values, weights)
        product = torch.empty((len(values), matrix.rows), dtype=torch.int64)
        for first in range(0, len(values), TOKENS):
            product[first : first + TOKENS] = values[first : first + TOKENS] @ weights
        sums.append(product)
    return torch.stack(sums).numpy()


def outputs(
    matrix: PackedMatrix, activations: Sequence[Activations], sums: NDArray[np.int64]
) -> NDArray[np.float32]:
    """``y``, float32 [tokens, rows]: ``float64(S) * 2**e * row * s_x`` in this order, one rounding."""
    exponent = torch.from_numpy(matrix.exponent.values).double().expand(matrix.rows, 1)[:, 0]
    total = torch.zeros(sums.shape[1:], dtype=torch.float64)
    for part, act in zip(sums, activations, strict=True):
        product = torch.from_numpy(np.ascontiguousarray(part)).double() * torch.exp2(exponent)
        if matrix.row is not None:
            product = product * torch.from_numpy(matrix.row).double()
        total = total + product * torch.from_numpy(act.scale).double()[:, None]
    return total.float().numpy()


def _refuse_overflow(values: torch.Tensor, weights: torch.Tensor) -> None:
    if not len(values):
        return
    reach = float(values.double().abs().amax() * weights.double().abs().sum(dim=0).amax())
    if reach >= LIMIT:
        raise ValueError(f"integer sums must stay below 2**63 for int64, not reach {reach:.3g}")


def _integer_weights(matrix: PackedMatrix, stream: str | None) -> torch.Tensor:
    total = torch.zeros((matrix.rows, matrix.columns), dtype=torch.int64)
    for term in matrix.terms:
        if term.col == stream:
            total += _term(matrix, term)
    return total


def _term(matrix: PackedMatrix, term: Term) -> torch.Tensor:
    """Mantissa times digit, plus offset, on the mask; int64 [rows, columns]."""
    digit = torch.zeros((matrix.rows, matrix.columns), dtype=torch.int64)
    for text, coef in zip(term.planes, term.coefs, strict=True):
        bit = _truth(matrix, text).long()
        digit = digit + coef * (2 * bit - 1 if term.digit is Digit.BIPOLAR else bit)
    if term.zero is not None:
        digit = digit - _stored(matrix, term.zero)
    weight = digit * _stored(matrix, term.scale)
    if term.offset is not None:
        weight = weight + _stored(matrix, term.offset)
    return weight if term.mask is None else weight * _truth(matrix, term.mask)


def _stored(matrix: PackedMatrix, name: str) -> torch.Tensor:
    return _spread(torch.from_numpy(matrix.ints[name].values), matrix)


def _spread(per_group: torch.Tensor, matrix: PackedMatrix) -> torch.Tensor:
    """A value per group as a value per column."""
    return per_group.repeat_interleave(matrix.group, dim=1)[:, : matrix.columns]


def _bits(words: NDArray[np.uint64], columns: int) -> torch.Tensor:
    """Boolean [rows, columns] of words: column k is bit k % 64 of word k // 64."""
    signed = torch.from_numpy(np.ascontiguousarray(words).view(np.int64))
    bits = (signed[:, :, None] >> torch.arange(64)) & 1
    return bits.reshape(len(words), -1)[:, :columns].bool()


def _truth(matrix: PackedMatrix, text: str) -> torch.Tensor:
    """A plane expression, boolean [rows, columns]."""

    def walk(node: ast.expr) -> torch.Tensor:
        if isinstance(node, ast.Name):
            return _plane(matrix, matrix.planes[node.id])
        if isinstance(node, ast.UnaryOp):
            return ~walk(node.operand)
        if isinstance(node, ast.BinOp):
            left, right = walk(node.left), walk(node.right)
            if isinstance(node.op, ast.BitAnd):
                return left & right
            return left | right if isinstance(node.op, ast.BitOr) else left ^ right
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            return _pair_member(walk(node.args[0]), node.func.id)
        raise ValueError(f"expression must be planes joined by ~ & | ^, not {text!r}")

    return walk(ast.parse(text, mode="eval").body).expand(matrix.rows, matrix.columns)


def _plane(matrix: PackedMatrix, plane: Stored) -> torch.Tensor:
    """Boolean [rows or 1, columns] of a plane, however it is stored."""
    if isinstance(plane, Plane):
        return _bits(plane.words, matrix.columns)
    if isinstance(plane, Pattern):
        return torch.tensor([_unranked(row, plane, matrix.columns) for row in plane.codes.tolist()])
    if isinstance(plane, PerGroup):
        each = torch.from_numpy(plane.bits).repeat_interleave(matrix.group, dim=1)
        return each[:, : matrix.columns]
    where = _truth(matrix, plane.on)
    whole = torch.zeros(where.shape, dtype=torch.bool)
    whole[where] = _bits(plane.words[None], int(where.sum()))[0]
    return whole


def _unranked(codes: list[int], plane: Pattern, columns: int) -> list[bool]:
    """One row of an N:M pattern. The rank of p1 < p2 < .. is the sum of C(p_i, i): take the largest first."""
    row = [False] * (len(codes) * plane.of)
    for group, code in enumerate(codes):
        place = plane.of
        for count in range(plane.kept, 0, -1):
            place = next(p for p in range(place - 1, -1, -1) if comb(p, count) <= code)
            code -= comb(place, count)
            row[group * plane.of + place] = True
    return row[:columns]


def _pair_member(bits: torch.Tensor, which: str) -> torch.Tensor:
    """Each pair of columns, or of rows, both with the bit of one of them."""
    axis = 1 if which in ("even", "odd") else 0
    places = torch.arange(bits.shape[axis])
    member = places - places % 2 + (which in ("odd", "lower"))
    taken = bits.index_select(axis, member.clamp(max=len(places) - 1))
    if which == "odd":
        taken[:, member == len(places)] = False
    return taken
