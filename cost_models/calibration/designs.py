"""The designs that the cost models are calibrated on: a sweep of every PE, and of arrays of them.

A sweep draws its parameters from a seeded generator, so that no two of them walk together; its widest designs
are a block of their own, which no fit that is judged on it has seen.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from importlib import import_module
from typing import Any

from hw.grid import Grid
from hw.spec import ArraySpec, PeSpec, signed_bits


@dataclass(frozen=True)
class Design:
    """A PE (or array) of a sweep."""

    name: str  #: such as ``mac:lanes=4,acc_width=24,..``
    family: str  #: file name of the PE in `hw.pe`, or ``array``
    spec: PeSpec
    large: bool = False  #: of the block of the largest sizes


@dataclass(frozen=True)
class Sweep:
    """Ranges of one PE's parameters."""

    lanes: tuple[int, ...]
    large: tuple[int, ...]  #: lanes of the block
    count: int = 28  #: designs beside the block
    choices: tuple[Mapping[str, tuple[Any, ...]], ...] = ({},)  #: taken in turn
    multiple: str = ""  #: a parameter that lanes are a multiple of
    extra: tuple[int, ...] = (0, 3, 8, 14, 22)  #: accumulator bits beyond those that a beat needs
    every: bool = False  #: whether each next design has the next width, not each next round of choices


_LEVELS = (0, 1, 2, 3)
_WIDE = (6, 8, 10, 13, 16, 20, 24, 28, 33, 40, 48, 56, 64, 72, 80, 96)
_MIDDLE = (4, 5, 6, 8, 10, 12, 15, 17, 20, 24, 28, 32, 36, 40)
_FEW = (2, 3, 4, 5, 6, 7, 8, 9, 10)

#: by PE; arrays are drawn by `arrays`
SWEEPS: Mapping[str, Sweep] = {
    "bitserial": Sweep(
        _WIDE, (112, 128, 160), choices=({"levels": (0, 1, 2, 3, 4)},), extra=(3, 8, 14, 22, 32)
    ),
    "complex": Sweep(_MIDDLE, (48, 56, 64), choices=({"levels": _LEVELS, "conjugate": (False, True)},)),
    "fpmac": Sweep((1, 2, 3, 4, 5), (6, 7), count=5),
    "gather": Sweep(
        _MIDDLE,
        (48, 56, 64),
        multiple="keep",
        choices=tuple(
            {"keep": (keep,), "of": (of,), "levels": _LEVELS}
            for keep, of in ((2, 4), (1, 4), (4, 8), (1, 2), (2, 8), (6, 8), (1, 8), (3, 4), (5, 8))
        ),
        every=True,
    ),
    "mac": Sweep(
        (2, 3, 4, 5, 6, 7, 8),
        (10, 12, 16),
        count=56,
        choices=tuple(
            {"w_bits": w, "act_bits": x, "levels": _LEVELS, "booth": (booth,)}
            for w, x in (((2, 3, 4), (2, 3, 4, 5, 8)), ((4, 5, 6, 8), (4, 5, 6, 8)))
            for booth in (False, True)
        ),
    ),
    "minifloat": Sweep(
        (2, 3, 4, 5, 6, 8),
        (10, 12, 16),
        count=40,
        choices=(
            *(
                {"exponent": (e,), "mantissa": (f,), "act_bits": (4, 5, 6, 8), "levels": (0, 1, 2)}
                for e, f in ((2, 1), (3, 0), (1, 2), (3, 2), (2, 3), (4, 3))
            ),
            *(
                {
                    "exponent": (e,),
                    "mantissa": (f,),
                    "x_exponent": (e,),
                    "x_mantissa": (f,),
                    "levels": (0, 1, 2),
                }
                for e, f in ((2, 1), (2, 3), (3, 2), (4, 3))
            ),
        ),
    ),
    "planes": Sweep(
        (3, 4, 5, 6, 8, 10, 12, 15, 18, 21, 24),
        (28, 32),
        choices=({"w_planes": (1, 2, 3, 4), "x_planes": (1, 2, 3, 4), "levels": _LEVELS},),
    ),
    "popcount": Sweep(
        _WIDE,
        (112, 128, 160),
        count=36,
        choices=tuple(
            {"op": ("and", "xor"), "form": (form,), "levels": _LEVELS} for form in ("portable", "lut6")
        ),
        extra=(3, 8, 14, 22, 32),
    ),
    "selectadd": Sweep(
        (3, 4, 5, 6, 8, 10, 12, 15, 18, 21, 24),
        (28, 32, 40),
        count=32,
        choices=({"act_bits": (2, 3, 4, 5, 6, 8), "ternary": (False, True), "levels": _LEVELS},),
    ),
    "table": Sweep(
        (4, 6, 8, 9, 10, 12),
        (16, 20),
        multiple="group",
        choices=(
            {"act_bits": (3, 4, 5, 6, 8), "group": (2, 3, 4), "row_count": (1, 2, 3, 4), "levels": (0, 1, 2)},
        ),
    ),
    "term": Sweep(
        _FEW,
        (12, 16),
        choices=(
            {"act_bits": (3, 4, 5, 6, 8), "exponent_bits": (1, 2, 3), "slots": (4,), "levels": _LEVELS},
        ),
    ),
    "ternary": Sweep(
        _WIDE, (112, 128, 160), choices=({"levels": (0, 1, 2, 3, 4)},), extra=(3, 8, 14, 22, 32)
    ),
    "twoplane": Sweep(_MIDDLE, (48, 56, 64), choices=({"levels": _LEVELS},)),
}


