"""Entries as codes of a small codebook that is linear in a few scalars per row.

The level of code ``c`` at entry (i, j) is ``sum_p coefs[kind, c, p] * amounts[i, p] * columns[p, j]``, where
``kind`` says which codes the entry may take. Bit planes with scales are such codebooks; the codes are the
bits, the amounts the stored scalars.

The objective of a column block is ``(w - q) M (w - q)^T`` summed over its rows, M the curvature that is left
of its columns when all later ones answer optimally: M is the inverse of ``U_BB^T U_BB``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from algo.binarize.lanes import LANES
from algo.binarize.zone import Floats
from algo.compiled import kernel

Codes = NDArray[np.uint8]

PRUNED = 255  #: kind of an entry that is 0
_RIDGE = 1e-9  #: of the largest curvature, keeps amounts that no entry uses where they are


@dataclass(frozen=True, eq=False)
class Codebook:
    """Which levels there are, as combinations of a row's amounts."""

    coefs: Floats  #: [kinds, codes, amounts]
    counts: NDArray[np.int64]  #: [kinds], codes a kind has, the first of ``coefs``


def block_curvature(factor: Floats) -> Floats:
    """``inverse(U^T U)``, symmetric [k, k], of a block's triangular factor."""
    inverse = solve_triangular(factor, np.eye(len(factor)), lower=False)
    return np.asarray(inverse @ inverse.T)


@kernel
def _load(tile: Floats, rows: Floats, first: int) -> None:
    """Rows ``first`` .. of [rows, n] into a tile [n, lanes], 0 beyond the last row."""
    tile[:] = 0.0
    for lane in range(min(LANES, len(rows) - first)):
        for j in range(len(tile)):
            tile[j, lane] = rows[first + lane, j]


@kernel
def _levels(levels: Floats, coefs: Floats, count: int, amounts: Floats, columns: Floats, j: int) -> None:
    """Levels [codes, lanes] of one kind at one column; ``amounts`` [amounts, lanes]."""
    for code in range(count):
        for lane in range(LANES):
            levels[code, lane] = 0.0
        for p in range(len(amounts)):
            weight = coefs[code, p] * columns[p, j]
            if weight != 0.0:
                for lane in range(LANES):
                    levels[code, lane] += weight * amounts[p, lane]


@kernel
def _choose(
    target: Floats,
    kinds: NDArray[np.uint8],
    coefs: Floats,
    counts: NDArray[np.int64],
    amounts: Floats,
    columns: Floats,
    j: int,
    levels: Floats,
    code: NDArray[np.uint8],
    value: Floats,
) -> None:
    """Nearest level of each lane's own kind, the first of equals; 0 where pruned."""
    best = np.empty(LANES)
    for lane in range(LANES):
        value[lane] = 0.0
        code[lane] = 0
    for kind in range(len(counts)):
        present = False
        for lane in range(LANES):
            present = present or kinds[lane] == kind
        if not present:
            continue
        _levels(levels, coefs[kind], counts[kind], amounts, columns, j)
        for lane in range(LANES):
            best[lane] = np.inf
        for c in range(counts[kind]):
            for lane in range(LANES):
                distance = abs(target[lane] - levels[c, lane])
                nearer = (distance < best[lane]) and (kinds[lane] == kind)
                best[lane] = distance if nearer else best[lane]
                code[lane] = c if nearer else code[lane]
                value[lane] = levels[c, lane] if nearer else value[lane]


@kernel
def feed(
    block: Floats,
    factor: Floats,
    kinds: Codes,
    coefs: Floats,
    counts: NDArray[np.int64],
    amounts: Floats,
    columns: Floats,
) -> Codes:
    """Codes chosen column after column, each column's error pushed into those behind it in the block.

    Parameters: block, [rows, k]; factor, upper triangular [k, k]; kinds, uint8 [rows, k]; amounts,
    [rows, amounts]; columns, [amounts, k]. Returns codes, uint8 [rows, k].
    """
    rows, k = block.shape
    chosen = np.zeros((rows, k), np.uint8)
    tile, error = np.empty((k, LANES)), np.empty(LANES)
    amount, levels = np.zeros((amounts.shape[1], LANES)), np.empty((coefs.shape[1], LANES))
    kind, code, value = np.empty(LANES, np.uint8), np.empty(LANES, np.uint8), np.empty(LANES)
    for first in range(0, rows, LANES):
        used = min(LANES, rows - first)
        kind[:] = PRUNED
        _load(tile, block, first)
        _load(amount, amounts, first)
        for j in range(k):
            for lane in range(used):
                kind[lane] = kinds[first + lane, j]
            _choose(tile[j], kind, coefs, counts, amount, columns, j, levels, code, value)
            for lane in range(used):
                chosen[first + lane, j] = code[lane]
            for lane in range(LANES):
                error[lane] = (tile[j, lane] - value[lane]) / factor[j, j]
            for behind in range(j + 1, k):
                weight = factor[j, behind]
                for lane in range(LANES):
                    tile[behind, lane] -= weight * error[lane]
    return chosen


