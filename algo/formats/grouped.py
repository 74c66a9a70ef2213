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
    """Of a method that takes integer formats, which ``bits`` names as well as ``format`` does, and others."""

    format: str = ""  #: left out: the format of ``bits``, and without these the method's default
    bits: int | None = None  #: stored bits of an entry
    allow_wide: bool = False  #: take formats whose digits have more planes than are run by default

    def __post_init__(self) -> None:
        check_switch("allow_wide", self.allow_wide)
        if self.bits is not None:
            check_integer("bits", self.bits)
        if not self.format:
            object.__setattr__(self, "format", self._of_bits())
        stored = self.chosen().code_bits
        if self.bits not in (None, stored):
            raise ValueError(f"bits must be {stored} for format {self.format}, not {self.bits!r}")

    def chosen(self) -> Format:
        """The format, with this group."""
        return catalog.choose(self.format, self.allowed, self.group, self.allow_wide)

    def _of_bits(self) -> str:
        if self.bits is None:
            return self.allowed[0]
        widths = {name: catalog.ALL[name].code_bits for name in self.allowed if name in catalog.ALL}
        found = [name for name, width in widths.items() if width == self.bits]
        if not found:
            listed = ", ".join(str(width) for width in sorted(set(widths.values())))
            raise ValueError(f"bits must be one of {listed}, not {self.bits!r}")
        return found[0]
