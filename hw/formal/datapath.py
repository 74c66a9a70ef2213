"""A PE's datapath equal to integer arithmetic, for all operands and all accumulators at once.

The bits of an accumulator after a beat, each with its place value, are rewritten to a polynomial over the
bits of the beat and of the accumulator before it (`hw.formal.rewriting`), cut at words that are numbers of
their own (`hw.formal.words`). It is compared, coefficient by coefficient, with that of `hw.formal.formulas`.
Cases are sampled in search of a counterexample alone, and first: a wrong circuit makes large polynomials.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from hw import toolchain
from hw.formal.circuit import Circuit, of_rtlil
from hw.formal.formulas import Formula, Operands, formula_of, signed
from hw.formal.polynomial import Polynomial
from hw.formal.rewriting import Rewriter
from hw.formal.unrolling import Unrolled, unroll
from hw.formal.words import Numbers
from hw.spec import Beat, PeSpec, wrap

#: Random cases that a proof starts with, side by side in one integer.
CASES = 64


def prove_datapath(spec: PeSpec) -> None:
    """Prove that every beat leaves in every accumulator what the integers say.

    Raises: ValueError if there is no formula of the PE; RuntimeError with a beat, the accumulator before it,
            what it must become and what it becomes, if there is one, or with what hinders the proof;
            RuntimeError as `of_rtlil`
    """
    prove_rtl(spec, toolchain.rtlil(spec))


def prove_rtl(spec: PeSpec, design: str) -> None:
    """As `prove_datapath`, for RTLIL text whose module ``pe`` is to be the PE."""
    prove_circuit(spec, of_rtlil(design))


def prove_circuit(spec: PeSpec, circuit: Circuit) -> None:
    """As `prove_datapath`, for gates that are to be the PE. Raises ValueError if they take other beats."""
    formula = formula_of(spec)
    proof = Proof(spec=spec, formula=formula, unrolled=unroll(spec, circuit, formula.cuts))
    proof.sample()
    numbers = proof.numbers()
    for output in range(spec.outputs):
        proof.compare(numbers, output)


@dataclass(frozen=True, kw_only=True)
class Proof:
    """A PE's formula, and its gates."""

    spec: PeSpec
    formula: Formula
    unrolled: Unrolled

    def numbers(self) -> Numbers:
        fields, lanes = self.unrolled.fields, self.spec.lanes
        own = ("w", "mask") if self.formula.shares_x else ("w", "x", "mask")
        return Numbers(
            rewriter=Rewriter(self.unrolled.graph),
            words=self.unrolled.words,
            flags=frozenset(number for flag in self.spec.flags() for number in fields[flag]),
            lane={number: bit % lanes for word in own for bit, number in enumerate(fields.get(word, ()))},
        )

    def wanted(self, output: int) -> Polynomial:
        """What an accumulator must become."""
        fields = {name: [Polynomial.variable(n) for n in bits] for name, bits in self.unrolled.fields.items()}
        acc = signed([Polynomial.variable(n) for n in self.unrolled.before[output]])
        operands = Operands(lanes=self.spec.lanes, fields=fields, acc=acc)
        return self.formula.after(self.spec, operands, output)

    def sample(self) -> None:
        """Refuse an accumulator that is not what it must be in one of `CASES` random cases."""
        chance = random.Random(0)
        variables = [n for n, gate in enumerate(self.unrolled.graph.gates) if isinstance(gate, str)]
        columns = dict.fromkeys(variables, 0)
        for case in range(CASES):
            share = (0.5, 0.9, 0.1)[case % 3]
            for number in variables:
                columns[number] |= (chance.random() < share) << case
        found = self.simulated(columns, (1 << CASES) - 1)
        for output in range(self.spec.outputs):
            wanted = self.wanted(output)
            for case in range(CASES):
                ones = {number for number, column in columns.items() if column >> case & 1}
                self.refuse(output, ones, wanted, [bits >> case & 1 for bits in found[output]])

    def compare(self, numbers: Numbers, output: int) -> None:
        """Refuse an accumulator that is another polynomial than it must be."""
        wanted = self.wanted(output)
        found = numbers.polynomial(self.unrolled.after[output], self.spec.acc_width)
        differ = (found - wanted).modulo(self.spec.acc_width)
        if differ.terms:
            ones = differ.nonzero()
            bits = self.simulated(dict.fromkeys(ones, 1), 1)[output]
            self.refuse(output, ones, wanted, bits)
            raise RuntimeError(f"o.payload must be a polynomial of the beat alone, not {differ.terms}")

    def simulated(self, columns: Mapping[int, int], full: int) -> list[list[int]]:
        """Bits of the accumulators, for as many cases side by side as ``full`` has bits; 0 if not given."""
        graph = self.unrolled.graph
        values = [columns.get(number, 0) for number in range(len(graph.gates))]
        cut = {
            bit >> 1: gate
            for word in self.unrolled.words
            for bit, gate in zip(word.bits, word.gates, strict=True)
            if bit > 1
        }
        found = graph.simulate(values, full, cut)
        return [[found[bit >> 1] ^ (full if bit & 1 else 0) for bit in bits] for bits in self.unrolled.after]

    def refuse(self, output: int, ones: set[int], wanted: Polynomial, bits: list[int]) -> None:
        """Raise RuntimeError if the accumulator is not what it must be where the variables ``ones`` are 1."""
        width = self.spec.acc_width
        expected = wrap(wanted.at(ones), width)
        value = wrap(sum(bit << at for at, bit in enumerate(bits)), width)
        if value != expected:
            before = sum((n in ones) << at for at, n in enumerate(self.unrolled.before[output]))
            port = f"o.payload[{output}]" if self.spec.outputs > 1 else "o.payload"
            raise RuntimeError(
                f"{port} must be {expected}, not {value}, {self.spec.latency()} clocks after"
                f" {self.beat(ones)!r} on the accumulator {wrap(before, width)}"
            )

    def beat(self, ones: set[int]) -> Beat:
        """The beat whose bits are 1 where the variables are."""
        values = {
            name: sum((number in ones) << bit for bit, number in enumerate(bits))
            for name, bits in self.unrolled.fields.items()
        }
        flags = {flag: bool(values[flag]) for flag in self.spec.flags()}
        return Beat(w=values["w"], x=values["x"], mask=values.get("mask", 0), **flags)
