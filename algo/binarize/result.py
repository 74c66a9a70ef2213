"""What the block-wise binarizers report of a layer."""

from __future__ import annotations

from collections.abc import Sequence

from algo.binarize.curvature import Curvature
from algo.binarize.zone import Block
from algo.bitplane.matrix import PackedMatrix
from algo.formats.quantized import Quantized


def reported(
    blocks: Sequence[Block], matrix: PackedMatrix, loss: float, curve: Curvature, kept: float = 1.0
) -> Quantized:
    """The packed layer with the published bits ``(1 + r) * kept``, r the share of salient columns.

    Notes: "loss", of the released log, before rounding; "dead_columns".
    """
    counts = tuple(int(block.salient.sum()) for block in blocks)
    return Quantized(
        matrix=matrix,
        published_bits=kept * (1 + sum(counts) / matrix.columns),
        salient_columns=counts,
        notes={"loss": loss, "dead_columns": int(curve.dead.sum())},
    )
