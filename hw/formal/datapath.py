"""A PE's datapath equal to integer arithmetic, for all operands at once, by binary decision diagrams.

From an empty pipeline and an accumulator of any value, one beat with any operands and any flags is taken;
the accumulator it leaves ``latency`` clocks later, and the flag of an item, are compared as functions. The
comparison is exact, since a reduced ordered diagram is unique (Bryant, IEEE Trans. Computers 1986).

The specification is a walk over the lanes with the running integer sum as its state. It has no tree and no
carry save form, so it shares nothing with the RTL. Lanes are ordered as the circuit's tree joins them:
in their own order the diagrams of a tree that adds thirds of a word grow exponentially.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hw import toolchain
from hw.beats import FIELDS
from hw.formal.circuit import Bit, Circuit, of_rtlil
from hw.spec import Beat, PeSpec, wrap

WORDS = ("w", "x", "mask")
MODES = ("w_bipolar", "x_bipolar")
FLAGS = ("neg", "first", "shift", "last")


def prove_datapath(spec: PeSpec) -> None:
    """Prove that every beat leaves in the accumulator what the integers say, and hands it over if ``last``.

    Raises: ValueError if the PE takes beats of another kind; RuntimeError with a beat, the accumulator
            before it, what it must become and what it becomes, if there is one; RuntimeError as `of_rtlil`
    """
    prove_rtl(spec, toolchain.rtlil(spec))


def prove_rtl(spec: PeSpec, design: str) -> None:
    """As `prove_datapath`, for RTLIL text whose module ``pe`` is to be the PE."""
    circuit = of_rtlil(design)
    fields = fields_of(spec, circuit)
    bdd = diagrams(order(spec, circuit, fields))
    outputs = unroll(spec, circuit, fields, bdd)
    expected = specified(spec, bdd)
    for clock, (valid, _) in enumerate(outputs, start=1):
        want = bdd.var("last") if clock == spec.latency() else bdd.false
        refuse(spec, bdd, clock, "o.valid", [valid], [want])
    refuse(spec, bdd, spec.latency(), "o.payload", outputs[-1][1], expected)


def fields_of(spec: PeSpec, circuit: Circuit) -> dict[Bit, str]:
    """Name of the variable of each bit of ``i.payload``: the three words, then the flags."""
    names = [f"{word}{lane}" for word in WORDS for lane in range(spec.lanes)] + list(FIELDS)
    bits = circuit.ports["i__payload"]
    if len(bits) != len(names):
        raise ValueError(f"spec must be of a PE whose beats are those of Beat, not {spec!r}")
    return dict(zip(bits, names, strict=True))


def order(spec: PeSpec, circuit: Circuit, fields: dict[Bit, str]) -> list[str]:
    """Names of all variables, top first: modes, lanes as the circuit joins them, flags, accumulator.

    The accumulator goes highest bit first: a bit then reads the carry that the bits below it share.
    """
    met = [fields[net] for net in circuit.visit(circuit.ports["o__payload"]) if net in fields]
    lanes = dict.fromkeys(name[len(word) :] for name in met for word in WORDS if name[len(word) :].isdigit())
    lanes |= dict.fromkeys(str(lane) for lane in range(spec.lanes))
    words = [f"{word}{lane}" for lane in lanes for word in ("mask", "w", "x")]
    return [*MODES, *words, *FLAGS, *(f"acc{bit}" for bit in reversed(range(spec.acc_width)))]


def diagrams(names: Sequence[str]) -> Any:
    """A manager of diagrams over ``names``, top first, that never reorders them."""
    from dd.cudd import BDD

    bdd = BDD()
    bdd.configure(reordering=False)
    bdd.declare(*names)
    return bdd


class Diagrams:
    """Gates over diagrams."""

    @staticmethod
    def both(a: Any, b: Any, /) -> Any:
        return a & b

    @staticmethod
    def inverse(a: Any, /) -> Any:
        return ~a


def unroll(spec: PeSpec, circuit: Circuit, fields: dict[Bit, str], bdd: Any) -> list[tuple[Any, list[Any]]]:
    """``o.valid`` and the bits of ``o.payload`` after each of ``latency`` clocks, nothing stalling.

    The beat comes at the first; the bubbles behind it carry the same operands, none of which may count.
    """
    payload, (valid,) = circuit.ports["o__payload"], circuit.ports["o__valid"]
    constants: dict[Bit, Any] = {"0": bdd.false, "1": bdd.true}
    state = {net: bdd.true if circuit.init.get(net) == "1" else bdd.false for net in circuit.flops}
    state |= {net: bdd.var(f"acc{bit}") for bit, net in enumerate(payload)}
    inputs: dict[Bit, Any] = {net: bdd.var(name) for net, name in fields.items()}
    for port, value in (("o__ready", bdd.true), ("rst", bdd.false)):
        inputs |= dict.fromkeys(circuit.ports[port], value)
    outputs = []
    for clock in range(spec.latency()):
        offered = {circuit.ports["i__valid"][0]: bdd.false if clock else bdd.true}
        values = constants | state | inputs | offered
        circuit.evaluate(values, list(circuit.flops.values()), Diagrams)
        state = {net: values[source] for net, source in circuit.flops.items()}
        outputs.append((state[valid], [state[net] for net in payload]))
    return outputs


def specified(spec: PeSpec, bdd: Any) -> list[Any]:
    """Bits of the accumulator after a beat, by the integer sum of the lanes' products."""
    lanes = [int(name[4:]) for name in bdd.vars if name.startswith("mask")]
    lanes.sort(key=lambda lane: int(bdd.level_of_var(f"mask{lane}")))
    finished = {total: accumulated(spec, bdd, total) for total in range(-spec.lanes, spec.lanes + 1)}
    modes = {(w, x): walked(bdd, lanes, finished, w, x) for w in (False, True) for x in (False, True)}
    w, x = (bdd.var(mode) for mode in MODES)
    return [
        bdd.ite(w, bdd.ite(x, both, signs), bdd.ite(x, activation_signs, neither))
        for both, signs, activation_signs, neither in zip(
            modes[True, True], modes[True, False], modes[False, True], modes[False, False], strict=True
        )
    ]


