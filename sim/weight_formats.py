"""How a weight format occupies an array and a memory, per column, group and row: no checkpoint is needed.

A format that the project packs is read off a small packed sample, so its planes, masks and bits are those of
real files; a published format it does not pack is written down here with its source.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType

import numpy as np

from algo.bitplane.build import from_digits
from algo.bitplane.format import Format
from algo.bitplane.matrix import PackedMatrix
from algo.bitplane.storage import role_of, stored_bytes
from sim.cycles.product import KINDS, SCALE_BITS, Pass, Product, Stored, of_matrix, places, shared_by_rows

SAMPLE_ROWS = 16  #: rows of a sample; what a row takes does not depend on it


@dataclass(frozen=True, kw_only=True)
class WeightFormat:
    """A weight format as a schedule sees it."""

    name: str
    passes: tuple[Pass, ...]
    group: int | None  #: columns an item spans; None: the whole row
    planes: Fraction  #: bits of planes per weight
    masks: Fraction = Fraction(0)  #: bits of masks and indices per weight
    group_bits: Fraction = Fraction(0)  #: scales, offsets and zero points of a row and group
    row_bits: Fraction = Fraction(0)  #: exponents and scales of a row
    shared: Fraction = Fraction(0)  #: bits per column that all rows share
    streams: int = 1  #: copies of the activations, by column factor
    source: str

    def product(self, name: str, tokens: int, rows: int, columns: int, act_bits: int) -> Product:
        """A product with a matrix of this format."""
        group = columns if self.group is None else min(self.group, columns)
        scales = self.group_bits * -(-columns // group) + self.row_bits
        return Product(
            name=name,
            tokens=tokens,
            rows=rows,
            columns=columns,
            group=group,
            passes=self.passes,
            activation=places(act_bits),
            stored=Stored(
                planes=_up(self.planes * columns),
                masks=_up(self.masks * columns),
                scales=_up(scales),
                shared=_up(self.shared * columns),
            ),
            streams=self.streams,
            token_bits=SCALE_BITS,
        )

    def bits_per_weight(self, columns: int = 4096, rows: int = 4096) -> float:
        """Stored bits per weight of a matrix."""
        stored = self.product("", 1, rows, columns, 8).stored
        return (stored.row + stored.shared / rows) / columns


def _up(bits: Fraction) -> int:
    return -(-bits.numerator // bits.denominator)


def of_sample(name: str, matrix: PackedMatrix, source: str) -> WeightFormat:
    """What a packed sample shows of its format. Its columns should be whole groups and whole words."""
    product = of_matrix(matrix, 8, tokens=1)
    entries = matrix.rows * matrix.columns
    bits = dict.fromkeys(("planes", "masks", "shared", "group_bits", "row_bits"), Fraction(0))
    for array, count in stored_bytes(matrix).items():
        if shared_by_rows(matrix, array):
            bits["shared"] += Fraction(8 * count, matrix.columns)
        elif array in matrix.planes:
            bits[KINDS[role_of(matrix, array)]] += Fraction(8 * count, entries)
        elif array in matrix.ints:
            bits["group_bits"] += Fraction(8 * count, matrix.rows * matrix.groups)
        else:
            bits["row_bits"] += Fraction(8 * count, matrix.rows)
    whole_row = matrix.group >= matrix.columns
    return WeightFormat(
        name=name,
        passes=product.passes,
        group=None if whole_row else matrix.group,
        streams=product.streams,
        source=source,
        **bits,
    )


def of_format(fmt: Format) -> WeightFormat:
    """A format of the catalog, from a packed sample of two groups that are whole words."""
    columns = 128 * fmt.group
    rng = np.random.default_rng(0)
    digits = rng.choice(fmt.values(), (SAMPLE_ROWS, columns))
    groups = (SAMPLE_ROWS, columns // fmt.group)
    zero = np.zeros(groups, np.int64) if fmt.zero else None
    return of_sample(fmt.name, from_digits(fmt, digits, np.ones(groups), zero), fmt.source)


def _published(
    name: str, weight: tuple[int, ...], group: int, group_bits: int, source: str, bits: int = 4
) -> WeightFormat:
    """A format of one group scale whose elements are stored in ``bits`` and run as the planes ``weight``."""
    return WeightFormat(
        name=name,
        passes=(Pass(weight=weight),),
        group=group,
        planes=Fraction(bits),
        group_bits=Fraction(group_bits),
        source=source,
    )


_OCP = "OCP Microscaling Formats (MX) v1.0: E8M0 scale of 32 elements"
_TWICE = "; run as the integers its values are multiples of"

#: Formats that are described, not packed. Elements of floats unfold to planes between buffer and array.
PUBLISHED: Mapping[str, WeightFormat] = MappingProxyType(
    {
        fmt.name: fmt
        for fmt in (
            _published("mxfp4", places(5), 32, 8, _OCP + ", E2M1 (0 to 6 by halves)" + _TWICE),
            _published(
                "nvfp4", places(5), 16, 8, "NVFP4: E2M1 elements, UE4M3 scale of 16, Blackwell" + _TWICE
            ),
            _published("mxint8", places(8), 32, 8, _OCP + ", INT8 elements", bits=8),
            WeightFormat(
                name="int4-2:4",
                passes=(Pass(weight=places(4), keep=2, of=4),),
                group=128,
                planes=Fraction(2),
                masks=Fraction(1),
                group_bits=Fraction(16),
                source="2:4: Mishra et al., arXiv:2104.08378, 2-bit index per kept weight; int4, fp16 scale",
            ),
        )
    }
)
