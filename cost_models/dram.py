"""External memory in full: bits moved, rows opened, and what it draws whether it moves anything or not.

Energy per bit is of bursts in open rows. Rows opened are at least what streaming needs; a caller that knows
its misses gives them. Every figure but LPDDR4's and HBM2's energy per bit is an estimate, and says so: the
result is to be looked at through its range, and swept.
"""

from __future__ import annotations

from cost_models import memory, tech
from cost_models.uncertain import Cost, Term


def energy(bits: float, seconds: float, dram: str, *, rows: float | None = None, packages: int = 1) -> Cost:
    """Energy of a memory over a time in which it moves so many bits [pJ].

    Parameters: rows, opened, by default those that streaming the bits opens; packages, of devices that each
    draw background power. Raises ValueError for an unknown memory or a negative quantity.
    """
    for name, number in (("bits", bits), ("seconds", seconds), ("rows", rows or 0.0)):
        if not number >= 0:
            raise ValueError(f"{name} must be at least 0, not {number!r}")
    if packages < 1:
        raise ValueError(f"packages must be at least 1, not {packages!r}")
    opened = bits / tech.dram(dram, "row").value if rows is None else rows
    terms = (
        memory.external("transfer", int(bits), dram),
        Term(part="activate", quantity=opened, constants=(tech.dram(dram, "activate"),)),
        # W x s = J: 1e12 pJ.
        Term(
            part="background",
            quantity=packages * seconds * 1e12,
            constants=(tech.dram(dram, "background"),),
        ),
    )
    return Cost(unit="pJ", terms=terms)
