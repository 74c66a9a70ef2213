"""Codes and amounts of a column block fitted together, to the layer's output.

Turns are taken: codes by feedback through the block and coordinate descent with the amounts frozen, then
amounts by least squares with the codes frozen. Each row keeps the best it has seen, by the objective of
`algo.binarize.codebook`, with the amounts as they will be stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from algo.binarize import codebook
from algo.binarize.codebook import Codebook, Codes
from algo.binarize.compensation import compensate
from algo.binarize.curvature import Curvature, known
from algo.binarize.zone import Bools, Floats
from algo.bitplane.scales import Grid
from algo.formats.grouped import check_integer, check_number
from algo.formats.quantized import Calibration

_HEADROOM = 1.5  #: of the first guesses: amounts beyond it are clipped to the grid


@dataclass(frozen=True, kw_only=True)
class JointSettings:
    """What the methods that fit bits and scalars together are told."""

    group: int = 128  #: columns of a block, which share their scalars
    #: Added to the Hessian's diagonal, in means of it; ten times the released default, because what is fitted
    #: this closely would follow the noise of few calibration tokens too.
    damping: float = 0.1
    salient: int = 8  #: salient columns of a block, those of the largest ``sum w**2 / U_jj**2``
    scale_bits: int = 8  #: stored width of a scalar's mantissa, on one grid per row
    rounds: int = 4  #: turns of codes and scalars
    passes: int = 2  #: of coordinate descent over the codes, in a turn

    def __post_init__(self) -> None:
        for name in ("group", "rounds"):
            check_integer(name, getattr(self, name))
        for name in ("salient", "passes"):
            check_integer(name, getattr(self, name), 0)
        check_integer("scale_bits", self.scale_bits, 4)
        if self.scale_bits > 16:
            raise ValueError(f"scale_bits must be at most 16, not {self.scale_bits!r}")
        check_number("damping", self.damping)

    def curvature(self, method: str, columns: int, calibration: Calibration | None) -> Curvature:
        """Factor of the layer's Hessian.

        Raises ValueError if there is no calibration, or one of another width.
        """
        return known(columns, calibration, self.damping, method)

    def salient_columns(self, score: Floats) -> Bools:
        """Columns of the largest summed score, boolean [k]; of equals the left."""
        flags = np.zeros(score.shape[1], np.bool_)
        flags[np.argsort(-score.sum(axis=0), kind="stable")[: self.salient]] = True
        return flags


def grid_of(guesses: list[Floats], bits: int) -> Grid:
    """Grid of each row for all amounts to come, from first guesses [rows, amounts] of every block."""
    bound = _HEADROOM * np.max([np.abs(guess).max(axis=1) for guess in guesses], axis=0)
    return Grid.covering(bound[:, None], bits=bits)


def stored(grid: Grid, amounts: Floats) -> Floats:
    """Amounts [rows, amounts] as hardware multiplies by them."""
    top = (1 << (grid.bits - 1)) - 1
    scaled = np.clip(np.ldexp(amounts, -grid.exponent[:, None]), -top, top)
    return grid.values(np.rint(scaled).astype(np.int64))


@dataclass(frozen=True, kw_only=True, eq=False)
class Coded:
    """A column block as codes of a codebook."""

    book: Codebook
    kinds: Codes  #: [rows, k], which codes an entry may take
    codes: Codes  #: [rows, k]
    amounts: Floats  #: [rows, amounts], as stored
    columns: Floats  #: [amounts, k], as stored

    def values(self) -> Floats:
        """The real block, [rows, k]."""
        return codebook.values_of(self.book, self.kinds, self.codes, self.amounts, self.columns)


class Form(Protocol):
    """A stored form: its codebook, and what is known of a block before it is fitted."""

    @property
    def book(self) -> Codebook:
        """Levels of an entry."""

    @property
    def ties(self) -> tuple[int, ...]:
        """Which column factor each amount is multiplied by; empty: none."""

    def kinds(self, block: Floats, here: slice) -> Codes:
        """Which codes each entry of the block may take, uint8 [rows, k]."""

    def guess(self, block: Floats, kinds: Codes, factors: Floats) -> Floats:
        """First amounts, [rows, amounts]; factors, [factors, k]."""


def fit_layer(
    weight: Floats, curve: Curvature, settings: JointSettings, form: Form
) -> tuple[list[Coded], Grid, float]:
    """Fit all blocks, errors pushed on exactly; returns them, the grid of their amounts, and the loss."""

    def start(block: Floats, here: slice) -> tuple[Codes, Floats, Floats]:
        kinds = form.kinds(block, here)
        factors = _first_factors(block) if form.ties else np.ones((1, block.shape[1]))
        return kinds, form.guess(block, kinds, factors), factors

    columns = weight.shape[1]
    blocks = [slice(at, min(at + settings.group, columns)) for at in range(0, columns, settings.group)]
    grid = grid_of([start(weight[:, here], here)[1] for here in blocks], settings.scale_bits)

    def one(block: Floats, here: slice) -> Coded:
        kinds, amounts, factors = start(block, here)
        return _fit_block(block, curve.square(here), form, kinds, amounts, factors, grid, settings)

    fitted, loss = compensate(weight, curve, settings.group, "exact", one)
    return fitted, grid, loss


def _first_factors(block: Floats) -> Floats:
    """Mean over rows of each column's magnitude against its row's, twice; [2, k], in fp16."""
    size = np.abs(block)
    row = size.mean(axis=1)
    filled = row > 0
    factor = (size[filled] / row[filled, None]).mean(axis=0) if np.any(filled) else np.ones(block.shape[1])
    return np.stack([_half(factor)] * 2)


def _half(values: Floats) -> Floats:
    return values.astype(np.float16).astype(np.float64)


def _fit_block(
    block: Floats,
    factor: Floats,
    form: Form,
    kinds: Codes,
    amounts: Floats,
    factors: Floats,
    grid: Grid,
    settings: JointSettings,
) -> Coded:
    """Fit a block from a first guess of its amounts [rows, amounts] and column factors [factors, k]."""
    block, book = np.ascontiguousarray(block), form.book
    curve = codebook.block_curvature(factor)
    ties = np.array(form.ties or [0] * amounts.shape[1])
    columns = factors[ties]
    amounts = _plain(block, np.diagonal(curve), book, kinds, stored(grid, amounts), columns)
    kept = Coded(
        book=book, kinds=kinds, codes=np.zeros(kinds.shape, np.uint8), amounts=amounts, columns=columns
    )
    least = np.full(len(block), np.inf)
    for turn in range(settings.rounds):
        codes, values, now = _coded(block, factor, curve, kept, stored(grid, amounts), settings.passes)
        loss = codebook.losses(block, values, curve)
        better = loss < least
        least = np.where(better, loss, least)
        kept.codes[better] = codes[better]
        kept.amounts[better] = now[better]
        if form.ties and turn + 1 < settings.rounds:
            state = (book, kinds, kept.codes, kept.amounts, columns)
            columns[:] = _half(codebook.refit_columns(block, curve, *state, ties))[ties]
            least[:] = np.inf
        amounts = codebook.refit(block, curve, book, kinds, kept.codes, kept.amounts, columns)
    return kept


def _coded(
    block: Floats, factor: Floats, curve: Floats, kept: Coded, amounts: Floats, passes: int
) -> tuple[Codes, Floats, Floats]:
    """Codes and levels for frozen amounts, and those amounts."""
    tables = (kept.kinds, kept.book.coefs, kept.book.counts, amounts, kept.columns)
    codes = codebook.feed(block, factor, *tables)
    values = codebook.values_of(kept.book, kept.kinds, codes, amounts, kept.columns)
    codebook.descend(block, values, codes, curve, *tables, passes)
    return codes, values, amounts


def _plain(
    block: Floats, weights: Floats, book: Codebook, kinds: Codes, amounts: Floats, columns: Floats
) -> Floats:
    """Amounts for the nearest levels, every entry by itself."""
    alone = np.diag(weights)
    codes = codebook.feed(block, alone, kinds, book.coefs, book.counts, amounts, columns)
    return codebook.refit(block, alone, book, kinds, codes, amounts, columns)