def walked(bdd: Any, lanes: list[int], finished: dict[int, list[Any]], w: bool, x: bool) -> list[Any]:
    """The result from the first lane on: by the running sum, the result from each later lane on."""
    current = finished
    for seen in reversed(range(len(lanes))):
        weight, activation, mask = (bdd.var(f"{word}{lanes[seen]}") for word in WORDS)
        products = {(i, j): digit(i, w) * digit(j, x) for i in (0, 1) for j in (0, 1)}
        current = {
            total: [
                bdd.ite(mask, bdd.ite(weight, bdd.ite(activation, d, c), bdd.ite(activation, b, a)), skipped)
                for skipped, a, b, c, d in zip(
                    current[total],
                    *(current[total + products[i, j]] for i, j in ((0, 0), (0, 1), (1, 0), (1, 1))),
                    strict=True,
                )
            ]
            for total in range(-seen, seen + 1)
        }
    return current[0]


def digit(bit: int, bipolar: bool) -> int:
    """What a bit of a plane stands for."""
    return (1 if bit else -1) if bipolar else bit


def accumulated(spec: PeSpec, bdd: Any, total: int) -> list[Any]:
    """Bits of the accumulator after a beat whose lanes add up to ``total``."""
    neg, first, shift = (bdd.var(flag) for flag in ("neg", "first", "shift"))
    acc = [bdd.var(f"acc{bit}") for bit in range(spec.acc_width)]
    starts = (acc, [bdd.false, *acc[:-1]])
    results = []
    for value in (total, -total):
        kept, doubled = (plus(bdd, start, value) for start in starts)
        fresh = [bdd.true if value >> bit & 1 else bdd.false for bit in range(spec.acc_width)]
        results.append(
            [bdd.ite(first, f, bdd.ite(shift, d, k)) for f, d, k in zip(fresh, doubled, kept, strict=True)]
        )
    return [bdd.ite(neg, minus, same) for same, minus in zip(*results, strict=True)]


def plus(bdd: Any, bits: list[Any], constant: int) -> list[Any]:
    """``bits`` plus an integer, in as many bits."""
    out, carry = [], bdd.false
    for place, bit in enumerate(bits):
        if constant >> place & 1:
            out.append(bdd.apply("equiv", bit, carry))
            carry = bit | carry
        else:
            out.append(bdd.apply("xor", bit, carry))
            carry = bit & carry
    return out


def refuse(spec: PeSpec, bdd: Any, clock: int, port: str, found: list[Any], expected: list[Any]) -> None:
    """Raise RuntimeError with a counterexample if any bit of ``port`` differs from what is expected."""
    for mine, theirs in zip(found, expected, strict=True):
        if mine != theirs:
            chosen = {name: bool(v) for name, v in bdd.pick(bdd.apply("xor", mine, theirs)).items()}
            beat, acc = beat_of(spec, chosen)
            values = [value_of(bdd, bits, chosen) for bits in (expected, found)]
            wanted, got = (wrap(v, len(found)) if len(found) > 1 else v for v in values)
            raise RuntimeError(
                f"{port} must be {wanted}, not {got}, {clock} clocks after {beat!r} on the accumulator {acc}"
            )


def beat_of(spec: PeSpec, chosen: dict[str, bool]) -> tuple[Beat, int]:
    """The beat and the accumulator of an assignment of the variables; one left open is 0."""
    w, x, mask = (
        sum(chosen.get(f"{word}{lane}", False) << lane for lane in range(spec.lanes)) for word in WORDS
    )
    acc = sum(chosen.get(f"acc{bit}", False) << bit for bit in range(spec.acc_width))
    flags = {flag: chosen.get(flag, False) for flag in (*MODES, *FLAGS)}
    return Beat(w=w, x=x, mask=mask, **flags), wrap(acc, spec.acc_width)


def value_of(bdd: Any, bits: list[Any], chosen: dict[str, bool]) -> int:
    """The integer of ``bits`` where the variables are as ``chosen``, and 0 elsewhere."""
    point = {name: chosen.get(name, False) for name in bdd.vars}
    return sum((bdd.let(point, bit) == bdd.true) << place for place, bit in enumerate(bits))
