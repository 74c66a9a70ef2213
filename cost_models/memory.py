"""On-chip buffers and external memory.

A buffer is made of equal single-port SRAM macros; an access wakes one, all of them leak. Unless a macro is
given it is the bank that a technology's figures hold for, 1024 words of 64 bits; `choose` takes one of the
macros that a kit has. What connects macros to the array is not modelled. `external` is a plain energy per
bit, interface included; rows opened and standby are in `dram`.
"""

from __future__ import annotations

from dataclasses import dataclass

from cost_models import sram, tables
from cost_models import tech as techs
from cost_models.sram import BANK, Macro
from cost_models.tech import Tech
from cost_models.uncertain import Constant, Term


@dataclass(frozen=True, kw_only=True)
class Buffer:
    """Macros side by side to make a word, and one above another to make the words."""

    macro: Macro
    across: int
    deep: int

    @property
    def macros(self) -> int:
        return self.across * self.deep

    @property
    def bits(self) -> int:
        return self.macros * self.macro.size

    def __str__(self) -> str:
        return f"{self.macros} of {self.macro}"


def macros(tech: Tech) -> tuple[Macro, ...]:
    """Macros that a technology's kit holds; of one without a kit, the bank that its figures hold for."""
    table = tables.shipped("macros")
    registered = table.get(tech.name, table.get(tech.base, {})).get("macros", [])
    return tuple(Macro(words=words, bits=bits) for words, bits in registered) or (BANK,)


def choose(bits: int, width: int, tech: Tech) -> Buffer:
    """The buffer of ``bits`` in words of ``width`` that takes least area of the technology's macros.

    Raises ValueError unless both are positive.
    """
    for name, number in (("bits", bits), ("width", width)):
        if number < 1:
            raise ValueError(f"{name} must be at least 1, not {number!r}")
    words = -(-bits // width)
    found = [
        Buffer(macro=macro, across=-(-width // macro.bits), deep=-(-words // macro.words))
        for macro in macros(tech)
    ]

    def taken(buffer: Buffer) -> float:
        return area("buffer", buffer.bits, tech, buffer.macro).at(
            {constant.key: constant.value for constant in area("buffer", 1, tech, buffer.macro).constants}
        )

    return min(found, key=lambda buffer: (taken(buffer), buffer.macros))


def bank_bits(bits: int, macro: Macro | None = None) -> int:
    """Bits of the whole macros that hold ``bits``."""
    bank = int(techs.design("sram_bank").value) if macro is None else macro.size
    return -(-bits // bank) * bank


def area(part: str, bits: int, tech: Tech, macro: Macro | None = None) -> Term:
    """Area of a buffer of ``bits`` [um2]."""
    return Term(part=part, quantity=bank_bits(bits, macro), constants=_per_bit("area", tech, macro))


def leakage(part: str, bits: int, seconds: float, tech: Tech, macro: Macro | None = None) -> Term:
    """Energy a buffer leaks in a time [pJ]."""
    # nW/bit x s = nJ: 1e3 pJ.
    quantity = bank_bits(bits, macro) * seconds * 1e3
    return Term(part=part, quantity=quantity, constants=_per_bit("leakage", tech, macro))


def read(part: str, bits: int, tech: Tech, macro: Macro | None = None) -> Term:
    """Energy to read ``bits`` in whole words [pJ]."""
    return Term(part=part, quantity=bits, constants=_per_bit("read", tech, macro))


def write(part: str, bits: int, tech: Tech, macro: Macro | None = None) -> Term:
    """Energy to write ``bits`` in whole words [pJ]."""
    return Term(part=part, quantity=bits, constants=_per_bit("write", tech, macro))


def external(part: str, bits: int, dram: str) -> Term:
    """Energy to move ``bits`` to or from external memory [pJ]."""
    return Term(part=part, quantity=bits, constants=(techs.dram(dram),))


def _per_bit(quantity: str, tech: Tech, macro: Macro | None) -> tuple[Constant, ...]:
    """The technology's figure a bit, and the shape of the macro where it is not the bank."""
    figure = tech.constant(f"sram_{quantity}")
    if macro is None or macro == BANK:
        return (figure,)
    return (figure, sram.shape(quantity, macro, tech.sram))
