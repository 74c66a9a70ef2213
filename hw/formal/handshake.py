"""A PE's streams proven for runs and stalls of any length: nothing lost, doubled, reordered or changed.

Induction over clocks, for a pipeline that moves as one. Three of its steps start from *any* state, so they
hold at every clock of every run (k-induction, Sheeran, Singh and Stalmarck, FMCAD 2000, where the step is so
strong that it needs no hypothesis):

1. While an item waits and is refused, no beat is taken and every register keeps its value.
2. Else a beat is taken if offered, and no register sees whether ``o.ready`` is up.
   By 1 and 2 a stalled run is the run without stalls, with clocks of rest put in.
3. Without stalls, ``o.valid`` is the ``last`` of the beat taken ``latency`` clocks before, and a clock that
   took no beat leaves the accumulator as it was.

The base: after reset ``o.valid`` is low until the first beat can have come through. Of an array's PEs *any*
state means one in which registers that always hold the same (`hw.formal.twins`) do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hw import toolchain
from hw.formal.circuit import Bit, Circuit, of_rtlil
from hw.formal.graph import FALSE, TRUE, Graph
from hw.formal.twins import twins
from hw.spec import PeSpec


def prove_handshake(spec: PeSpec) -> None:
    """Prove the streams of the PE.

    Raises: RuntimeError that names the port or the register that breaks which rule, and the values of
            registers (``name[bit]``) and inputs where it does; RuntimeError as `of_rtlil`
    """
    prove_rtl(spec, toolchain.rtlil(spec))


def prove_rtl(spec: PeSpec, design: str) -> None:
    """As `prove_handshake`, for RTLIL text whose module ``pe`` is to be the PE."""
    proof = Proof(spec, of_rtlil(design), Graph(), {})
    proof.pair()
    proof.refused()
    proof.moving()
    proof.arrival()
    proof.bubble()
    proof.after_reset()


@dataclass(frozen=True)
class Proof:
    """The steps of the induction, each over one graph of and-gates."""

    spec: PeSpec
    circuit: Circuit
    graph: Graph
    first: dict[Bit, Bit]  #: of registers that always hold the same, the one that stands for all

    def net(self, port: str) -> Bit:
        return self.circuit.ports[port][0]

    def any_state(self) -> dict[Bit, int]:
        """Registers that hold anything; some the same."""
        named = self.circuit.name
        return {net: self.graph.variable(named(self.first.get(net, net))) for net in self.circuit.flops}

    def waiting(self, level: int) -> dict[Bit, int]:
        """Any state where ``o.valid``, and what always is the same, is at this level."""
        valid = self.net("o__valid")
        same = {net for net, one in self.first.items() if one == self.first.get(valid)}
        return self.any_state() | dict.fromkeys({valid, *same}, level)

    def pair(self) -> None:
        """Find the registers that always hold the same."""

        def step(state: Mapping[Bit, int], reset: bool) -> Mapping[Bit, int]:
            return self.after(self.clock(state, 0, **({"rst": TRUE} if reset else {})))

        self.first.update(twins(self.circuit, self.graph.variable, step))

    def clock(self, state: Mapping[Bit, int], number: int, **pinned: int) -> dict[Bit, int]:
        """All nets in a clock: inputs are anything, but for those pinned, by port (the lowest bit)."""
        values: dict[Bit, int] = {"0": FALSE, "1": TRUE, **state}
        for port in ("i__payload", "i__valid", "o__ready", "rst"):
            for bit, net in enumerate(self.circuit.ports.get(port, ())):
                given = pinned.get(port)
                values[net] = (
                    self.graph.variable(f"{port}[{bit}] of clock {number}") if given is None else given
                )
        ports = [self.net("i__ready"), *self.circuit.ports["o__payload"], self.net("o__valid")]
        self.circuit.evaluate(values, [*self.circuit.flops.values(), *ports], self.graph)
        return values

    def after(self, values: Mapping[Bit, int]) -> dict[Bit, int]:
        """Registers behind the edge that ends a clock."""
        return {net: values[source] for net, source in self.circuit.flops.items()}

    def require(self, rule: str, net: Bit, found: int, expected: int) -> None:
        example = self.graph.difference(found, expected)
        if example is not None:
            shown = ", ".join(f"{name}={value:d}" for name, value in sorted(example.items()) if value)
            raise RuntimeError(f"{self.circuit.name(net)} must {rule}; it does not with {shown or 'all 0'}")

    def refused(self) -> None:
        state = self.waiting(TRUE)
        values = self.clock(state, 0, o__ready=FALSE, rst=FALSE)
        ready = self.net("i__ready")
        self.require("stay low while an item is refused", ready, values[ready], FALSE)
        for net, later in self.after(values).items():
            self.require("keep its value while an item is refused", net, later, state[net])

    def moving(self) -> None:
        ready = self.net("i__ready")
        down, up = (self.clock(self.waiting(FALSE), 0, o__ready=level, rst=FALSE) for level in (FALSE, TRUE))
        for values in (down, up, self.clock(self.waiting(TRUE), 0, o__ready=TRUE, rst=FALSE)):
            self.require("be high while no item is refused", ready, values[ready], TRUE)
        for net, source in self.circuit.flops.items():
            self.require("not see o.ready while no item waits", net, down[source], up[source])

    def run(self, **first: int) -> list[dict[Bit, int]]:
        """``latency`` clocks and the state after each, from any state, never stalling."""
        state, states = self.any_state(), []
        for number in range(self.spec.latency()):
            pinned = first if number == 0 else {}
            values = self.clock(state, number, o__ready=TRUE, rst=FALSE, **pinned)
            state = self.after(values)
            states.append(state)
        return states

    def arrival(self) -> None:
        valid = self.net("o__valid")
        last = sum(self.spec.fields().values()) - 1  # the last field
        taken = self.graph.both(
            self.graph.variable("i__valid[0] of clock 0"),
            self.graph.variable(f"i__payload[{last}] of clock 0"),
        )
        self.require("be the last of the beat latency clocks ago", valid, self.run()[-1][valid], taken)

    def bubble(self) -> None:
        states = [self.any_state(), *self.run(i__valid=FALSE)]
        for net in self.circuit.ports["o__payload"]:
            self.require(
                "keep its value over a clock that took no beat", net, states[-1][net], states[-2][net]
            )

    def after_reset(self) -> None:
        valid = self.net("o__valid")
        state = {net: self.graph.variable(self.circuit.name(net)) for net in self.circuit.flops}
        state = self.after(self.clock(state, 0, rst=TRUE))
        for number in range(1, self.spec.latency() + 1):
            self.require("stay low after reset until an item can come", valid, state[valid], FALSE)
            state = self.after(self.clock(state, number, rst=FALSE))
