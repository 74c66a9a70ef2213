"""Technologies: named tables of `constants.toml`, the only place where numbers of the models stand."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from cost_models.uncertain import Constant

PATH = Path(__file__).parent / "constants.toml"

#: fields of one number in the file; node and vdd may stand once, at its table
_FIELDS = ("value", "low", "high", "unit", "node", "vdd", "kind", "source", "note")


@dataclass(frozen=True, kw_only=True)
class Tech:
    """A process and cell library: what a gate, a flip-flop, a toggle and a stored bit cost."""

    name: str
    title: str
    node: str
    vdd: str
    area_unit: str  #: "um2", or "GE" (two-input NANDs)
    constants: Mapping[str, Constant]
    dont_use: tuple[str, ...] = ()  #: liberty cells the mapping must avoid

    def constant(self, key: str) -> Constant:
        """The number, or ValueError naming the technology: a missing number is no zero."""
        try:
            return self.constants[key]
        except KeyError:
            raise ValueError(f"tech must be one with a constant {key!r}, not {self.name!r}") from None


def names() -> tuple[str, ...]:
    """Registered technologies."""
    return tuple(_tables()["tech"])


def load(name: str) -> Tech:
    """The technology ``name``. Raises ValueError naming the choices."""
    tables = _tables()["tech"]
    if name not in tables:
        raise ValueError(f"tech must be one of {', '.join(tables)}, not {name!r}")
    table = dict(tables[name])
    title, area_unit, avoid = (table.pop(key, ()) for key in ("title", "area_unit", "dont_use"))
    if area_unit not in ("um2", "GE"):
        raise ValueError(f"{name}.area_unit must be um2 or GE, not {area_unit!r}")
    return Tech(
        name=name,
        title=title,
        node=table["node"],
        vdd=table["vdd"],
        area_unit=area_unit,
        dont_use=tuple(avoid),
        constants=_constants(name, table),
    )


def resolve(tech: Tech | str) -> Tech:
    """A technology itself, or by name."""
    return load(tech) if isinstance(tech, str) else tech


def drams() -> tuple[str, ...]:
    """Registered external memories."""
    return tuple(key for key, entry in _tables()["dram"].items() if isinstance(entry, dict))


def dram(name: str) -> Constant:
    """Energy per bit of an external memory. Raises ValueError naming the choices."""
    if name not in drams():
        raise ValueError(f"dram must be one of {', '.join(drams())}, not {name!r}")
    return _constants("dram", _tables()["dram"])[name]


def design(name: str) -> Constant:
    """A number that belongs to no process: an overhead or an assumed width."""
    return _constants("design", _tables()["design"])[name]


@cache
def _tables() -> dict[str, Any]:
    return tomllib.loads(PATH.read_text(encoding="utf-8"))


def _constants(group: str, table: Mapping[str, Any]) -> dict[str, Constant]:
    """The entries of a table that are numbers, with the table's own node and supply where they state none."""
    common = {key: table[key] for key in ("node", "vdd") if key in table}
    constants = {}
    for key, entry in table.items():
        if not isinstance(entry, dict):
            continue
        stated = common | entry
        for field in _FIELDS:
            if field not in stated:
                raise ValueError(f"{group}.{key} must state {field}; it does not")
        for field in stated:
            if field not in _FIELDS:
                raise ValueError(f"{group}.{key} must state only {', '.join(_FIELDS)}, not {field!r}")
        constants[key] = Constant(key=f"{group}.{key}", **stated)
    return constants
