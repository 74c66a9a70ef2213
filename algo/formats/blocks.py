"""Block formats: elements that are tables, under scales of many kinds. A format is a constant, or a name.

Names are ``<element>-<columns of a scale>[-<scale>][-<rule>][-<rounding>]``: ``e2m1-g32-e8m0-ceil``,
``sint4-row``, ``nf4-g64-fp32``, ``bitmod4-g128``. The columns are ``gN`` or ``row``; the scale is fp16 where
it is left out, and the rule of e8m0 ``ceil``. Published formats have their own names, such as ``nvfp4``; to
add one, add it to `ALL`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from algo.bitplane.format import ROUNDINGS, ROW, RULES, Digit, Format
from algo.formats import elements
from algo.formats.elements import Element

_MX = "OCP Microscaling Formats (MX) Specification 1.0, sections 5 and 6"
_NV = "NVIDIA, Pretraining Large Language Models with NVFP4, arXiv:2509.25149, section 2 and appendix C"
_INT_FP = "Chen et al., INT v.s. FP, arXiv:2510.25602, section 2"
_DESIGN = "Hu et al., Elucidating the Design Space of FP4 training, arXiv:2509.17791"

#: Bits of a stored scale, by format.
SCALE_BITS: Mapping[str, int] = MappingProxyType(
    {"fp16": 16, "bf16": 16, "fp32": 32, "e8m0": 8, "ue4m3": 8, "ue5m3": 8, "int8": 8, "int8-256": 8}
)


def block(name: str, element: Element, group: int, **given: Any) -> Format:
    """An element under a scale; published bits are those of the code, the scale and the index of a group."""
    code = len(element.tables[0]).bit_length() - 1
    index = len(element.tables).bit_length() - 1
    scale = given.get("scale", "fp16")
    shared = (
        SCALE_BITS[scale] / given.get("tile", 1) + index + (32 / 256 if scale == "int8-256" else 0)
    ) / group
    digits = [value for table in element.tables for value in table if value is not None]
    settings: dict[str, Any] = {
        "name": name,
        "digit": Digit.UNIPOLAR,
        "coefs": Format.places(digits),
        "group": group,
        "rounding": element.rounding,
        "published_bits": code + (0.0 if group == ROW else shared),
        "source": element.source,
        "tables": element.tables,
        "unit": element.unit,
    }
    return Format(**(settings | given))


def _mx(name: str, element: Element, rule: str = "floor", **given: Any) -> Iterator[Format]:
    """A block of 32 under a power of two, by each rule of its exponent; ``rule`` has the plain name."""
    for each in ("floor", "ceil", "four_thirds", "mse"):
        plain = name if each == rule else f"{name}-{each}"
        yield block(plain, element, 32, scale="e8m0", rule=each, **({"source": _MX} | given))


def _fixed() -> Iterator[Format]:
    get = elements.get
    yield from _mx("mxfp8-e4m3", get("e4m3"))
    yield from _mx("mxfp6-e2m3", get("e2m3"))
    yield from _mx("mxfp6-e3m2", get("e3m2"))
    yield from _mx("mxfp4", get("e2m1"))
    yield from _mx("mxint8", elements.integers(8, unit=-6))
    yield from _mx("mxint6", elements.integers(6, unit=-4), source=_INT_FP)
    yield from _mx("mxint4", elements.integers(4, unit=-2), source=_INT_FP)
    nv: dict[str, Any] = {"scale": "ue4m3", "tensor": True}
    yield block("nvfp4", get("e2m1"), 16, **nv, source=_NV)
    yield block("nvfp4-2d", get("e2m1"), 16, tile=16, **nv, source=_NV)
    yield block("nvint4", get("sint4"), 16, **nv, source=_INT_FP)
    yield block("nvfp4-ue4m3", get("e2m1"), 16, scale="ue4m3", source=_DESIGN)
    yield block("nvfp4-ue5m3", get("e2m1"), 16, scale="ue5m3", source=_DESIGN)
    for bits in (4, 3):
        for kind in ("bitmod{}", "bitmod{}er", "bitmod{}ea", "fp{}"):
            name = kind.format(bits)
            yield block(f"{name}-g128", get(name), 128, scale="int8")
    yield block("flint4-g128", get("flint4"), 128)
    yield block("ant4-g128", get("ant4"), 128)
    for name in ("nf4", "bnb_fp4"):
        yield block(f"{name}-g64", get(name), 64, scale="fp32")
        yield block(f"{name}-g64-dq", get(name), 64, scale="int8-256")
    fp6 = "Wu et al., ZeroQuant(4+2), arXiv:2312.08583, section 3"
    yield block("fp6-row", get("e3m2"), ROW, source=fp6)
    yield block("fp5-row", get("e2m2"), ROW, source=fp6)


#: Published block formats by name.
ALL: Mapping[str, Format] = MappingProxyType({fmt.name: fmt for fmt in _fixed()})

#: Formats whose digits have more planes than are run unless asked for.
_WIDE = ("mxfp8-e5m2", *(f"mxfp8-e5m2-{rule}" for rule in ("ceil", "four_thirds", "mse")))
_SCALES = "|".join(sorted(SCALE_BITS, key=len, reverse=True))
_NAME = re.compile(
    rf"(?P<element>[a-z_0-9-]+?)-(g(?P<group>[1-9]\d*)|(?P<row>row))(-(?P<scale>{_SCALES}))?"
    rf"(-(?P<rule>{'|'.join(RULES)}))?(-(?P<rounding>{'|'.join(ROUNDINGS)}))?"
)
GRAMMAR = "<element>-gN|row[-scale][-rule][-rounding]"


@lru_cache(maxsize=512)
def get(name: str, allow_wide: bool = False) -> Format:
    """The block format ``name``, from `ALL` or by the grammar of this module.

    Raises ValueError for a name that is none, or a digit of more planes than `Format` takes unless
    ``allow_wide``.
    """
    if name in ALL:
        return ALL[name]
    if name in _WIDE:
        made = _mx("mxfp8-e5m2", elements.get("e5m2"), allow_wide=allow_wide)
        return {fmt.name: fmt for fmt in made}[name]
    found = _NAME.fullmatch(name)
    if found is None:
        raise ValueError(f"format must be one of {', '.join(ALL)}, {GRAMMAR}, not {name!r}")
    scale = found["scale"] or "fp16"
    rule = found["rule"] or ("ceil" if scale == "e8m0" else "absmax")
    if (rule == "absmax") == (scale == "e8m0"):
        wanted = "floor, ceil, four_thirds or mse" if scale == "e8m0" else "absmax"
        raise ValueError(f"rule must be {wanted} for scale {scale}, not {rule!r}")
    group = ROW if found["row"] else int(found["group"])
    made_of = elements.get(found["element"])
    given = {"rounding": found["rounding"]} if found["rounding"] else {}
    return block(name, made_of, group, scale=scale, rule=rule, allow_wide=allow_wide, **given)


def is_name(name: object) -> bool:
    """There is a block format of this name, wide ones too."""
    try:
        return isinstance(name, str) and bool(get(name, True))
    except ValueError:
        return False
