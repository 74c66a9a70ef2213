"""Datapaths proven equal to integer formulas, formulas held against `golden`, and planted faults found."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import pytest

from algo.bitplane import family
from hw import toolchain
from hw.beats import Beats
from hw.formal import datapath
from hw.formal.circuit import of_rtlil
from hw.formal.datapath import Proof, prove_circuit, prove_datapath
from hw.formal.formulas import FORMULAS, WITHOUT_FORMULA, formula_of
from hw.formal.unrolling import unroll
from hw.pe.bitserial import BitSerial, BitSerialPE
from hw.pe.popcount import Popcount
from hw.pe.ternary import Ternary
from hw.spec import Beat, PeSpec
from hw.tests.faulty import Faulty

FAMILY = {name: family.load("hw.pe", name) for name in FORMULAS}
SMALL = [spec for module in FAMILY.values() for spec in module.SAMPLES[:2]]
#: Floats of four exponent bits on both sides shift by so much that their polynomials take minutes.
WIDE = [spec for spec in FAMILY["minifloat"].SAMPLES if spec.x_exponent == 4]
LARGE = [
    spec for module in FAMILY.values() for spec in (*module.SAMPLES[2:], module.SPEC()) if spec not in WIDE
]


def test_every_pe_has_a_formula_or_a_reason():
    missing = {*family.names("hw.pe")} - {*FORMULAS} - {*WITHOUT_FORMULA}
    assert not missing, f"without a formula in hw.formal.formulas: {', '.join(sorted(missing))}"
    assert {*FORMULAS, *WITHOUT_FORMULA} == {*family.names("hw.pe")}
    assert all(WITHOUT_FORMULA.values())
    assert not {*FORMULAS} & {*WITHOUT_FORMULA}


@pytest.mark.parametrize("spec", SMALL, ids=str)
def test_the_datapath_of_small_samples_is_proven(spec):
    prove_datapath(spec)


@pytest.mark.parametrize("spec", [BitSerial(), Popcount(), Ternary()], ids=str)
def test_the_datapath_of_64_lanes_is_proven(spec):
    prove_datapath(spec)


@pytest.mark.slow
@pytest.mark.parametrize(
    "spec",
    [
        *LARGE,
        BitSerial(lanes=128),
        BitSerial(lanes=256, levels=0),
        Popcount(lanes=128),
        Popcount(lanes=128, form="lut6"),
    ],
    ids=str,
)
def test_the_datapath_of_large_samples_is_proven(spec):
    prove_datapath(spec)


@pytest.mark.parametrize("name", FORMULAS)
def test_the_formula_is_golden(name):
    spec = FAMILY[name].SAMPLES[1]
    circuit = of_rtlil(toolchain.rtlil(spec))
    proof = Proof(spec=spec, formula=formula_of(spec), unrolled=unroll(spec, circuit, ()))
    for case, beat in enumerate(Beats.random(spec, 20, seed=len(name))):
        for output in range(spec.outputs):
            acc = (case * 0x9E3779B9) % (1 << spec.acc_width)
            value = proof.wanted(output).at(ones_of(proof, beat, acc, output))
            assert (value - spec.golden(acc, beat, output)) % (1 << spec.acc_width) == 0


def ones_of(proof, beat, acc, output):
    """Variables that are 1 in a beat and an accumulator."""
    words = {name: int(getattr(beat, name)) for name in proof.unrolled.fields}
    ones = {
        n
        for name, bits in proof.unrolled.fields.items()
        for at, n in enumerate(bits)
        if words[name] >> at & 1
    }
    return ones | {n for at, n in enumerate(proof.unrolled.before[output]) if acc >> at & 1}


def example(message):
    """Output, what it must be and what it is, beat and accumulator of a counterexample."""
    found = re.fullmatch(
        r"o\.payload(?:\[(\d+)\])? must be (-?\d+), not (-?\d+), \d+ clocks after (Beat\(.*\))"
        r" on the accumulator (-?\d+)",
        message,
    )
    assert found, message
    output, expected, value, beat, acc = found.groups()
    return int(output or 0), int(expected), int(value), eval(beat, {"Beat": Beat}), int(acc)


def refuted(spec, prove, thing):
    """A proof that must fail, with a counterexample that the PE's own definition confirms."""
    with pytest.raises(RuntimeError) as caught:
        prove(spec, thing)
    output, expected, value, beat, acc = example(str(caught.value))
    assert expected != value
    assert spec.golden(acc, beat, output) == expected


def broken(circuit, gate):
    """The circuit with one and-gate inverted."""
    return replace(circuit, gates={**circuit.gates, "right": circuit.gates[gate], gate: ("right",)})


@pytest.mark.parametrize("name", FORMULAS)
def test_an_inverted_gate_of_every_pe_is_found(name):
    spec = FAMILY[name].SAMPLES[1]
    circuit = of_rtlil(toolchain.rtlil(spec))
    ands = [net for net in circuit.visit(circuit.ports["o__payload"]) if len(circuit.gates.get(net, ())) == 2]
    for gate in (ands[len(ands) // 3], ands[2 * len(ands) // 3]):
        refuted(spec, prove_circuit, broken(circuit, gate))


@pytest.mark.parametrize("fault", ["ignores shift", "comes one clock late"])
def test_a_fault_of_the_datapath_has_a_counterexample_that_golden_confirms(fault):
    spec = Faulty(lanes=5, acc_width=9, fault=fault)
    refuted(spec, datapath.prove_rtl, toolchain.rtlil(spec))


@pytest.mark.parametrize(("old", "new"), [("cell $xor", "cell $or"), ("cell $and", "cell $xor")])
def test_one_wrong_operator_of_64_lanes_is_found(old, new):
    spec = BitSerial()
    design = toolchain.rtlil(spec)
    wrong = design.replace(old, new, 1)
    assert wrong != design
    refuted(spec, datapath.prove_rtl, wrong)


def test_what_no_sample_shows_the_polynomials_show(monkeypatch):
    monkeypatch.setattr(datapath, "CASES", 0)
    spec = BitSerial(lanes=12, acc_width=16)
    refuted(spec, datapath.prove_rtl, toolchain.rtlil(Rare(lanes=12, acc_width=16)))


class RarePE(BitSerialPE):
    """Wrong where the accumulator is -1, and only there."""

    def accumulate(self, m, moves, dot, control):
        super().accumulate(m, moves, dot, control)
        with m.If(moves & control.valid & ~control.first & self.o.payload.all()):
            m.d.sync += self.o.payload.eq(0)


@dataclass(frozen=True, kw_only=True)
class Rare(BitSerial):
    def create(self):
        return RarePE(self)


@dataclass(frozen=True, kw_only=True)
class Unheard(PeSpec):
    """A PE that the formulas do not know."""

    golden = latency = resources = create = None


def test_a_pe_without_a_formula_is_refused_by_name():
    with pytest.raises(ValueError, match=r"^spec must be of a PE with a formula, not Unheard\(lanes=3"):
        formula_of(Unheard(lanes=3))
    unknown = family.load("hw.pe", "fpmac").SPEC()
    with pytest.raises(ValueError, match=r"^spec must be of a PE with a formula, not FpMac\("):
        prove_datapath(unknown)


def test_beats_of_another_kind_are_refused():
    circuit = of_rtlil(toolchain.rtlil(BitSerial(lanes=2, acc_width=4)))
    with pytest.raises(
        ValueError, match=r"^spec must be of the circuit's PE, of 12 bits a beat, not BitSerial"
    ):
        prove_circuit(BitSerial(lanes=3, acc_width=4), circuit)
