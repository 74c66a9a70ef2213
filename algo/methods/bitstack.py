"""BitStack: blocks of a sign plane times a matrix of low rank, each fitted to what the blocks before left.

Blocks can be loaded or left out one by one, as memory allows. A block of rank k takes k passes over its sign
plane, each on activations scaled by another column vector: beyond rank one it is a format to store, not one
to compute in.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from algo.bitplane import words
from algo.bitplane.format import Digit
from algo.bitplane.ints import Ints
from algo.bitplane.matrix import PackedMatrix, Term
from algo.bitplane.planes import Plane
from algo.bitplane.scales import round_scale
from algo.formats import grouping
from algo.formats.grouped import check_integer
from algo.formats.low_rank import truncated
from algo.formats.quantized import Calibration, Quantized, checked_weight

SOURCE = "Wang et al., BitStack, arXiv:2410.23918, section 2, as released (github.com/xinghaow99/BitStack)"
FORMATS: tuple[str, ...] = ()  #: the method is its own format

_SCALE_FORMAT = "fp16"
_LEAST_NORM = 1e-3  #: added to every channel's norm, as released: no column is divided by zero

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Two blocks of the published rank."""

    blocks: int = 2  #: sign planes
    rank: int = 16  #: of the magnitudes behind each; 1 executes natively

    def __post_init__(self) -> None:
        check_integer("blocks", self.blocks)
        check_integer("rank", self.rank)


@dataclass(frozen=True, kw_only=True, eq=False)
class Block:
    """One block: ``sign * sum_k rows[k] (x) columns[k]``."""

    sign: NDArray[np.bool_]  #: [rows, columns], True = +1
    rows: Floats  #: [rank, rows], as fp16 holds them
    columns: NDArray[np.float16]  #: [rank, columns]

    def values(self) -> Floats:
        """The real block, [rows, columns]."""
        magnitudes = self.rows.T @ self.columns.astype(np.float64)
        return np.where(self.sign, magnitudes, -magnitudes)


def needs_calibration(config: Config) -> bool:
    """Never; with it, columns of strong channels are fitted closer."""
    return False


def quantize(
    weight: NDArray[np.float64], calibration: Calibration | None = None, config: Config | None = None
) -> Quantized:
    """``R <- W s``, then for each block ``S = sign(R)``, ``R <- R - S * (rank-k part of |R|)``.

    ``s_c`` is the root of channel c's mean sum of squares over the calibration sequences, plus 1e-3; 1
    without calibration. The factors of the rank-k part share its singular values by their square roots, to
    a power of two. The column factors are stored over s and rounded to fp16; the row factors then are the
    least-squares answer to them, rounded to fp16 times a power of two of the whole matrix, before the next
    block is fitted. sign(0) = +1.

    Parameters: weight, float64 [rows, columns]; calibration, its second moments are read.
    Returns: Quantized; published_bits ``blocks * (1 + 16 rank (rows + columns) / (rows * columns))``.
    Raises: ValueError if the weight is not finite or not of two axes, calibration has another width, or a
    factor does not fit fp16.
    Source: `SOURCE`; differs in: 1/s is folded into the column factors, there into the layer before; s is a
    root mean square of norms over sequences, there their mean; ranks beyond the matrix's own are left out;
    blocks stay in the order they were fitted in, there they are sorted over all layers by measured gain.
    """
    weight = checked_weight(weight)
    config = Config() if config is None else config
    rows, columns = weight.shape
    # fp16 is too narrow for the factors of tiny weights: the rows' exponents take a power of two off first.
    power = int(np.frexp(np.abs(weight).max())[1])
    blocks = fit_blocks(np.ldexp(weight, -power), _norms(columns, calibration), config)
    rank = len(blocks[0].rows)
    return Quantized(
        matrix=_packed(blocks, power),
        published_bits=config.blocks * (1 + 16 * rank * (rows + columns) / (rows * columns)),
    )


def fit_blocks(weight: Floats, norms: Floats, config: Config) -> list[Block]:
    """The blocks of ``weight`` [rows, columns], errors weighed by ``norms`` [columns]."""
    left, blocks = weight.copy(), []
    for _ in range(config.blocks):
        sign = left >= 0
        factors = truncated(np.abs(left) * norms, config.rank)
        block = _rounded(sign, np.abs(left), factors, norms)
        left -= block.values()
        blocks.append(block)
    return blocks


def _rounded(sign: NDArray[np.bool_], magnitudes: Floats, columns: Floats, norms: Floats) -> Block:
    """A block with factors as stored: the rows' fitted to the columns' after these are rounded."""
    stored = round_scale(columns / norms, _SCALE_FORMAT).astype(np.float16)
    basis = stored.astype(np.float64) * norms
    # Vectors that are zero, or lost in rounding, take no part: the pseudoinverse leaves their factors 0.
    rows = np.linalg.pinv(basis.T, rcond=1e-9) @ (magnitudes * norms).T
    return Block(sign=sign, rows=round_scale(rows, _SCALE_FORMAT), columns=stored)


def _norms(columns: int, calibration: Calibration | None) -> Floats:
    if calibration is None:
        return np.ones(columns)
    if len(calibration.peak) != columns:
        raise ValueError(
            f"calibration must have {columns} columns as the weight has, not {len(calibration.peak)}"
        )
    return np.sqrt(calibration.second_moment) + _LEAST_NORM


def _packed(blocks: list[Block], power: int) -> PackedMatrix:
    """The matrix ``2**power * sum(blocks)``."""
    rows, columns = blocks[0].sign.shape
    named = {
        f"row{b}_{k}": vector[:, None]
        for b, block in enumerate(blocks)
        for k, vector in enumerate(block.rows)
    }
    ints, exponent = grouping.stored_scalars(named, _SCALE_FORMAT)
    exponent = Ints(exponent.values + power, exponent.bits, signed=True)
    terms = tuple(
        Term(
            planes=(f"sign{b}",),
            coefs=(1,),
            digit=Digit.BIPOLAR,
            scale=f"row{b}_{k}",
            col=f"column{b}_{k}",
        )
        for b, block in enumerate(blocks)
        for k in range(len(block.rows))
    )
    return PackedMatrix(
        rows=rows,
        columns=columns,
        group=columns,
        terms=terms,
        planes={f"sign{b}": Plane(words.pack(block.sign)) for b, block in enumerate(blocks)},
        ints=ints,
        exponent=exponent,
        factors={
            f"column{b}_{k}": np.ascontiguousarray(vector)
            for b, block in enumerate(blocks)
            for k, vector in enumerate(block.columns)
        },
    )
