"""``--set key=value`` against a method's own configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from types import ModuleType
from typing import Any, get_type_hints

from algo.bitplane import family


def method(name: str) -> ModuleType:
    """The quantization method ``name``.

    Raises ValueError that lists the methods for an unknown name.
    """
    return family.load("algo.methods", name)


def pairs(texts: Sequence[str]) -> dict[str, str]:
    """``["a=1"]`` as ``{"a": "1"}``.

    Raises ValueError for a text without ``=`` or a repeated key.
    """
    found: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ValueError(f"set must be key=value, not {text!r}")
        if key in found:
            raise ValueError(f"set must name each key once, not {key!r} twice")
        found[key] = value
    return found


def configure(module: ModuleType, format_name: str | None, given: Mapping[str, Any]) -> Any:
    """The method's Config from text or typed values.

    Raises ValueError for a format the method does not take, an unknown key, or a value of another type.
    """
    kinds = get_type_hints(module.Config)
    known = [f.name for f in fields(module.Config) if f.name != "format"]
    values: dict[str, Any] = {}
    for key, value in given.items():
        if key not in known:
            raise ValueError(f"set must name one of {', '.join(known)}, not {key!r}")
        values[key] = _typed(key, value, kinds[key])
    if format_name is not None:
        if format_name not in module.FORMATS:
            choices = ", ".join(module.FORMATS) or "left out (the method is its own format)"
            raise ValueError(f"format must be one of {choices}, not {format_name!r}")
        if "format" in kinds:
            values["format"] = format_name
    return module.Config(**values)


def _typed(key: str, value: Any, kind: Any) -> Any:
    if not isinstance(value, str):
        return value
    if kind is bool or kind == "bool":
        if value.lower() in ("true", "false"):
            return value.lower() == "true"
        raise ValueError(f"{key} must be true or false, not {value!r}")
    for number in (int, float):
        # An optional number (``int | None``) takes the number's text.
        if kind is number or number in getattr(kind, "__args__", ()):
            try:
                return number(value)
            except ValueError:
                word = "an integer" if number is int else "a number"
                raise ValueError(f"{key} must be {word}, not {value!r}") from None
    return value
