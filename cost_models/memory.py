"""On-chip buffers and external memory.

A buffer is made of equal single-port SRAM banks, 64 bits wide; an access wakes one bank, all of them leak.
What connects banks to the array is not modelled. External memory is a plain energy per bit, interface
included: no row misses, no refresh.
"""

from __future__ import annotations

from cost_models import tech as techs
from cost_models.tech import Tech
from cost_models.uncertain import Term


def bank_bits(bits: int) -> int:
    """Bits of the whole banks that hold ``bits``."""
    bank = int(techs.design("sram_bank").value)
    return -(-bits // bank) * bank


def area(part: str, bits: int, tech: Tech) -> Term:
    """Area of a buffer of ``bits`` [um2]."""
    return Term(part=part, quantity=bank_bits(bits), constants=(tech.constant("sram_area"),))


def leakage(part: str, bits: int, seconds: float, tech: Tech) -> Term:
    """Energy a buffer leaks in a time [pJ]."""
    # nW/bit x s = nJ: 1e3 pJ.
    quantity = bank_bits(bits) * seconds * 1e3
    return Term(part=part, quantity=quantity, constants=(tech.constant("sram_leakage"),))


def read(part: str, bits: int, tech: Tech) -> Term:
    """Energy to read ``bits`` in whole words [pJ]."""
    return Term(part=part, quantity=bits, constants=(tech.constant("sram_read"),))


def write(part: str, bits: int, tech: Tech) -> Term:
    """Energy to write ``bits`` in whole words [pJ]."""
    return Term(part=part, quantity=bits, constants=(tech.constant("sram_write"),))


def external(part: str, bits: int, dram: str) -> Term:
    """Energy to move ``bits`` to or from external memory [pJ]."""
    return Term(part=part, quantity=bits, constants=(techs.dram(dram),))
