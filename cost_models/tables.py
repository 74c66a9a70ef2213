"""Files of numbers: read, checked to be whole, and refused where they are not."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from cost_models.uncertain import Constant

#: all numbers that come with the package
FOLDER = Path(__file__).parent / "constants"
#: fields of one number; those that a table states once at its head hold for all of its numbers
FIELDS = ("value", "low", "high", "unit", "node", "vdd", "temp", "kind", "source", "note")
HEAD = ("node", "vdd", "temp")


@cache
def shipped(name: str) -> Mapping[str, Any]:
    """A file of `FOLDER`, such as ``dram`` or ``tech/asap7``."""
    return read(FOLDER / f"{name}.toml")


def members(folder: str) -> tuple[str, ...]:
    """Names of the files in a folder of `FOLDER`."""
    return tuple(sorted(path.stem for path in (FOLDER / folder).glob("*.toml")))


def read(path: Path) -> Mapping[str, Any]:
    """A TOML file. Raises ValueError for none, or for one that is no TOML."""
    if not path.is_file():
        raise ValueError(f"tech must be an existing TOML file, not {str(path)!r}")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} must be TOML: {error}") from None


def numbers(group: str, table: Mapping[str, Any], skip: Collection[str] = ()) -> dict[str, Constant]:
    """The entries of a table that are numbers, by key; what they do not state they have from its head.

    Raises ValueError naming the number for a field that is missing or unknown, a value that is no number,
    and what `Constant` refuses.
    """
    common = {key: table[key] for key in HEAD if key in table}
    return {
        key: _number(f"{group}.{key}", common | entry)
        for key, entry in table.items()
        if isinstance(entry, dict) and key not in skip
    }


def _number(key: str, stated: Mapping[str, Any]) -> Constant:
    for field in FIELDS:
        if field not in stated:
            raise ValueError(f"{key} must state {field}; it does not")
    for field, given in stated.items():
        if field not in FIELDS:
            raise ValueError(f"{key} must state only {', '.join(FIELDS)}, not {field!r}")
        if field in FIELDS[:3] and (isinstance(given, bool) or not isinstance(given, int | float)):
            raise ValueError(f"{key}.{field} must be a number, not {given!r}")
        if field not in FIELDS[:3] and not isinstance(given, str):
            raise ValueError(f"{key}.{field} must be text, not {given!r}")
    return Constant(key=key, **stated)
