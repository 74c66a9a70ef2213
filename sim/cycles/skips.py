"""Which beats the stored bits of a matrix let an array skip.

The array runs in lockstep, so a word costs no beat only if it adds nothing in any row of a row tile:
unipolar digits all 0 on the mask, or (digits of -1 and +1) the mask all 0. Skipping planes drops a plane of
an item whose words are all of that kind; skipping words drops each of them. Between two place values the
accumulator must still be doubled: a place without a beat costs a bubble once a higher place has had one.

Source: skipped zero bit columns as in BitWave, Shi et al., HPCA 2024; differs in: any digit set, masks, and
Horner's bubbles counted.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from algo.bitplane import words
from algo.bitplane.format import Digit
from algo.bitplane.matrix import PackedMatrix
from hw.pe.bitserial import BitSerial
from hw.spec import ArraySpec, horner
from sim.cycles.plan import Int, item, weights_stay
from sim.cycles.product import Pass, Product


class Skips:
    """`sim.cycles.plan.Facts` of a stored matrix; passes in the order of `sim.cycles.product.of_matrix`."""

    def __init__(self, matrix: PackedMatrix) -> None:
        self._matrix = matrix

    def work(self, pieces: list[tuple[int, int]], product: Product, array: ArraySpec) -> Int:
        """Beats, plane words, mask words, activation words: int64 [row tiles, pieces, passes, 4].

        Raises ValueError if the PE takes more than a plane of either operand a beat.
        """
        if not isinstance(array.pe, BitSerial):
            raise ValueError(f"skip must be 'none' unless the PE is a BitSerial, not {array.skip!r}")
        tiles = -(-self._matrix.rows // array.tile_rows)
        found = np.zeros((tiles, len(pieces), len(product.passes), 4), np.int64)
        for number, (one, live) in enumerate(zip(product.passes, self._live(array), strict=True)):
            for at, (first, stop) in enumerate(pieces):
                if array.pack_kept and one.of > 1:
                    found[:, at, number] = item(stop - first, one, product, array)
                else:
                    found[:, at, number] = _counted(live[:, :, first:stop], one, product, array)
        return found

    def _live(self, array: ArraySpec) -> list[NDArray[np.bool_]]:
        """By pass: columns that add something to any row of a tile, boolean [planes, row tiles, columns]."""
        matrix, found = self._matrix, []
        starts = np.arange(0, matrix.rows, array.tile_rows)
        for term in matrix.terms:
            mask = matrix.words_of(term.mask)
            whole = np.bitwise_or.reduceat(mask, starts, axis=0)
            kept = words.unpack(whole, matrix.columns)
            planes = [kept] * len(term.planes)
            if term.digit is Digit.UNIPOLAR:
                planes = [
                    words.unpack(
                        np.bitwise_or.reduceat(matrix.words_of(text) & mask, starts, axis=0), matrix.columns
                    )
                    for text in term.planes
                ]
            found.append(np.stack(planes))
            if term.zero is not None or term.offset is not None:
                found.append(kept[None])
        return found


def _counted(live: NDArray[np.bool_], one: Pass, product: Product, array: ArraySpec) -> Int:
    """The four counts [row tiles, 4] of an item, ``live`` boolean [planes, row tiles, its columns]."""
    planes, tiles, columns = live.shape
    lanes = array.pe.lanes
    count = -(-columns // lanes)
    padded = np.zeros((planes, tiles, count * lanes), np.bool_)
    padded[:, :, :columns] = live
    alive = padded.reshape(planes, tiles, count, lanes).any(axis=3).sum(axis=2)
    if array.skip == "planes":
        alive = np.where(alive > 0, count, 0)
    if array.planes == "inside":
        reads = alive.sum(axis=0)
        beats = x_words = reads * len(product.activation)
    else:
        beats = _with_bubbles(alive, one.weight, product.activation)
        x_words = alive.sum(axis=0) * len(product.activation)
        reads = alive.sum(axis=0) if weights_stay(array) else x_words
    none = np.zeros(tiles, np.int64)
    return np.stack([beats, none if one.sums else reads, reads if one.masked else none, x_words], axis=1)


def _with_bubbles(alive: Int, weight: tuple[int, ...], activation: tuple[int, ...]) -> Int:
    """Beats [row tiles] of an item in Horner's order, ``alive`` int64 [planes, row tiles] live words."""
    total = np.zeros(alive.shape[1], np.int64)
    here, begun = np.zeros_like(total), np.zeros(alive.shape[1], np.bool_)
    for step in (*horner(weight, activation), None):
        if step is None or step.shift:
            total += np.where(begun & (here == 0), 1, here)
            begun |= here > 0
            here = np.zeros_like(total)
        if step is not None and step.w_plane >= 0:
            here += alive[step.w_plane]
    return total
