"""Number formats as data: which integers a term's digit can be, and how its scale is kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import product
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike, NDArray

from algo.bitplane import lowering
from algo.bitplane.scales import SCALE_FORMATS


class Digit(Enum):
    """What the two states of a plane's bit mean."""

    UNIPOLAR = "unipolar"  #: {0, 1}
    BIPOLAR = "bipolar"  #: {-1, +1}, bit 1 = +1

    def of(self, bit: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Digits of bits, int64."""
        ones = np.asarray(bit).astype(np.int64)
        return ones if self is Digit.UNIPOLAR else 2 * ones - 1


#: How a value between two of a format's is rounded.
ROUNDINGS: Mapping[str, str] = MappingProxyType(
    {
        "rne": "nearest, ties to the even code",
        "rha": "nearest, ties away from zero",
        "rhz": "nearest, ties towards zero",
        "rhu": "nearest, ties up",
        "rtl": "nearest, ties down",
        "sr": "up with probability (x - low) / (high - low), by a counter-based generator",
    }
)
#: How a group's scale follows from its weights.
RULES: Mapping[str, str] = MappingProxyType(
    {
        "absmax": "the largest magnitude is the largest digit",
        "floor": "2**(floor(log2 absmax) - floor(log2 largest value)): the top binade may saturate",
        "ceil": "2**ceil(log2(absmax / largest value)): nothing saturates",
        "four_thirds": "4/3 of the floor rule's",
        "mse": "of the floor rule's times 1/4, 1/2, 1 and 2 that of the least squared error",
    }
)
WIDEST = 24  #: planes of a digit, unless a format allows more
ROW = 1 << 30  #: group of a format with one scale a row


def _is_power(number: int) -> bool:
    return number > 0 and not number & (number - 1)


@dataclass(frozen=True, kw_only=True)
class Format:
    """value = scale * 2**unit * (sum_p coefs[p] * digit(bit[p]) - zero): a digit set with its scale.

    Where ``tables`` are given, what is stored of an entry is a code, and the planes of its digit are boolean
    expressions over the code's. Every finite float format is a set of multiples of its smallest positive
    value, 2**unit: its digits are those integers. With several tables each group of columns reads one of
    them, which index bits of the group name.
    """

    name: str  #: key in the catalog, such as "int4-g128"
    digit: Digit
    coefs: tuple[int, ...]  #: place value of each plane
    group: int  #: columns that share a scale
    scale: str = "fp16"  #: key of `SCALE_FORMATS`
    zero: bool = False  #: an integer zero point per group is stored
    rounding: str = "rne"  #: key of `ROUNDINGS`
    published_bits: float  #: bits per weight by the formula its authors print
    source: str  #: where the format is defined
    #: Integer of every stored code, None where it is none (NaN, infinity); each table as long as the others.
    tables: tuple[tuple[int | None, ...], ...] = ()
    unit: int = 0  #: value of the digit 1 is 2**unit times the scale
    rule: str = "absmax"  #: key of `RULES`
    tensor: bool = False  #: group scales are shares of one real factor of the whole matrix
    tile: int = 1  #: rows that share a scale
    allow_wide: bool = False  #: digits of more than `WIDEST` planes

    def __post_init__(self) -> None:
        if not self.coefs or any(not isinstance(c, int) or c == 0 for c in self.coefs):
            raise ValueError(f"coefs must be non-zero integers, not {self.coefs!r}")
        if not isinstance(self.group, int) or isinstance(self.group, bool):
            raise TypeError(f"group must be an integer, not {self.group!r}")
        for name in ("group", "tile"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)!r}")
        for name, known in (("scale", SCALE_FORMATS), ("rounding", ROUNDINGS), ("rule", RULES)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, not {getattr(self, name)!r}")
        if len(self.coefs) > WIDEST and not self.allow_wide:
            raise ValueError(
                f"planes must be at most {WIDEST} for {self.name} unless allow_wide is set, "
                f"not {len(self.coefs)}"
            )
        if self.tables:
            self._check_tables()

    def _check_tables(self) -> None:
        sizes = {len(table) for table in self.tables}
        if len(sizes) != 1 or not _is_power(len(self.tables)) or not all(map(_is_power, sizes)):
            raise ValueError(
                f"tables must be a power of two, each of one size that is one, not sizes {sorted(sizes)}"
            )
        planes = Format.places(value for table in self.tables for value in table if value is not None)
        if self.coefs != planes or self.digit is not Digit.UNIPOLAR or self.zero:
            raise ValueError(f"coefs must be {planes} for these tables, without zero, not {self.coefs!r}")

    @staticmethod
    def places(digits: Iterable[int]) -> tuple[int, ...]:
        """Place values of the planes that integers need: plain binary, or two's complement if one is < 0."""
        digits = tuple(digits)
        low, high = min(digits), max(digits)
        width = max(high.bit_length(), (-low - 1).bit_length() if low < 0 else 0)
        return tuple(1 << p for p in range(width)) + ((-(1 << width),) if low < 0 else ())

    @property
    def code_bits(self) -> int:
        """Bits stored of an entry."""
        return len(self.tables[0]).bit_length() - 1 if self.tables else len(self.coefs)

    @property
    def index_bits(self) -> int:
        """Bits stored of a group to name its table."""
        return len(self.tables).bit_length() - 1 if self.tables else 0

    def expressions(self) -> tuple[str, ...]:
        """The digit's planes over the stored planes ``code0``, .. and ``index0``, .., or ``plane0``, .."""
        if not self.tables:
            return tuple(f"plane{p}" for p in range(len(self.coefs)))
        names = [f"code{p}" for p in range(self.code_bits)] + [f"index{p}" for p in range(self.index_bits)]
        whole = tuple(value for table in self.tables for value in table)
        return lowering.planes(whole, len(self.coefs), tuple(names))

    def values(self) -> NDArray[np.int64]:
        """Integer of every code that has one, int64; plane p is bit p of the code, tables in their order."""
        if self.tables:
            return np.array([v for table in self.tables for v in table if v is not None])
        low = 0 if self.digit is Digit.UNIPOLAR else -1
        codes = product((low, 1), repeat=len(self.coefs))
        # itertools counts with the last place fastest; plane 0 is the fastest here.
        return np.array(
            [sum(c * d for c, d in zip(self.coefs, reversed(code), strict=True)) for code in codes]
        )

    @property
    def low(self) -> int:
        """Smallest digit."""
        return int(self.values().min())

    @property
    def high(self) -> int:
        """Largest digit."""
        return int(self.values().max())

    def levels(self, table: int = 0) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """Digits of a table, rising, each once, and the code of each: the lower of two."""
        found: dict[int, int] = {}
        for code, value in enumerate(self.tables[table]):
            if value is not None:
                found.setdefault(value, code)
        order = sorted(found)
        return np.array(order, np.int64), np.array([found[value] for value in order], np.uint8)

    def bits(self, digits: ArrayLike) -> NDArray[np.bool_]:
        """Stored bits, boolean [code_bits, ...], of integers [...]; of two codes for one integer the lower.

        Raises ValueError if an integer is not in the format, or the format has several tables.
        """
        digits = np.asarray(digits, np.int64)
        if len(self.tables) > 1:
            raise ValueError(f"format must have one table, not the {len(self.tables)} of {self.name}")
        values, first = self.levels() if self.tables else np.unique(self.values(), return_index=True)
        at = np.clip(np.searchsorted(values, digits), 0, len(values) - 1)
        if np.any(values[at] != digits):
            stray = digits[values[at] != digits].flat[0]
            raise ValueError(f"digits must be values of {self.name}, not {int(stray)}")
        codes = first[at]
        return np.stack([(codes >> p) & 1 for p in range(self.code_bits)]).astype(np.bool_)
