"""Settings that many methods share, and the checks they are held to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from algo.bitplane.format import Format
from algo.formats import catalog


def check_integer(name: str, value: Any, least: int = 1) -> None:
    """Raises TypeError if ``value`` is no integer, ValueError if it is below ``least``."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, not {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, not {value!r}")


def check_number(name: str, value: Any, *, below: float = math.inf) -> None:
    """Raises ValueError if ``value`` is no number above 0 and below ``below``."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < below:
        wanted = "a finite number above 0" if below == math.inf else f"a number above 0 and below {below:g}"
        raise ValueError(f"{name} must be {wanted}, not {value!r}")


def check_choice(name: str, value: Any, allowed: Sequence[str]) -> None:
    """Raises ValueError that lists the choices if ``value`` is none of them."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, not {value!r}")


def check_switch(name: str, value: Any) -> None:
    """Raises TypeError if ``value`` is not True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be true or false, not {value!r}")


@dataclass(frozen=True, kw_only=True)
class GroupConfig:
    """Of a method that is its own format, with scalars for each row and column group."""

    group: int = 128  #: columns that share their scalars

    def __post_init__(self) -> None:
        check_integer("group", self.group)


@dataclass(frozen=True, kw_only=True)
class FormatConfig:
    """Of a method that takes formats of the catalog."""

    allowed: ClassVar[tuple[str, ...]]  #: names the method takes, its default first
    format: str
    group: int | None = None  #: columns that share a scale; None: the format's own

    def __post_init__(self) -> None:
        catalog.choose(self.format, self.allowed, self.group)

    def chosen(self) -> Format:
        """The format, with this group."""
        return catalog.choose(self.format, self.allowed, self.group)


@dataclass(frozen=True, kw_only=True)
class IntegerConfig(FormatConfig):
    """Of a method that takes integer formats, which ``bits`` names as well as ``format`` does."""

    format: str = ""  #: left out: the format of ``bits``, and without these the method's default
    bits: int | None = None  #: planes of the format

    def __post_init__(self) -> None:
        if self.bits is not None:
            check_integer("bits", self.bits)
        if not self.format:
            object.__setattr__(self, "format", self._of_bits())
        super().__post_init__()
        planes = _planes(self.format)
        if self.bits not in (None, planes):
            raise ValueError(f"bits must be {planes} for format {self.format}, not {self.bits!r}")

    def _of_bits(self) -> str:
        if self.bits is None:
            return self.allowed[0]
        found = [name for name in self.allowed if _planes(name) == self.bits]
        if not found:
            listed = ", ".join(str(width) for width in sorted({_planes(name) for name in self.allowed}))
            raise ValueError(f"bits must be one of {listed}, not {self.bits!r}")
        return found[0]


def _planes(name: str) -> int:
    return len(catalog.ALL[name].coefs)