@kernel
def descend(
    block: Floats,
    values: Floats,
    chosen: Codes,
    curvature: Floats,
    kinds: Codes,
    coefs: Floats,
    counts: NDArray[np.int64],
    amounts: Floats,
    columns: Floats,
    passes: int,
) -> None:
    """Coordinate descent: every entry in turn takes the level that is best given all others of its row.

    ``values`` [rows, k], the levels of ``chosen``, and ``chosen`` itself are changed in place.
    """
    rows, k = block.shape
    slope, target, step = np.empty((k, LANES)), np.empty(LANES), np.empty(LANES)
    now, delta = np.empty((k, LANES)), np.empty((k, LANES))
    amount, levels = np.zeros((amounts.shape[1], LANES)), np.empty((coefs.shape[1], LANES))
    kind, code, value = np.empty(LANES, np.uint8), np.empty(LANES, np.uint8), np.empty(LANES)
    for first in range(0, rows, LANES):
        used = min(LANES, rows - first)
        slope[:] = 0.0
        kind[:] = PRUNED
        _load(now, values, first)
        _load(delta, block, first)
        _load(amount, amounts, first)
        delta -= now
        for j in range(k):
            for other in range(k):
                weight = curvature[j, other]
                for lane in range(LANES):
                    slope[other, lane] += weight * delta[j, lane]
        for _ in range(passes):
            for j in range(k):
                for lane in range(used):
                    kind[lane] = kinds[first + lane, j]
                for lane in range(LANES):
                    target[lane] = now[j, lane] + slope[j, lane] / curvature[j, j]
                _choose(target, kind, coefs, counts, amount, columns, j, levels, code, value)
                moved = 0.0
                for lane in range(LANES):
                    step[lane] = value[lane] - now[j, lane]
                    moved += abs(step[lane])
                    now[j, lane] = value[lane]
                for lane in range(used):
                    chosen[first + lane, j] = code[lane]
                if moved > 0.0:
                    for other in range(k):
                        weight = curvature[j, other]
                        for lane in range(LANES):
                            slope[other, lane] -= weight * step[lane]
        for lane in range(used):
            for j in range(k):
                values[first + lane, j] = now[j, lane]


def parts(book: Codebook, kinds: Codes, codes: Codes, columns: Floats) -> Floats:
    """What each amount is multiplied by at every entry, [amounts, rows, k]."""
    _, code_count, amounts = book.coefs.shape
    table = np.concatenate([book.coefs.reshape(-1, amounts), np.zeros((1, amounts))])
    place = np.where(kinds == PRUNED, len(table) - 1, kinds.astype(np.int64) * code_count + codes)
    found = np.empty((amounts, *codes.shape))
    for p in range(amounts):
        np.multiply(np.take(table[:, p], place), columns[p], out=found[p])
    return found


def values_of(book: Codebook, kinds: Codes, codes: Codes, amounts: Floats, columns: Floats) -> Floats:
    """Levels of all entries, [rows, k]."""
    return np.einsum("pij,ip->ij", parts(book, kinds, codes, columns), amounts)


def losses(block: Floats, values: Floats, curvature: Floats) -> Floats:
    """The objective of each row, [rows]."""
    left = block - values
    return np.einsum("ij,ij->i", left @ curvature, left)


def refit(
    block: Floats,
    curvature: Floats,
    book: Codebook,
    kinds: Codes,
    codes: Codes,
    amounts: Floats,
    columns: Floats,
) -> Floats:
    """Amounts [rows, amounts] of least loss for the codes as they are."""
    used = parts(book, kinds, codes, columns)
    left = block - np.einsum("pij,ip->ij", used, amounts)
    by_row = used.transpose(1, 0, 2)
    seen = (used @ curvature).transpose(1, 2, 0)
    normal = by_row @ seen
    slope = np.einsum("ijp,ij->ip", seen, left)
    ridge = _RIDGE * np.einsum("ipp->ip", normal).max(axis=1)
    ridge = np.where(ridge > 0, ridge, 1.0)
    normal += ridge[:, None, None] * np.eye(len(used))
    return amounts + np.linalg.solve(normal, slope[..., None])[..., 0]


def refit_columns(
    block: Floats,
    curvature: Floats,
    book: Codebook,
    kinds: Codes,
    codes: Codes,
    amounts: Floats,
    columns: Floats,
    ties: NDArray[np.int64],
) -> Floats:
    """Column factors [factors, k] of least loss over all rows, for codes and amounts as they are.

    ``ties`` [amounts]: which factor an amount is multiplied by.
    """
    k = block.shape[1]
    used = parts(book, kinds, codes, np.ones_like(columns)) * amounts.T[:, :, None]
    left = block - np.einsum("pij,pj->ij", used, columns)
    pull = left @ curvature
    sums = [used[ties == f].sum(axis=0) for f in range(ties.max() + 1)]
    normal = np.block([[curvature * (one.T @ other) for other in sums] for one in sums])
    slope = np.concatenate([np.einsum("ij,ij->j", one, pull) for one in sums])
    ridge = _RIDGE * np.abs(np.diagonal(normal)).max()
    normal += np.eye(len(normal)) * (ridge if ridge > 0 else 1.0)
    change = np.linalg.solve(normal, slope).reshape(len(sums), k)
    now = np.stack([columns[np.flatnonzero(ties == f)[0]] for f in range(len(sums))])
    return now + change
