"""All mutants of a circuit in one circuit: a further input, ``mutant``, names the one that is in force.

One build then serves them all: the compiler's time, not the clocks run, is what mutation testing costs.

Source: Untch, Offutt, Harrold, "Mutation Analysis Using Mutant Schemata", ISSTA 1993.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from hw.mutation.circuit import Bit, Bits, Cell, Circuit
from hw.mutation.operators import FLOPS, Mutant, changes, ends, flipped

#: Bits of the input that chooses; 0 chooses none.
SELECTOR_BITS = 16


@dataclass(frozen=True)
class Schemata:
    """``mutants[k]`` is in force where the input ``mutant`` is k + 1."""

    circuit: Circuit
    mutants: tuple[Mutant, ...]


def all_mutants(original: Circuit) -> Schemata:
    """Every mutant of every cell, in the order of the cells."""
    circuit = replace(original, inputs=dict(original.inputs), cells=[])
    circuit.inputs["mutant"] = circuit.fresh(SELECTOR_BITS)
    pins = [bit for cell in original.cells for bits in cell.inputs.values() for bit in bits]
    read = frozenset([*pins, *(bit for bits in original.outputs.values() for bit in bits)])
    mutants: list[Mutant] = []
    for cell in original.cells:
        if cell.kind in FLOPS:
            mutants += _register(circuit, cell, read, len(mutants))
        elif "Y" in cell.outputs:
            mutants += _logic(circuit, cell, read, len(mutants))
        else:
            circuit.cells.append(cell)
    return Schemata(circuit, tuple(mutants))


def chosen(circuit: Circuit, number: int) -> Bits:
    """One bit: mutant ``number``, counted from 0, is in force."""
    code: Bits = tuple("01"[number + 1 >> at & 1] for at in range(SELECTOR_BITS))
    return circuit.cell("$eq", {"A": circuit.inputs["mutant"], "B": code}, 1)


def _logic(circuit: Circuit, cell: Cell, read: frozenset[Bit], count: int) -> list[Mutant]:
    """The cell, its mutants beside it, and a select that drives what the cell drove."""
    nets = cell.outputs["Y"]
    own = circuit.fresh(len(nets))
    moved = replace(cell, outputs={"Y": own})
    circuit.cells.append(moved)
    names = dict(circuit.names) | {
        new: circuit.names[old] for new, old in zip(own, nets, strict=True) if old in circuit.names
    }
    circuit.names = names
    seen = frozenset(new for new, old in zip(own, nets, strict=True) if old in read)
    found = list(changes(circuit, moved, seen))
    _select(circuit, own, found_bits(found), count, nets)
    return [mutant for mutant, _ in found]


def found_bits(found: list[tuple[Mutant, Bits]]) -> list[Bits]:
    """What each mutant puts in the place of the cell's output."""
    return [bits for _, bits in found]


def _select(circuit: Circuit, own: Bits, others: list[Bits], count: int, nets: Bits) -> None:
    selects = tuple(bit for at in range(len(others)) for bit in chosen(circuit, count + at))
    words = tuple(bit for other in others for bit in other)
    sizes = {"WIDTH": str(len(own)), "S_WIDTH": str(len(selects))}
    circuit.cells.append(
        Cell(kind="$pmux", parameters=sizes, inputs={"A": own, "B": words, "S": selects}, outputs={"Y": nets})
    )


def _register(circuit: Circuit, cell: Cell, read: frozenset[Bit], count: int) -> list[Mutant]:
    """The register with its pins changed where a mutant says so."""
    where = circuit.name_of(cell.outputs["Q"])
    pins = dict(cell.inputs)
    mutants: list[Mutant] = []

    def alternative(group: str, what: str, pin: str, bits: Bits) -> None:
        select = chosen(circuit, count + len(mutants))
        pins[pin] = circuit.mux(pins[pin], bits, select)
        mutants.append(Mutant(group=group, what=what, where=where))

    data = cell.inputs["D"]
    for at in ends(cell.outputs["Q"], read):
        alternative("inversion", f"bit {at} of the register is inverted", "D", flipped(circuit, data, at))
    if len(set(data)) > 1:
        alternative("slice", "the register takes its word one bit off", "D", (*data[1:], data[0]))
    if "EN" in pins:
        alternative("enable", "the register is always enabled", "EN", ("1",))
        alternative("enable", "the register is never enabled", "EN", ("0",))
        alternative("enable", "the enable is inverted", "EN", circuit.inverted(cell.inputs["EN"]))
    if "SRST" in pins:
        reset, value = cell.inputs["SRST"], cell.parameters["SRST_VALUE"]
        alternative("reset", "the reset is dropped", "SRST", ("0",))
        wrong: Bits = tuple(reversed(value.split("'")[1]))
        wrong = ("1" if wrong[0] == "0" else "0", *wrong[1:])
        # While this one is in force, the reset's work is done by data and enable.
        resets = circuit.both(reset, chosen(circuit, count + len(mutants)))
        pins["D"] = circuit.mux(pins["D"], wrong, resets)
        if "EN" in pins:
            pins["EN"] = circuit.cell("$or", {"A": pins["EN"], "B": resets}, 1)
        alternative("reset", "bit 0 of the reset value is inverted", "SRST", ("0",))
    circuit.cells.append(replace(cell, inputs=pins))
    return mutants