def families() -> tuple[str, ...]:
    """PEs with a sweep."""
    return tuple(SWEEPS)


def designs(family: str) -> tuple[Design, ...]:
    """The sweep of one PE, or of arrays. Raises ValueError naming the choices."""
    if family == "array":
        return tuple(arrays())
    if family not in SWEEPS:
        raise ValueError(f"family must be one of {', '.join((*SWEEPS, 'array'))}, not {family!r}")
    return tuple(_drawn(family, SWEEPS[family]))


def _drawn(family: str, sweep: Sweep) -> Iterable[Design]:
    make = import_module(f"hw.pe.{family}").SPEC
    rng = random.Random(family)
    blocks = ((sweep.lanes, sweep.count, False), (sweep.large, max(4, len(sweep.large)), True))
    seen = set()
    for widths, count, large in blocks:
        for number in range(count):
            # A wide range of lanes evenly, the other parameters at random: draws that repeat are drawn again.
            while True:
                choice = sweep.choices[number % len(sweep.choices)]
                drawn = {name: rng.choice(values) for name, values in choice.items()}
                unit = drawn.get(sweep.multiple, 1)
                turn = number if sweep.every else number // len(sweep.choices)
                lanes = max(unit, widths[turn % len(widths)] // unit * unit)
                if family == "fpmac":
                    spec = make(lanes=lanes)
                else:
                    spec = _sized(make, rng.choice(sweep.extra), lanes=lanes, **drawn)
                name = name_of(spec)
                if name not in seen or family == "fpmac":
                    break
            if name in seen:
                continue
            seen.add(name)
            yield Design(name, family, spec, large)


def _sized(make: Any, extra: int, **drawn: Any) -> PeSpec:
    """The PE whose accumulator has so many bits more than a beat needs."""
    wide = make(acc_width=64, **drawn)
    return make(acc_width=signed_bits(*wide.beat_range()) + extra, **drawn)


def name_of(spec: PeSpec) -> str:
    """A PE's file and its parameters; an array is said as rows x columns of one."""
    if isinstance(spec, Grid):
        array = spec.array
        wires = f"{array.network}{array.operand_registers or ''}"
        return f"{array.rows}x{array.columns} {wires} {name_of(array.pe)}"
    parameters = ",".join(f"{f.name}={getattr(spec, f.name)}" for f in fields(spec) if f.init)
    return f"{family_of(spec)}:{parameters}"


def family_of(spec: PeSpec) -> str:
    """File of `hw.pe` that a PE is of, or ``array``."""
    return "array" if isinstance(spec, Grid) else type(spec).__module__.rpartition(".")[2]


#: rows, columns, network, registers of a broadcast
_GRIDS = (
    (2, 2, "broadcast", 0),
    (2, 3, "systolic", 0),
    (4, 4, "broadcast", 1),
    (3, 5, "broadcast", 0),
    (4, 4, "systolic", 0),
    (8, 8, "broadcast", 0),
)
_CORES: Mapping[str, Mapping[str, Any]] = {
    "bitserial": {"lanes": 8, "acc_width": 16, "levels": 2},
    "ternary": {"lanes": 10, "acc_width": 18, "levels": 0},
    "popcount": {"lanes": 16, "acc_width": 16},
    "mac": {"lanes": 2, "acc_width": 20, "w_bits": 4, "act_bits": 4, "booth": True},
    "selectadd": {"lanes": 4, "acc_width": 16, "act_bits": 4},
    "gather": {"lanes": 8, "acc_width": 14},
    "planes": {"lanes": 4, "acc_width": 16, "w_planes": 2, "x_planes": 2},
    "twoplane": {"lanes": 6, "acc_width": 12, "levels": 0},
    "term": {"lanes": 3, "acc_width": 20, "act_bits": 4},
    "minifloat": {"lanes": 2, "acc_width": 20, "act_bits": 4},
    "table": {"lanes": 4, "acc_width": 14, "act_bits": 4, "group": 2, "row_count": 2},
    "complex": {"lanes": 5, "acc_width": 12},
}


def arrays() -> Iterable[Design]:
    """Small arrays of every PE but the floating-point one, each PE with other grids, and two large ones."""
    pairs = [(family, _GRIDS[(k + j) % len(_GRIDS)]) for j in (0, 3) for k, family in enumerate(_CORES)]
    pairs += [("bitserial", (16, 16, "broadcast", 1)), ("popcount", (12, 16, "broadcast", 0))]
    for family, (rows, columns, network, registers) in pairs:
        pe = import_module(f"hw.pe.{family}").SPEC(**_CORES[family])
        array = ArraySpec(pe=pe, rows=rows, columns=columns, network=network, operand_registers=registers)
        spec = Grid(array=array)
        yield Design(name_of(spec), "array", spec, rows * columns > 64)
