"""Technologies: what gates, flip-flops, toggles and stored bits cost in a process, or tables on an FPGA.

One file of `constants/tech` each, one of `constants/fabric` for an FPGA's, or a file of the user's in the
same form. A file may be based on another technology: it then states what differs, and the common factors
by which the rest is scaled. ``NAME@NODE`` or ``NAME@NODE:VDD`` is a technology scaled to another node.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from cost_models import tables
from cost_models.uncertain import Constant

AREA_UNITS = ("um2", "GE", "LUT")
#: kinds of common factor, and how the units begin that each multiplies
FACTORS = {"area": ("um2/",), "energy": ("fJ/", "pJ/"), "leakage": ("nW/",)}
_HEAD = ("title", "area_unit", "node", "vdd", "temp")
_KEYS = (*_HEAD, "dont_use", "base", "factors", "sram")


@dataclass(frozen=True, kw_only=True)
class Tech:
    """A process and cell library: what a gate, a flip-flop, a toggle and a stored bit cost."""

    name: str
    title: str
    node: str
    vdd: str
    area_unit: str  #: "um2", "GE" (two-input NANDs) or "LUT" (tables of an FPGA)
    constants: Mapping[str, Constant]
    temp: str = "25 C"
    dont_use: tuple[str, ...] = ()  #: liberty cells the mapping must avoid
    base: str = ""  #: the technology that it is scaled from
    sram: str = "macro"  #: the fit that says how SRAM energy and area go with a macro's words and bits
    warnings: tuple[str, ...] = ()  #: what a reader of its figures must know

    def constant(self, key: str) -> Constant:
        """The number, or ValueError naming the technology: a missing number is no zero."""
        try:
            return self.constants[key]
        except KeyError:
            raise ValueError(f"tech must be one with a constant {key!r}, not {self.name!r}") from None

    @property
    def nanometres(self) -> float:
        """The node as a number [nm]. Raises ValueError for a technology without one."""
        found = re.fullmatch(r"(\d+(?:\.\d+)?) nm", self.node)
        if found is None:
            raise ValueError(f"node must be a number of nm, not {self.node!r}")
        return float(found[1])

    @property
    def volts(self) -> float:
        """The supply as a number [V]. Raises ValueError for a technology without one."""
        found = re.fullmatch(r"(\d+(?:\.\d+)?) V", self.vdd)
        if found is None:
            raise ValueError(f"vdd must be a number of V, not {self.vdd!r}")
        return float(found[1])


def names() -> tuple[str, ...]:
    """Registered technologies of cells."""
    return tables.members("tech")


def fabrics() -> tuple[str, ...]:
    """Registered FPGA fabrics: technologies whose area is counted in look-up tables."""
    return tables.members("fabric")


def load(name: str) -> Tech:
    """The technology ``name``: a registered one, a ``.toml`` file, or either scaled to a node, ``NAME@NODE``.

    Raises ValueError naming the choices, or the number of a file that is not whole.
    """
    whole, at, target = name.rpartition("@")
    if at:
        from cost_models import scaling

        return scaling.scaled(load(whole), target)
    if name.endswith(".toml"):
        return _own(Path(name))
    if name not in (*names(), *fabrics()):
        raise ValueError(f"tech must be one of {', '.join(names())}, not {name!r}")
    return _registered(name)


def resolve(tech: Tech | str) -> Tech:
    """A technology itself, or by name."""
    return load(tech) if isinstance(tech, str) else tech


def drams() -> tuple[str, ...]:
    """Registered external memories."""
    return tuple(key for key, entry in tables.shipped("dram")["transfer"].items() if isinstance(entry, dict))


def dram(name: str, figure: str = "transfer") -> Constant:
    """A figure of an external memory: energy per bit, or ``activate``, ``row``, ``background``.

    Raises ValueError naming the choices.
    """
    if name not in drams():
        raise ValueError(f"dram must be one of {', '.join(drams())}, not {name!r}")
    group = "dram" if figure == "transfer" else f"dram_{figure}"
    return _group("dram", figure, group)[name]


def design(name: str) -> Constant:
    """A number that belongs to no process: an overhead or an assumed width."""
    return _group("design", "", "design")[name]


def primitives() -> tuple[str, ...]:
    """Tables of published energies and areas of single operations."""
    return tables.members("primitives")


def primitive(table: str, key: str) -> Constant:
    """A published figure of one operation. Raises ValueError naming the tables or their figures."""
    if table not in primitives():
        raise ValueError(f"primitives must be one of {', '.join(primitives())}, not {table!r}")
    found = _group(f"primitives/{table}", "", table)
    if key not in found:
        raise ValueError(f"{table} must be one of {', '.join(found)}, not {key!r}")
    return found[key]


def template() -> str:
    """A technology file to fill in: it loads as it is, with another library's numbers and says so."""
    example = load("asap7")
    lines = [
        "# A technology of your own: planeforge cost --tech THIS.toml. Every number states its range, unit,",
        "# kind (measured, published, derived, assumed) and source; a missing one is an error, never 0.",
        "# Two numbers suffice for areas: area_ge and area_flop, fitted to your liberty file by",
        "# `planeforge calibrate`. With a line `base = NAME` numbers not stated here are that technology's,",
        "# times [factors.area], [factors.energy] or [factors.leakage]; what a new node lacks must be given.",
        'title = "a library of your own"',
        f'area_unit = "{example.area_unit}"',
        f'node = "{example.node}"',
        f'vdd = "{example.vdd}"',
        f'temp = "{example.temp}"',
        f'sram = "{example.sram}"  # shape of SRAM costs: {", ".join(tables.members("sram"))}',
    ]
    for key, constant in example.constants.items():
        lines += [
            f"\n[{key}]",
            *(f"{field} = {getattr(constant, field)!r}" for field in ("value", "low", "high")),
            f'unit = "{constant.unit}"',
            'kind = "assumed"',
            f'source = "copied from {example.name}: replace it by your own"',
            'note = ""',
        ]
    return "\n".join(lines) + "\n"


