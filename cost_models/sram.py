"""SRAM macros: what one of D words of W bits takes to read, write and hold.

Two forms. That of real macros is linear, ``a + b W + c D + d W D``, and that of CACTI 7 a power law,
``(a + b W) (bits / 65536)^g``: `cost` gives either at its own node. For a technology whose own figures are of
one macro, `shape` gives a macro's cost over that one's, by the form that the technology names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from cost_models import tables
from cost_models.uncertain import Constant, Cost, Term

QUANTITIES = ("read", "write", "area", "leakage")
#: bits of the macro that a power law of CACTI is relative to
_REFERENCE_BITS = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Macro:
    """A single-port SRAM. Raises ValueError unless it has words and bits."""

    words: int
    bits: int

    def __post_init__(self) -> None:
        for name in ("words", "bits"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)!r}")

    @property
    def size(self) -> int:
        """Bits in all."""
        return self.words * self.bits

    def __str__(self) -> str:
        return f"{self.words}x{self.bits}"


#: what the figures per bit of a technology hold for
BANK = Macro(words=1 << 10, bits=1 << 6)


def fits() -> tuple[str, ...]:
    """Registered forms: of real macros, and of CACTI by node and cells."""
    return tables.members("sram")


def cost(quantity: str, macro: Macro, fit: str, count: float = 1.0) -> Cost:
    """A quantity of a macro by a form at that form's own node, times ``count`` accesses or macros.

    read, write: energy of an access of a whole word [pJ]; area [um2]; leakage [nW], by CACTI alone.
    Raises ValueError for an unknown form or quantity.
    """
    constants = _constants(fit)
    if f"{quantity}_base" not in constants and not (quantity == "write" and "write_over_read" in constants):
        known = [q for q in QUANTITIES if f"{q}_base" in constants]
        raise ValueError(f"quantity must be one of {', '.join(known)} for {fit}, not {quantity!r}")
    of = "read" if f"{quantity}_base" not in constants else quantity
    more = (constants["write_over_read"],) if of != quantity else ()
    power = constants.get(f"{of}_power")
    scale = count if power is None else count * (macro.size / _REFERENCE_BITS) ** power.value
    counted = {"base": 1, "bit": macro.bits, "word": macro.words, "cell": macro.size}
    terms = tuple(
        Term(part=quantity, quantity=scale * number, constants=(constants[f"{of}_{key}"], *more))
        for key, number in counted.items()
        if f"{of}_{key}" in constants
    )
    unit = {"area": "um2", "leakage": "nW"}.get(quantity, "pJ")
    return Cost(unit=unit, terms=terms, fit=constants[f"{of}_error"].value)


def idle(macros: int, clocks: float) -> Cost:
    """Energy that the clock pins of real macros take while the macros are disabled [pJ]."""
    each = _constants("macro")["idle_clock"]
    return Cost(unit="pJ", terms=(Term(part="idle", quantity=macros * clocks, constants=(each,)),))


def shape(quantity: str, macro: Macro, fit: str) -> Constant:
    """A macro's energy a bit read or written, or area or leakage a bit, over those of `BANK`.

    Its range is the form's error on either, unless it is the bank itself. Leakage goes with bits where the
    form does not know it.
    """
    if quantity == "leakage" and "leakage_base" not in _constants(fit):
        ratio, error = 1.0, 0.0
    else:
        here, there = cost(quantity, macro, fit), cost(quantity, BANK, fit)
        by_word = quantity in ("read", "write")
        own, bank = (m.bits if by_word else m.size for m in (macro, BANK))
        ratio, error = here.total / own / (there.total / bank), here.fit
    if macro == BANK:
        error = 0.0
    return Constant(
        key=f"sram.{fit}.{quantity}.{macro}",
        value=ratio,
        low=ratio * (1 - error),
        high=ratio * (1 + error),
        unit="1",
        node="any",
        vdd="none",
        kind="derived",
        source=f"form {fit} of a macro of {macro} over one of {BANK}: {_constants(fit)['read_base'].source}",
        note="the form's own node is another; only its shape is used",
    )


@cache
def _constants(fit: str) -> Mapping[str, Constant]:
    if fit not in fits():
        raise ValueError(f"fit must be one of {', '.join(fits())}, not {fit!r}")
    return tables.numbers(f"sram.{fit}", tables.shipped(f"sram/{fit}"))
