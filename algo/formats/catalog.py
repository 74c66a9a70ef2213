"""Named number formats, each with its source. To add one, add a constant: `ALL` collects it.

Here stand the linear ones, whose planes are stored as they are; formats of tables, with names of a grammar,
are those of `algo.formats.blocks`, and `get` finds either.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from algo.bitplane.format import Digit, Format
from algo.formats import blocks


def _unsigned(bits: int, source: str) -> Format:
    """Codes 0 .. 2**bits - 1 with a zero point as wide as a code, 128 columns a group."""
    return Format(
        name=f"int{bits}-g128",
        digit=Digit.UNIPOLAR,
        coefs=tuple(1 << place for place in range(bits)),
        group=128,
        zero=True,
        published_bits=float(bits),
        source=source,
    )


_MIN_MAX = "asymmetric min/max grid: Nagel et al., arXiv:2106.08295, section 2.2; groups of 128 columns: "

_GPTQ = _MIN_MAX + "Frantar et al., GPTQ, arXiv:2210.17323, section 5"

INT8_G128 = _unsigned(8, _GPTQ)
INT7_G128 = _unsigned(7, _GPTQ)
INT6_G128 = _unsigned(6, _GPTQ)
INT5_G128 = _unsigned(5, _GPTQ)
INT4_G128 = _unsigned(4, _GPTQ)
INT3_G128 = _unsigned(3, _GPTQ)
INT2_G128 = _unsigned(2, _GPTQ)
#: Codes 0 and 1: {0, s} or {-s, 0}, no sign; the "1-bit RTN" row of the binarization papers.
INT1_G128 = _unsigned(1, _MIN_MAX + "as 1-bit RTN in Huang et al., BiLLM, arXiv:2402.04291, table 2")

SIGN_G128 = Format(
    name="sign-g128",
    digit=Digit.BIPOLAR,
    coefs=(1,),
    group=128,
    published_bits=1.0,
    source="binary weight network: Rastegari et al., XNOR-Net, arXiv:1603.05279, section 3.1",
)

TERNARY_G128 = Format(
    name="ternary-g128",
    digit=Digit.UNIPOLAR,
    coefs=(1, -1),
    group=128,
    published_bits=math.log2(3),
    source="BitNet b1.58: Ma et al., arXiv:2402.17764, section 2; the two planes store 2 bits",
)

#: Every format of this module by name, in the order they stand in.
ALL: Mapping[str, Format] = MappingProxyType(
    {fmt.name: fmt for fmt in list(globals().values()) if isinstance(fmt, Format)}
)


def get(name: str, allow_wide: bool = False) -> Format:
    """Format ``name``, a linear one or a block format; ``allow_wide`` as `algo.formats.blocks.get` has it.

    Raises ValueError naming the formats if there is none of that name.
    """
    if name not in ALL and blocks.is_name(name):
        return blocks.get(name, allow_wide)
    return choose(name, tuple(ALL))


class Offered(tuple[str, ...]):
    """Names of linear formats that a method takes, and with them every block format that passes a test."""

    test: Callable[[Format], bool]

    def __new__(cls, names: Sequence[str], test: Callable[[Format], bool] = lambda fmt: True) -> Offered:
        found = super().__new__(cls, names)
        found.test = test
        return found

    def __contains__(self, name: object) -> bool:
        if super().__contains__(name):
            return True
        return isinstance(name, str) and blocks.is_name(name) and self.test(blocks.get(name, True))


def accepted_by(test: Callable[[Format], bool], *, first: Format) -> tuple[str, ...]:
    """Names of the formats that pass ``test``, the default ``first`` before the rest."""
    return (first.name, *(fmt.name for fmt in ALL.values() if test(fmt) and fmt is not first))


def is_unsigned(fmt: Format) -> bool:
    """Codes 0 .. 2**planes - 1 less a stored zero point."""
    places = tuple(1 << place for place in range(len(fmt.coefs)))
    return fmt.zero and fmt.digit is Digit.UNIPOLAR and fmt.coefs == places


def choose(name: str, allowed: Sequence[str], group: int | None = None, allow_wide: bool = False) -> Format:
    """Format ``name`` with ``group`` columns to a scale; None keeps the format's own.

    Raises ValueError if the name is not allowed or the group is less than 1, TypeError if it is no integer.
    """
    if name not in allowed:
        raise ValueError(f"format must be one of {', '.join(allowed)}, not {name!r}")
    found = ALL[name] if name in ALL else blocks.get(name, allow_wide)
    return found if group is None else replace(found, group=group)