@cache
def _group(file: str, table: str, group: str) -> Mapping[str, Constant]:
    content = tables.shipped(file)
    return tables.numbers(group, content[table] if table else content)


@cache
def _registered(name: str) -> Tech:
    return _made(name, tables.shipped(f"{'tech' if name in names() else 'fabric'}/{name}"))


def _own(path: Path) -> Tech:
    """A technology of the user's. Its name must not be taken: calibrations go by name."""
    name = path.stem
    if name in (*names(), *fabrics()):
        raise ValueError(f"tech must have a file name that no registered technology has, not {path.name!r}")
    try:
        return _made(name, tables.read(path))
    except ValueError as error:
        text = str(error)
        raise ValueError(text if str(path) in text else f"{path}: {text}") from None


def _made(name: str, table: Mapping[str, Any]) -> Tech:
    """The technology that a table describes."""
    for key, entry in table.items():
        if key not in _KEYS and not isinstance(entry, dict):
            raise ValueError(f"{name} must state only {', '.join(_KEYS)} and numbers, not {key!r}")
    base = load(str(table["base"])) if "base" in table else None
    stated = {key: getattr(base, key) for key in _HEAD} if base is not None else {}
    stated |= {key: table[key] for key in _HEAD if key in table}
    for key in _HEAD:
        if key not in stated:
            raise ValueError(f"{name} must state {key}; it does not")
    if stated["area_unit"] not in AREA_UNITS:
        raise ValueError(f"{name}.area_unit must be um2, GE or LUT, not {stated['area_unit']!r}")
    sram = str(table.get("sram", base.sram if base is not None else "macro"))
    if sram not in tables.members("sram"):
        raise ValueError(f"{name}.sram must be one of {', '.join(tables.members('sram'))}, not {sram!r}")
    head = {key: stated[key] for key in tables.HEAD}
    own = tables.numbers(name, head | {k: v for k, v in table.items() if k not in _KEYS})
    rest = _inherited(name, base, head, table.get("factors", {}), own) if base is not None else {}
    return Tech(
        name=name,
        **stated,
        dont_use=tuple(table.get("dont_use", base.dont_use if base is not None else ())),
        constants=rest | own,
        base=base.name if base is not None else "",
        sram=sram,
        warnings=base.warnings if base is not None else (),
    )


def _inherited(
    name: str,
    base: Tech,
    head: Mapping[str, str],
    factors: Mapping[str, Any],
    own: Mapping[str, Constant],
) -> dict[str, Constant]:
    """The base's numbers that a technology does not state itself, times its common factors."""
    unknown = [key for key in factors if key not in FACTORS]
    if unknown:
        raise ValueError(f"{name}.factors must be of {', '.join(FACTORS)}, not {unknown[0]!r}")
    by_kind = tables.numbers(f"{name}.factors", dict(head) | dict(factors))
    moved = (head["node"], head["vdd"]) != (base.node, base.vdd)
    found = {}
    for key, constant in base.constants.items():
        if key in own:
            continue
        kind = next((k for k, starts in FACTORS.items() if constant.unit.startswith(starts)), "")
        if kind in by_kind:
            found[key] = times(constant, by_kind[kind], name, head)
        elif kind and moved and not (kind == "area" and head["node"] == base.node):
            raise ValueError(
                f"{name} must state {key} or factors.{kind}, since it is not at {base.node}, {base.vdd}"
            )
        else:
            found[key] = replace(constant, key=f"{name}.{key}")
    return found


def times(constant: Constant, factor: Constant, name: str, head: Mapping[str, str]) -> Constant:
    """A number that is another technology's times a factor, whose range is common to all of them."""
    common = replace(
        factor, value=1.0, low=factor.low / factor.value, high=factor.high / factor.value, unit="1"
    )
    key = constant.key.rpartition(".")[2]
    return replace(
        constant,
        key=f"{name}.{key}",
        value=constant.value * factor.value,
        low=constant.low * factor.value,
        high=constant.high * factor.value,
        node=head["node"],
        vdd=head["vdd"],
        kind="derived",
        source=f"{constant.key} times {factor.value:.4g} ({factor.source}); {constant.source}",
        factors=(*constant.factors, common),
    )
