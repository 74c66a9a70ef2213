"""PEs, arrays, accelerators as a user names them: ``bitserial:lanes=128``, ``8x8:network=systolic``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from algo.bitplane import family

if TYPE_CHECKING:
    from hw.accelerator.spec import AcceleratorSpec
    from hw.spec import ArraySpec, PeSpec

DEFAULT_PE = "bitserial"
DEFAULT_ARRAY = "8x8"


def pe(text: str = DEFAULT_PE) -> PeSpec:
    """A PE by name, with parameters: ``NAME`` or ``NAME:key=value,key=value``.

    Raises ValueError for an unknown PE or parameter, or a value the PE refuses.
    """
    name, _, given = text.partition(":")
    spec = family.load("hw.pe", name).SPEC
    made: PeSpec = spec(**_parameters("pe", given, {f.name: type(f.default) for f in fields(spec)}))
    return made


def array(text: str = DEFAULT_ARRAY, pe_text: str = DEFAULT_PE) -> ArraySpec:
    """An array of PEs: ``ROWSxCOLUMNS``, or ``ROWSxCOLUMNS:key=value,...`` with fields of `ArraySpec`.

    Raises ValueError if the text is no such pair, for an unknown field, or a value the array refuses.
    """
    from hw.spec import ArraySpec

    rows, columns, given = _size("array", text)
    parameters = _parameters("array", given, _array_kinds())
    return ArraySpec(pe=pe(pe_text), rows=rows, columns=columns, **parameters)


def accelerator(text: str, pe_text: str = DEFAULT_PE) -> AcceleratorSpec:
    """An accelerator: ``ROWSxCOLUMNS``, or ``ROWSxCOLUMNS:key=value,...`` with its fields and `ArraySpec`'s.

    Raises ValueError if the text is no such pair, for an unknown field, or a value that is refused.
    """
    from hw.accelerator.spec import AcceleratorSpec
    from hw.spec import ArraySpec

    rows, columns, given = _size("accelerator", text)
    of_array = _array_kinds()
    own = {f.name: type(f.default) for f in fields(AcceleratorSpec) if f.name != "array"}
    parameters = _parameters("accelerator", given, of_array | own)
    array_given = {key: value for key, value in parameters.items() if key in of_array}
    return AcceleratorSpec(
        array=ArraySpec(pe=pe(pe_text), rows=rows, columns=columns, **array_given),
        **{key: value for key, value in parameters.items() if key not in of_array},
    )


def _size(what: str, text: str) -> tuple[int, int, str]:
    """Rows, columns, and what stands behind them."""
    size, _, given = text.partition(":")
    rows, _, columns = size.partition("x")
    if not (rows.isdecimal() and columns.isdecimal()):
        raise ValueError(f"{what} must be ROWSxCOLUMNS such as 8x8, not {size!r}")
    return int(rows), int(columns), given


def _array_kinds() -> dict[str, type]:
    """Types of `ArraySpec`'s fields that may be given by name."""
    from hw.spec import ArraySpec

    return {f.name: type(f.default) for f in fields(ArraySpec) if f.name not in ("pe", "rows", "columns")}


def block(pe_text: str = DEFAULT_PE, array_text: str = "") -> PeSpec:
    """What an engine executes: a PE, or a whole array of them as one; errors as `pe` and `array`."""
    from hw.grid import Grid

    return Grid(array=array(array_text, pe_text)) if array_text else pe(pe_text)


def _parameters(what: str, text: str, kinds: Mapping[str, type]) -> dict[str, Any]:
    """Values of ``key=value,...`` by key, each as its field takes it."""
    parameters: dict[str, Any] = {}
    for pair in filter(None, text.split(",")):
        key, _, value = pair.partition("=")
        if key not in kinds:
            raise ValueError(f"{what} parameter must be one of {', '.join(kinds)}, not {key!r}")
        if key in parameters:
            raise ValueError(f"{what} parameter must be given once, not {key!r} twice")
        parameters[key] = _value(key, value, kinds[key])
    return parameters


def _value(key: str, text: str, kind: type) -> int | float | bool | str:
    """``text`` as a field ``key`` of that kind takes it."""
    if kind is str:
        return text
    if kind is bool:
        if text.lower() not in ("true", "false"):  # specs print themselves with capitals
            raise ValueError(f"{key} must be true or false, not {text!r}")
        return text.lower() == "true"
    try:
        return float(text) if kind is float else int(text)
    except ValueError:
        wanted = "a number" if kind is float else "an integer"
        raise ValueError(f"{key} must be {wanted}, not {text!r}") from None
