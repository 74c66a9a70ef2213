"""Survivors that are no faults: mutants proven to keep the contract, whatever they do inside.

The proofs are those of the RTL itself (`hw.formal`): streams by induction, the datapath by rewriting to the
PE's formula. They start from any state, so a register that nothing reads may hold anything. A dropped reset
that both proofs allow is one that the reset of another register makes up for.
"""

from __future__ import annotations

from dataclasses import replace

from hw.formal import datapath, handshake
from hw.mutation import circuit as circuits
from hw.mutation.schemata import SELECTOR_BITS, Schemata
from hw.spec import PeSpec


def in_force(everything: Schemata, number: int) -> circuits.Circuit:
    """The circuit with mutant ``number``, counted from 1, for good; 0: the circuit as it was."""
    code = dict(
        zip(
            everything.circuit.inputs["mutant"],
            ("01"[number >> at & 1] for at in range(SELECTOR_BITS)),
            strict=True,
        )
    )

    def fixed(pins: circuits.Pins) -> dict[str, circuits.Bits]:
        return {name: tuple(code.get(bit, bit) for bit in bits) for name, bits in pins.items()}

    cells = [replace(cell, inputs=fixed(cell.inputs)) for cell in everything.circuit.cells]
    inputs = {name: bits for name, bits in everything.circuit.inputs.items() if name != "mutant"}
    return replace(everything.circuit, inputs=inputs, cells=cells)


def reason(spec: PeSpec, everything: Schemata, number: int) -> str:
    """By what a mutant is proven to keep the contract; empty where it is not."""
    text = circuits.to_rtlil(in_force(everything, number), "pe")
    try:
        handshake.prove_rtl(spec, text)
        datapath.prove_rtl(spec, text)
    except (RuntimeError, ValueError):
        return ""
    return "keeps the contract: streams by induction, datapath by rewriting"
