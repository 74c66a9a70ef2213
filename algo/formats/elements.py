"""Value sets of stored codes as integers, in units of the smallest positive value: what a format is made of.

An `Element` is data. Floats come from their widths, the tables of 4-bit data types from the rule their
authors give; nothing is copied from code.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from statistics import NormalDist

Table = tuple[int | None, ...]

SPECIALS = {
    "all": "every code is a number",
    "fn": "all ones of exponent and mantissa are NaN",
    "ieee": "the top exponent is infinity and NaN",
}


@dataclass(frozen=True, kw_only=True)
class Element:
    """What the codes of an entry stand for: a table, or several of which each group reads one."""

    tables: tuple[Table, ...]
    unit: int = 0  #: the value of the integer 1 is 2**unit
    rounding: str = "rne"
    source: str


def minifloat(exponent: int, mantissa: int, special: str = "all", bias: int | None = None) -> Element:
    """ExMy: sign, ``exponent`` and ``mantissa`` bits; the code is sign, exponent, mantissa, high bits first.

    ``bias`` is ``2**(exponent-1) - 1`` where it is left out. Raises ValueError for widths that are no such
    float of 3 to 8 bits, or an unknown rule of special codes.
    """
    if special not in SPECIALS:
        raise ValueError(f"special must be one of {', '.join(SPECIALS)}, not {special!r}")
    if exponent < 1 or mantissa < 0 or not 3 <= 1 + exponent + mantissa <= 8:
        raise ValueError(f"minifloat must have an exponent bit and 3 to 8 bits, not e{exponent}m{mantissa}")
    bias = (1 << (exponent - 1)) - 1 if bias is None else bias
    magnitudes: list[int | None] = []
    for code in range(1 << (exponent + mantissa)):
        binade, share = divmod(code, 1 << mantissa)
        value = share if binade == 0 else (share + (1 << mantissa)) << (binade - 1)
        top = binade == (1 << exponent) - 1
        gone = (special == "ieee" and top) or (special == "fn" and code == (1 << (exponent + mantissa)) - 1)
        magnitudes.append(None if gone else value)
    table = (*magnitudes, *(None if value is None else -value for value in magnitudes))
    # Without mantissa bits there is no subnormal but 0, and the smallest value is that of exponent 1.
    return Element(
        tables=(table,),
        unit=1 - bias - mantissa,
        source="floats: Micikevicius et al., arXiv:2209.05433, section 3; Aggarwal et al., arXiv:2311.12359",
    )


def integers(bits: int, full: bool = False, unit: int = 0) -> Element:
    """Two's complement; without its smallest number unless ``full``."""
    if not 2 <= bits <= 8:
        raise ValueError(f"integers must have 2 to 8 bits, not {bits!r}")
    half = 1 << (bits - 1)
    table: Table = (*range(half), -half if full else None, *range(1 - half, 0))
    return Element(
        tables=(table,),
        unit=unit,
        source="symmetric integers: Krishnamoorthi, arXiv:1806.08342, section 2",
    )


_NF4_TAIL = 0.9677083  #: probability of the outermost quantile [Dettmers et al., arXiv:2305.14314, release]
_NF4_TOP = 127  #: integer of the largest value: 8 planes


@cache
def nf4_values() -> tuple[float, ...]:
    """The 16 values of NF4, rising: quantiles of a normal distribution, scaled to -1 .. 1, and 0."""

    def quantiles(count: int) -> list[float]:
        step = (0.5 - _NF4_TAIL) / (count - 1)
        return [NormalDist().inv_cdf(_NF4_TAIL + step * i) for i in range(count - 1)]

    values = sorted([-v for v in quantiles(8)] + [0.0] + quantiles(9))
    return tuple(v / values[-1] for v in values)


def nf4() -> Element:
    """NF4 as a fixed-point table: its values in 127ths, rounded."""
    return Element(
        tables=(tuple(round(_NF4_TOP * v) for v in nf4_values()),),
        rounding="rtl",
        source="Dettmers et al., QLoRA, arXiv:2305.14314, section 3 and appendix E; differs in: 127ths",
    )


