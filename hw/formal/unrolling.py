"""What a PE's accumulators become, as gates: its clocks laid out from any state, any beats, nothing stalling.

The beat in question comes at the first of ``latency`` clocks, and others before and behind it, or none: what
registers hold at first is anything, and so are the beats that follow. The accumulators just before the last
clock are variables too. So what is proven about one beat holds for every beat of every run; that a clock
without a beat leaves an accumulator alone, and when items are handed over, `hw.formal.handshake` proves.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hw.formal.arithmetic import FALSE, TRUE, Arithmetic
from hw.formal.circuit import Bit, Circuit
from hw.spec import PeSpec


@dataclass(frozen=True, kw_only=True)
class Word:
    """A signal of the RTL at one clock: variables in place of what its gates make it."""

    name: str
    bits: tuple[int, ...]  #: literals of variables, lowest bit first
    gates: tuple[int, ...]  #: literals that they stand for


@dataclass(frozen=True, kw_only=True)
class Unrolled:
    """Accumulators after a beat."""

    graph: Arithmetic
    fields: Mapping[str, tuple[int, ...]]  #: variables of the beat, by gate, lowest bit first
    before: tuple[tuple[int, ...], ...]  #: variables of each accumulator before it
    after: tuple[tuple[int, ...], ...]  #: literals of each accumulator after it
    words: tuple[Word, ...]  #: cuts on the way, each after those it depends on


def unroll(spec: PeSpec, circuit: Circuit, cuts: tuple[str, ...]) -> Unrolled:
    """The clocks from a beat to its accumulators; signals whose names match ``cuts`` are cut.

    Raises ValueError if the circuit's port holds another beat than the PE's.
    """
    graph = Arithmetic()
    payload, every = circuit.ports["i__payload"], sum(spec.fields().values())
    if len(payload) != every:
        raise ValueError(f"spec must be of the circuit's PE, of {len(payload)} bits a beat, not {spec!r}")
    state = {net: graph.variable(f"{circuit.name(net)} at first") for net in circuit.flops}
    items, names = circuit.ports["o__payload"], matching(circuit, cuts)
    words: list[Word] = []
    for clock in range(spec.latency()):
        if clock == spec.latency() - 1:
            state |= {net: graph.variable(f"acc[{bit}]") for bit, net in enumerate(items)}
        when = f" after {clock} clocks" if clock else ""
        values: dict[Bit, int] = {"0": FALSE, "1": TRUE, **state}
        values |= {net: graph.variable(f"beat[{bit}]{when}") for bit, net in enumerate(payload)}
        values[circuit.ports["i__valid"][0]] = graph.variable(f"valid{when}") if clock else TRUE
        values[circuit.ports["o__ready"][0]] = TRUE
        values |= dict.fromkeys(circuit.ports.get("rst", ()), FALSE)
        for name in names:
            circuit.evaluate(values, circuit.words[name], graph)
            words += cut(graph, circuit.words[name], values, name + when)
        circuit.evaluate(values, list(circuit.flops.values()), graph)
        state = {net: values[source] for net, source in circuit.flops.items()}
    number = {name: at for at, name in enumerate(graph.gates) if isinstance(name, str)}
    fields, start = {}, 0
    for name, bits in spec.fields().items():
        fields[name] = tuple(number[f"beat[{bit}]"] for bit in range(start, start + bits))
        start += bits
    width = spec.acc_width
    parts = [range(k * width, (k + 1) * width) for k in range(spec.outputs)]
    return Unrolled(
        graph=graph,
        fields=fields,
        before=tuple(tuple(number[f"acc[{bit}]"] for bit in part) for part in parts),
        after=tuple(tuple(state[items[bit]] for bit in part) for part in parts),
        words=tuple(words),
    )


def matching(circuit: Circuit, cuts: tuple[str, ...]) -> list[str]:
    """Names of the signals, in any submodule, that match; each after those that its gates read in a clock."""
    if not cuts:
        return []
    pattern = re.compile(rf"(?:.*\.)?(?:{'|'.join(cuts)})")
    driven = {*circuit.gates, *circuit.flops, *(n for bits in circuit.ports.values() for n in bits), "0", "1"}
    found = [name for name, nets in circuit.words.items() if pattern.fullmatch(name) and driven >= {*nets}]
    places = {
        net: at for at, net in enumerate(circuit.visit([n for name in found for n in circuit.words[name]]))
    }
    return sorted(found, key=lambda name: max(places[net] for net in circuit.words[name]))


def cut(graph: Arithmetic, nets: Sequence[Bit], values: dict[Bit, int], name: str) -> list[Word]:
    """Variables in ``values`` in place of the word's bits, unless they are variables or constants already."""
    gates = {net: values[net] for net in nets}
    if all(isinstance(graph.gates[literal >> 1], str) for literal in gates.values()):
        return []
    made = {
        net: literal if literal < 2 else graph.variable(f"{name}[{nets.index(net)}] cut")
        for net, literal in gates.items()
    }
    values |= made
    return [Word(name=name, bits=tuple(made[n] for n in nets), gates=tuple(gates[n] for n in nets))]
