"""Survivors that are no faults: mutants proven to keep the contract, whatever they do inside.

The proofs are those of the RTL itself (`hw.formal`): streams by induction, the datapath by rewriting to the
PE's formula. They start from any state, so a register that nothing reads may hold anything. A dropped reset
that both proofs allow is one that the reset of another register makes up for.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache

from hw import toolchain
from hw.formal import datapath, handshake
from hw.grid import Grid
from hw.mutation import circuit as circuits
from hw.mutation.operators import Mutant
from hw.mutation.schemata import SELECTOR_BITS, Schemata, all_mutants
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
    """By what a mutant is proven to keep the contract; empty where it is not.

    A PE of an array may be replaced by one that keeps the PE's contract: there the proof is the PE's.
    """
    if isinstance(spec, Grid):
        return _in_pe(spec.array.pe, everything.mutants[number - 1])
    text = circuits.to_rtlil(in_force(everything, number), "pe")
    try:
        handshake.prove_rtl(spec, text)
        datapath.prove_rtl(spec, text)
    except (RuntimeError, ValueError):
        return ""
    return "keeps the contract: streams by induction, datapath by rewriting"


def _in_pe(spec: PeSpec, mutant: Mutant) -> str:
    """By what a mutant of one PE of an array is proven harmless in a PE alone."""
    prefix, _, signal = mutant.where.partition(".")
    if not re.fullmatch(r"pe_\d+_\d+", prefix):
        return ""
    alone = _alone(spec)
    same = [
        number
        for number, other in enumerate(alone.mutants, 1)
        if (other.what, _numberless(other.where)) == (mutant.what, _numberless(signal))
    ]
    if same and all(reason(spec, alone, number) for number in same):
        return "in the PE alone it keeps the contract: streams by induction, datapath by rewriting"
    return ""


@lru_cache(maxsize=4)
def _alone(spec: PeSpec) -> Schemata:
    return all_mutants(circuits.read(toolchain.rtlil(spec), "pe"))


def _numberless(signal: str) -> str:
    """A signal's name without the numbers that ports get in the order they are made."""
    return re.sub(r"port\$\d+\$", "port$", signal)
