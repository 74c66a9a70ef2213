"""Register files: arrays of flip-flops with a read multiplexer, for what is too small for an SRAM.

Flip-flops and multiplexers at the technology's own areas; clocks by flip-flop, written bits and read bits by
toggles. No register file was synthesized: the multiplexers' share and toggles are of other datapaths.
"""

from __future__ import annotations

from dataclasses import dataclass

from cost_models import area as areas
from cost_models import tech as techs
from cost_models.tech import Tech
from cost_models.uncertain import Constant, Cost, Term


@dataclass(frozen=True, kw_only=True)
class RegisterFile:
    """``words`` of ``bits``, one written and one read a clock. Raises ValueError unless it has both."""

    words: int
    bits: int

    def __post_init__(self) -> None:
        for name in ("words", "bits"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)!r}")


def area(file: RegisterFile, tech: Tech | str) -> Cost:
    """Cell area, in the technology's unit."""
    tech = techs.resolve(tech)
    flops = file.words * file.bits
    per_ge = tech.constant("area_ge")
    terms = [
        Term(part="flop", quantity=flops, constants=(tech.constant("area_flop"),)),
        Term(part="enable", quantity=flops, constants=(areas.gate_equivalents("flop"), per_ge)),
    ]
    if file.words > 1:
        mux = (areas.gate_equivalents("mux2"), techs.design("register_read_mux"), per_ge)
        terms.append(Term(part="read_mux", quantity=(file.words - 1) * file.bits, constants=mux))
    return Cost(unit=tech.area_unit, terms=tuple(terms), fit=areas.error())


def energy(
    file: RegisterFile, clocks: int, written_toggles: float, read_toggles: float, tech: Tech | str
) -> Cost:
    """Energy of so many clocks [pJ]; toggles are bits that change in what is written and what is read.

    Raises ValueError for negative toggles, or a technology without energies.
    """
    for name, number in (("written_toggles", written_toggles), ("read_toggles", read_toggles)):
        if not number >= 0:
            raise ValueError(f"{name} must be at least 0, not {number!r}")
    tech = techs.resolve(tech)
    scale, toggle = tech.constant("energy_scale"), tech.constant("operand_toggle")
    flops = file.words * file.bits
    levels = (file.words - 1).bit_length()
    terms = (
        _femto("clock", float(clocks) * flops, tech.constant("clock_flop"), scale),
        _femto("write", written_toggles, toggle, scale),
        _femto("read", read_toggles * levels, toggle, techs.design("mux_toggle"), scale),
    )
    return Cost(unit="pJ", terms=tuple(term for term in terms if term.quantity))


def _femto(part: str, count: float, *constants: Constant) -> Term:
    """A term of constants in fJ, booked in pJ."""
    return Term(part=part, quantity=count * 1e-3, constants=constants)