def bnb_fp4() -> Element:
    """The 4-bit float of bitsandbytes, 192ths: 2, 3, 4, 6, 8, 12 twelfths, and 0.0625 of one."""
    codes = {0b110: 2, 0b111: 3, 0b100: 4, 0b101: 6, 0b010: 8, 0b011: 12}
    magnitudes = [0, 1] + [16 * codes[code] for code in range(2, 8)]
    return Element(
        tables=((*magnitudes, *(-v for v in magnitudes)),),
        rounding="rhz",
        source="bitsandbytes FP4 data type (csrc/kernels.cu), used by Dettmers et al., arXiv:2305.14314",
    )


_BITMOD = "Chen et al., BitMoD, arXiv:2411.11745, section 3"
#: Magnitudes of the basic sets, by bits, and special values by set: near the range's inside, and beyond it.
_BASIC = {3: (0, 1, 2, 4), 4: (0, 1, 2, 3, 4, 6, 8, 12)}
_SPECIAL = {(3, "er"): 3, (3, "ea"): 6, (4, "er"): 10, (4, "ea"): 16}


def basic(bits: int, special: int | None = None) -> Table:
    """Codes of a sign and a magnitude; the code of -0 stands for ``special``, or for 0 without it."""
    magnitudes = _BASIC[bits]
    return (*magnitudes, special or 0, *(-v for v in magnitudes[1:]))


def bitmod(bits: int, kinds: str = "er ea") -> Element:
    """Sets of a basic float and one special value, of which each group takes the best: +, - of each kind."""
    specials = [sign * _SPECIAL[bits, kind] for kind in kinds.split() for sign in (1, -1)]
    return Element(tables=tuple(basic(bits, special) for special in specials), rounding="rtl", source=_BITMOD)


_FLINT4 = (0, 1, 2, 3, 4, 6, 8, 16)


def flint4() -> Element:
    """Magnitudes 0, 1, 2, 3, 4, 6, 8, 16."""
    return Element(
        tables=((*_FLINT4, *(-v for v in _FLINT4)),),
        rounding="rtl",
        source="Guo et al., ANT, arXiv:2208.14286, section 4, as compared with in " + _BITMOD,
    )


def ant4() -> Element:
    """int4 or flint4, whichever has the smaller error in a group; both as sign and magnitude."""
    whole = tuple(range(8))
    return Element(
        tables=((*whole, *(-v for v in whole)), *flint4().tables),
        rounding="rtl",
        source=flint4().source,
    )


def _basic(bits: int) -> Element:
    return Element(tables=(basic(bits),), rounding="rtl", source=_BITMOD)


#: Elements by name, each made when it is asked for.
_NAMED: dict[str, Callable[[], Element]] = {
    "nf4": nf4,
    "bnb_fp4": bnb_fp4,
    "fp3": partial(_basic, 3),
    "fp4": partial(_basic, 4),
    "flint4": flint4,
    "ant4": ant4,
    "bitmod3": partial(bitmod, 3),
    "bitmod4": partial(bitmod, 4),
    "bitmod3er": partial(bitmod, 3, "er"),
    "bitmod3ea": partial(bitmod, 3, "ea"),
    "bitmod4er": partial(bitmod, 4, "er"),
    "bitmod4ea": partial(bitmod, 4, "ea"),
}
NAMES = tuple(_NAMED)
_FLOAT = re.compile(r"e(?P<exponent>\d)m(?P<mantissa>\d)(?P<special>all|fn|ieee)?(b(?P<bias>-?\d+))?")
_SYMMETRIC = re.compile(r"sint(?P<bits>[2-8])(?P<full>full)?")
GRAMMAR = "eXmY[all|fn|ieee][bB], sintB[full]"


@cache
def get(name: str) -> Element:
    """An element by name: one of `NAMES`, ``e2m1``, ``e4m3fn``, ``e3m2b7``, ``sint4``, ``sint8full``.

    e4m3 alone is e4m3fn and e5m2 e5m2ieee, as the standards have them; others have no special code.
    Raises ValueError for any other name, or widths that are none.
    """
    if name in _NAMED:
        return _NAMED[name]()
    if found := _SYMMETRIC.fullmatch(name):
        return integers(int(found["bits"]), full=found["full"] is not None)
    if found := _FLOAT.fullmatch(name):
        widths = int(found["exponent"]), int(found["mantissa"])
        usual = {(4, 3): "fn", (5, 2): "ieee"}.get(widths, "all")
        bias = None if found["bias"] is None else int(found["bias"])
        return minifloat(*widths, found["special"] or usual, bias)
    raise ValueError(f"element must be one of {', '.join(NAMES)}, {GRAMMAR}, not {name!r}")
