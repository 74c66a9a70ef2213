"""PEs whose energy is measured gate by gate: by family those fitted to, and those that judge the fit."""

from __future__ import annotations

from dataclasses import dataclass, fields
from importlib import import_module

from hw.spec import PeSpec


@dataclass(frozen=True)
class Design:
    """A PE, by its module in `hw.pe` and its parameters."""

    text: str  #: such as ``mac:lanes=4,booth=True``
    held_out: bool

    @property
    def family(self) -> str:
        return self.text.partition(":")[0]

    @property
    def spec(self) -> PeSpec:
        """The PE. Its parameters are literals of this module."""
        family, _, given = self.text.partition(":")
        kind = import_module(f"hw.pe.{family}").SPEC
        types = {f.name: type(f.default) for f in fields(kind)}
        pairs = (pair.split("=") for pair in given.split(","))
        made: PeSpec = kind(**{key: _value(text, types[key]) for key, text in pairs})
        return made


def _value(text: str, kind: type) -> int | str | bool:
    return text == "True" if kind is bool else text if kind is str else int(text)


#: parameters of each family: those fitted to, and those held out
_PARAMETERS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "bitserial": (
        (
            "lanes=16,acc_width=24,levels=0",
            "lanes=33,acc_width=32,levels=2",
            "lanes=64,acc_width=32,levels=3",
            "lanes=100,acc_width=40,levels=1",
        ),
        ("lanes=48,acc_width=28,levels=2", "lanes=128,acc_width=32,levels=3"),
    ),
    "popcount": (
        (
            "lanes=16,acc_width=24,op=and",
            "lanes=33,acc_width=32,op=xor,levels=0",
            "lanes=64,acc_width=32,op=and",
            "lanes=64,acc_width=32,op=xor,levels=2",
            "lanes=100,acc_width=40,op=xor",
        ),
        ("lanes=48,acc_width=28,op=xor", "lanes=128,acc_width=32,op=and"),
    ),
    "ternary": (
        (
            "lanes=16,acc_width=24,levels=0",
            "lanes=33,acc_width=32,levels=2",
            "lanes=64,acc_width=32,levels=3",
            "lanes=100,acc_width=40,levels=1",
        ),
        ("lanes=48,acc_width=28,levels=2", "lanes=128,acc_width=32,levels=3"),
    ),
    "twoplane": (
        (
            "lanes=16,acc_width=24,levels=0",
            "lanes=33,acc_width=32,levels=2",
            "lanes=64,acc_width=32,levels=3",
        ),
        ("lanes=24,acc_width=28,levels=1", "lanes=80,acc_width=32,levels=3"),
    ),
    "complex": (
        (
            "lanes=12,acc_width=20,levels=0",
            "lanes=33,acc_width=32,levels=2,conjugate=True",
            "lanes=64,acc_width=32,levels=3",
        ),
        ("lanes=24,acc_width=28,levels=1", "lanes=80,acc_width=32,levels=3"),
    ),
    "gather": (
        (
            "lanes=16,acc_width=24,levels=0",
            "lanes=32,acc_width=32,keep=4,of=8,levels=2",
            "lanes=64,acc_width=32",
            "lanes=30,acc_width=32,keep=6,of=8",
        ),
        ("lanes=48,acc_width=28,levels=2", "lanes=64,acc_width=32,keep=4,of=8"),
    ),
    "planes": (
        (
            "lanes=16,acc_width=24,levels=0",
            "lanes=24,acc_width=28,w_planes=1,x_planes=4,levels=2",
            "lanes=24,acc_width=28,w_planes=2,x_planes=2",
            "lanes=64,acc_width=32",
        ),
        ("lanes=32,acc_width=32,levels=3", "lanes=20,acc_width=32,w_planes=2,x_planes=4,levels=2"),
    ),
    "mac": (
        (
            "lanes=4,levels=1",
            "lanes=8,acc_width=24,w_bits=4,act_bits=4,levels=0",
            "lanes=6,w_bits=4",
            "lanes=12",
            "lanes=5,acc_width=24,w_bits=3,act_bits=6,levels=1",
        ),
        ("lanes=8", "lanes=16,w_bits=4,act_bits=8"),
    ),
    "mac booth": (
        (
            "lanes=4,booth=True,levels=1",
            "lanes=8,acc_width=24,w_bits=4,act_bits=4,booth=True,levels=0",
            "lanes=6,w_bits=4,booth=True",
            "lanes=12,booth=True",
        ),
        ("lanes=8,booth=True", "lanes=16,w_bits=4,act_bits=8,booth=True"),
    ),
    "minifloat": (
        (
            "lanes=4,levels=1",
            "lanes=8,exponent=3,mantissa=0,act_bits=5,acc_width=24,levels=0",
            "lanes=6,exponent=4,mantissa=3,acc_width=48",
            "lanes=16",
            "lanes=5,exponent=3,mantissa=2,acc_width=32",
        ),
        ("lanes=8", "lanes=12,exponent=2,mantissa=3"),
    ),
    "minifloat floats": (
        (
            "lanes=4,x_exponent=2,x_mantissa=1,acc_width=24,levels=1",
            "lanes=6,exponent=4,mantissa=3,x_exponent=4,x_mantissa=3,acc_width=48",
            "lanes=16,x_exponent=2,x_mantissa=1,acc_width=24",
            "lanes=8,exponent=3,mantissa=2,x_exponent=3,x_mantissa=2,acc_width=40,levels=0",
        ),
        (
            "lanes=10,x_exponent=2,x_mantissa=1,acc_width=24",
            "lanes=6,exponent=2,mantissa=3,x_exponent=2,x_mantissa=3,acc_width=32",
        ),
    ),
    "term": (
        (
            "lanes=4,acc_width=24,levels=1",
            "lanes=8,acc_width=28,act_bits=4,exponent_bits=3,slots=3,levels=0",
            "lanes=16",
            "lanes=12,exponent_bits=1",
        ),
        ("lanes=8", "lanes=24,acc_width=32"),
    ),
    "table": (
        (
            "lanes=4,acc_width=20,act_bits=4,row_count=2,levels=0",
            "lanes=9,acc_width=24,act_bits=6,group=3,row_count=4,levels=1",
            "lanes=16,row_count=4",
            "lanes=8,row_count=8",
        ),
        ("lanes=8,row_count=4", "lanes=16,row_count=8"),
    ),
    "selectadd": (
        (
            "lanes=8,acc_width=24,levels=1",
            "lanes=16,acc_width=28,act_bits=4,levels=0",
            "lanes=32",
            "lanes=64,act_bits=4",
        ),
        ("lanes=24", "lanes=48,act_bits=8"),
    ),
    "selectadd signs": (
        (
            "lanes=8,acc_width=24,ternary=False,levels=1",
            "lanes=16,acc_width=28,act_bits=4,ternary=False,levels=0",
            "lanes=32,ternary=False",
        ),
        ("lanes=24,ternary=False", "lanes=48,act_bits=6,ternary=False"),
    ),
    "fpmac": (("lanes=1", "lanes=2"), ("lanes=4",)),
}

DESIGNS = tuple(
    Design(f"{name.partition(' ')[0]}:{parameters}", held)
    for name, halves in _PARAMETERS.items()
    for held, half in zip((False, True), halves, strict=True)
    for parameters in half
)


def kind(spec: PeSpec) -> str:
    """What a PE's energy is fitted with: its module in `hw.pe`, and its structure where it has two."""
    family = type(spec).__module__.rpartition(".")[2]
    for name, attribute in (("booth", "booth"), ("floats", "x_exponent")):
        if getattr(spec, attribute, False):
            return f"{family} {name}"
    return f"{family} signs" if getattr(spec, "ternary", True) is False else family
