"""A matrix product as a schedule sees it: how many outputs, the items of each, and what is stored.

No weight is held: a product of a stored matrix comes from `of_matrix`, any other from its fields.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from algo.bitplane.format import Digit
from algo.bitplane.matrix import PackedMatrix
from algo.bitplane.planes import Pattern
from algo.bitplane.storage import role_of, stored_bytes
from hw.spec import Segment, Shape, require_int, require_power_of_two
from sim import schedule

RESULT_BITS = 32  #: an output leaves as float32
SCALE_BITS = 32  #: a token's scale enters as float32
#: Roles of stored arrays, by what a bill calls them.
KINDS = {"masks": "masks", "indices": "masks"} | dict.fromkeys(("sign planes", "extra planes"), "planes")


@dataclass(frozen=True, kw_only=True)
class Pass:
    """One item that every output needs in every column group."""

    weight: tuple[int, ...]  #: place value of each weight plane; (1,) of a sum of activations
    sums: bool = False  #: the sum of the activations: no plane is read
    bipolar: bool = False  #: a weight plane's digits are -1/+1, not 0/1
    masked: bool = False  #: a mask is read with every word
    keep: int = 1  #: N of an N:M pattern that holds ``keep`` of every ``of`` columns
    of: int = 1

    def __post_init__(self) -> None:
        for place in self.weight:
            require_power_of_two("weight", place)
        require_int("of", self.of, 1)
        require_int("keep", self.keep, 1, self.of)


@dataclass(frozen=True, kw_only=True)
class Stored:
    """Bits stored of a matrix by kind: each of them of one row, rounded up; ``shared`` by all rows."""

    planes: int  #: sign, magnitude and residual planes
    masks: int = 0  #: masks and the indices of N:M patterns
    scales: int = 0  #: scales, offsets, zero points, exponents
    shared: int = 0  #: what all rows use: column factors, column masks

    def __post_init__(self) -> None:
        for name in ("planes", "masks", "scales", "shared"):
            require_int(name, getattr(self, name), 0)

    @property
    def row(self) -> int:
        """Bits of one row."""
        return self.planes + self.masks + self.scales


@dataclass(frozen=True, kw_only=True)
class Product:
    """``tokens`` x ``rows`` outputs over ``columns``: weights in groups, activations in planes."""

    name: str = "product"
    tokens: int
    rows: int
    columns: int
    group: int  #: columns an item spans; the last group may be short
    passes: tuple[Pass, ...]
    activation: tuple[int, ...]  #: place value of each activation plane
    bipolar: bool = False  #: an activation plane's digits are -1/+1, not 0/1
    stored: Stored
    act_bits: int | None = None  #: bits of an activation in memory; None: one for every plane
    streams: int = 1  #: copies of the activations, by column factor, that the passes read
    result_bits: int = RESULT_BITS  #: of an output on its way out
    token_bits: int = SCALE_BITS  #: bits that come with a token beside its planes

    def __post_init__(self) -> None:
        for name in ("tokens", "rows"):
            require_int(name, getattr(self, name), 0)
        for name in ("columns", "group", "streams", "result_bits"):
            require_int(name, getattr(self, name), 1)
        require_int("token_bits", self.token_bits, 0)
        if not self.passes:
            raise ValueError("passes must hold at least one pass, not ()")
        if self.act_bits is not None:
            require_int("act_bits", self.act_bits, 1)
        for place in self.activation:
            require_power_of_two("activation", place)

    @property
    def token_row(self) -> int:
        """Bits of a token's activations, without what comes beside them."""
        width = len(self.activation) if self.act_bits is None else self.act_bits
        return self.streams * self.columns * width

    def shape(self, pack_kept: bool = False) -> Shape:
        """The product as the compute contract counts it.

        ``pack_kept``: only the kept columns of an N:M pattern take lanes.
        """
        whole, rest = divmod(self.columns, self.group)
        segments = []
        for one in self.passes:
            for size, count in ((self.group, whole), (rest, 1)):
                if size and count:
                    columns = kept(size, one) if pack_kept else size
                    segments.append(self.segment(one, columns, count))
        return Shape(tokens=self.tokens, rows=self.rows, segments=tuple(segments))

    def segment(self, one: Pass, columns: int, count: int = 1) -> Segment:
        """A pass over so many columns that take lanes, as the compute contract counts it."""
        return Segment(
            columns=columns,
            weight=one.weight,
            activation=self.activation,
            count=count,
            w_bipolar=one.bipolar,
            x_bipolar=self.bipolar,
            masked=one.masked,
            kept=(one.keep, one.of),
        )

    def with_tokens(self, tokens: int) -> Product:
        """The same matrix on another number of tokens."""
        return replace(self, tokens=tokens)


def kept(columns: int, one: Pass) -> int:
    """Columns of ``columns`` that take lanes where an N:M pattern is packed.

    A short last part of ``of`` columns keeps all it has, up to ``keep``.
    """
    whole, rest = divmod(columns, one.of)
    return whole * one.keep + min(rest, one.keep)


def places(bits: int) -> tuple[int, ...]:
    """Place values of two's complement of ``bits``; of one bit: (1,), a digit of -1 or +1."""
    require_int("bits", bits, 1)
    return (1,) if bits == 1 else (*(1 << i for i in range(bits - 1)), -(1 << (bits - 1)))


def of_matrix(matrix: PackedMatrix, act_bits: int, tokens: int, name: str = "product") -> Product:
    """The product of a stored matrix with ``tokens`` tokens of ``act_bits`` bits.

    Where a term's mask is a stored N:M pattern, an array that packs kept columns may use it.
    """
    passes: list[Pass] = []
    for term in matrix.terms:
        mask = matrix.planes.get(term.mask or "")
        keep, of = (mask.kept, mask.of) if isinstance(mask, Pattern) and mask.kept else (1, 1)
        kinds = [(term.coefs, False)]
        if term.zero is not None or term.offset is not None:
            kinds.append(((1,), True))
        signs = term.digit is Digit.BIPOLAR
        passes += [
            Pass(
                weight=weight,
                sums=sums,
                bipolar=signs and not sums,
                masked=term.mask is not None,
                keep=keep,
                of=of,
            )
            for weight, sums in kinds
        ]
    shape = schedule.shape(matrix, act_bits, tokens)
    return Product(
        name=name,
        tokens=tokens,
        rows=matrix.rows,
        columns=matrix.columns,
        group=min(matrix.group, matrix.columns),
        passes=tuple(passes),
        activation=shape.segments[0].activation,
        bipolar=act_bits == 1,
        stored=stored(matrix),
        streams=len(matrix.streams),
    )


def stored(matrix: PackedMatrix) -> Stored:
    """Bits a stored matrix takes, by kind; a row's share is rounded up to whole bits."""
    own, shared = dict.fromkeys(("planes", "masks", "scales"), 0), 0
    for name, count in stored_bytes(matrix).items():
        role = role_of(matrix, name)
        if shared_by_rows(matrix, name):
            shared += 8 * count
        else:
            own[KINDS.get(role, "scales")] += 8 * count
    rows = {kind: -(-bits // matrix.rows) for kind, bits in own.items()}
    return Stored(**rows, shared=shared)


def shared_by_rows(matrix: PackedMatrix, name: str) -> bool:
    """Whether all rows use the stored array ``name``."""
    if name in matrix.factors:
        return True
    if name in matrix.planes:
        return matrix.rows > 1 and matrix.dense(name).shape[0] == 1
    values = matrix.exponent.values if name == "exponent" else getattr(matrix.ints.get(name), "values", None)
    return values is not None and matrix.rows > 1 and values.shape[0] == 1
