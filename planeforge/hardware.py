"""PEs and arrays as a user names them: ``bitserial``, ``bitserial:lanes=128,levels=0``, ``8x8``."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

from algo.bitplane import family

if TYPE_CHECKING:
    from hw.spec import ArraySpec, PeSpec

DEFAULT_PE = "bitserial"
DEFAULT_ARRAY = "8x8"


def pe(text: str = DEFAULT_PE) -> PeSpec:
    """A PE by name, with parameters: ``NAME`` or ``NAME:key=value,key=value``.

    Raises ValueError for an unknown PE or parameter, or a value the PE refuses.
    """
    name, _, given = text.partition(":")
    spec = family.load("hw.pe", name).SPEC
    known = [f.name for f in fields(spec)]
    parameters: dict[str, int] = {}
    for pair in filter(None, given.split(",")):
        key, _, value = pair.partition("=")
        if key not in known:
            raise ValueError(f"pe parameter must be one of {', '.join(known)}, not {key!r}")
        try:
            parameters[key] = int(value)
        except ValueError:
            raise ValueError(f"{key} must be an integer, not {value!r}") from None
    made: PeSpec = spec(**parameters)
    return made


def array(text: str = DEFAULT_ARRAY, pe_text: str = DEFAULT_PE) -> ArraySpec:
    """An array of PEs: ``ROWSxCOLUMNS``.

    Raises ValueError if the text is no such pair.
    """
    from hw.spec import ArraySpec

    rows, _, columns = text.partition("x")
    if not (rows.isdecimal() and columns.isdecimal()):
        raise ValueError(f"array must be ROWSxCOLUMNS such as 8x8, not {text!r}")
    return ArraySpec(pe=pe(pe_text), rows=int(rows), columns=int(columns))
