"""What a mutant changes: one cell of a circuit, in one of the ways a slip of the pen would.

Operators after Offutt et al., "An Experimental Determination of Sufficient Mutant Operators", ACM TOSEM
1996 (operators, constants); differs in: the words of hardware, whose registers have enables and resets and
whose operands are slices.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from hw.mutation.circuit import Bit, Bits, Cell, Circuit

#: Operators that take each other's place, with the same pins and parameters.
SWAPS = {
    "$and": ("$or", "$xnor"),
    "$or": ("$and", "$xor"),
    "$xor": ("$or", "$xnor"),
    "$xnor": ("$xor", "$and"),
    "$add": ("$sub",),
    "$sub": ("$add",),
    "$mul": ("$add",),
    "$neg": ("$pos", "$not"),
    "$not": ("$pos",),
    "$eq": ("$ne",),
    "$ne": ("$eq",),
    "$lt": ("$le", "$ge"),
    "$le": ("$lt", "$gt"),
    "$gt": ("$ge", "$le"),
    "$ge": ("$gt", "$lt"),
    "$shl": ("$shr",),
    "$shr": ("$shl",),
    "$sshl": ("$sshr",),
    "$sshr": ("$sshl", "$shr"),
    "$reduce_and": ("$reduce_or", "$reduce_xor"),
    "$reduce_or": ("$reduce_and", "$reduce_xor"),
    "$reduce_bool": ("$reduce_and",),
    "$reduce_xor": ("$reduce_or", "$reduce_xnor"),
    "$logic_not": ("$reduce_bool",),
    "$logic_and": ("$logic_or",),
    "$logic_or": ("$logic_and",),
}
#: Kinds in which every bit of an operand has a place of its own.
POSITIONAL = ("$and", "$or", "$xor", "$xnor", "$not", "$add", "$sub", "$mux", "$mul")
FLOPS = ("$dff", "$dffe", "$sdff", "$sdffe")


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One change to one cell."""

    group: str  #: kind of change, as counted in the table
    what: str
    where: str  #: signal the cell drives


def changes(circuit: Circuit, cell: Cell, read: frozenset[Bit]) -> Iterator[tuple[Mutant, Bits]]:
    """Mutants of a cell without state, and the nets on which each puts its output ``Y``.

    ``circuit`` takes the cells they need; ``read``, nets that anybody reads. The cell itself stays.
    """
    output = cell.outputs.get("Y", ())
    where = circuit.name_of(output)

    def mutant(group: str, what: str) -> Mutant:
        return Mutant(group=group, what=what, where=where)

    def variant(**changed: Bits) -> Bits:
        return _copy(circuit, replace(cell, inputs={**cell.inputs, **changed}))

    for other in SWAPS.get(cell.kind, ()):
        yield mutant("operator", f"{cell.kind} becomes {other}"), _copy(circuit, replace(cell, kind=other))
    if cell.kind == "$mux":
        a, b = cell.inputs["A"], cell.inputs["B"]
        yield mutant("operator", "$mux takes the other side"), variant(A=b, B=a)
        yield mutant("operator", "$mux always takes the side of 0"), variant(B=a)
        yield mutant("operator", "$mux always takes the side of 1"), variant(A=b)
    if cell.kind in ("$add", "$sub"):
        one = circuit.cell("$add", {"A": output, "B": ("1",)}, len(output))
        yield mutant("off by one", f"{cell.kind} is one too many"), one
    for pin in ("A", "B"):
        bits = cell.inputs.get(pin, ())
        for value in constants(bits):
            yield (
                mutant("constant", f"{pin} of {cell.kind} is {text(value)}, not {text(bits)}"),
                variant(**{pin: value}),
            )
        if cell.kind in POSITIONAL and len(set(bits)) > 1:
            turned = (*bits[1:], bits[0])
            yield mutant("slice", f"{pin} of {cell.kind} is one bit off"), variant(**{pin: turned})
    for at in ends(output, read):
        yield mutant("inversion", f"bit {at} of {cell.kind} is inverted"), flipped(circuit, output, at)


def _copy(circuit: Circuit, cell: Cell) -> Bits:
    output = circuit.fresh(len(cell.outputs["Y"]))
    circuit.cells.append(replace(cell, outputs={"Y": output}))
    return output


def constants(bits: Bits) -> list[Bits]:
    """A constant operand one higher and one lower; one with some constant bits, with the lowest flipped."""
    fixed = [at for at, bit in enumerate(bits) if bit in ("0", "1")]
    if not fixed:
        return []
    if len(fixed) < len(bits):
        at = fixed[0]
        return [(*bits[:at], "1" if bits[at] == "0" else "0", *bits[at + 1 :])]
    value, span = sum(1 << at for at, bit in enumerate(bits) if bit == "1"), 1 << len(bits)
    found = {(value + step) % span for step in (1, -1)}
    return [tuple("01"[other >> at & 1] for at in range(len(bits))) for other in sorted(found)]


def text(bits: Bits) -> str:
    """Bits as Verilog writes them, nets as dots."""
    return f"{len(bits)}'b" + "".join(bit if isinstance(bit, str) else "." for bit in reversed(bits))


def ends(bits: Bits, read: frozenset[Bit]) -> list[int]:
    """Places of the lowest and the highest bit that anybody reads."""
    used = [at for at, bit in enumerate(bits) if bit in read]
    return sorted({used[0], used[-1]}) if used else []


def flipped(circuit: Circuit, bits: Bits, at: int) -> Bits:
    """``bits`` with one of them inverted."""
    return (*bits[:at], *circuit.inverted(bits[at : at + 1]), *bits[at + 1 :])
