"""Outgoing channels of any design proven to keep what they offer until it is taken.

One step of induction from *any* state, so it holds at every clock of every run, whatever happened before: if
a channel is valid in a clock and not taken, it is valid in the next with the same payload. Nor does valid, or
the payload, see whether the other side is ready. Memories hold anything, and what nothing drives is anything.

Source: Arm, AMBA AXI and ACE Protocol Specification, IHI 0022, A3.2.1; AMBA 4 AXI4-Stream, IHI 0051, 2.2.1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hw.formal.circuit import Bit, Circuit
from hw.formal.graph import FALSE, TRUE, Graph


@dataclass(frozen=True, kw_only=True)
class Channel:
    """Ports of a channel that a design drives."""

    valid: str
    ready: str
    payload: tuple[str, ...]


def prove_channel(
    circuit: Circuit, channel: Channel, pinned: Mapping[str, int], quiet: Sequence[str]
) -> None:
    """Prove a channel.

    Parameters: pinned, levels of input ports in every clock, such as a reset that is not given; quiet, names
    of registers that are 0 in the clock of the step, such as one that drops everything

    Raises RuntimeError that names the port that breaks the rule, registers and inputs with which it does.
    """
    _Step(circuit, channel, pinned, quiet, Graph()).prove()


@dataclass(frozen=True)
class _Step:
    circuit: Circuit
    channel: Channel
    pinned: Mapping[str, int]
    quiet: Sequence[str]
    graph: Graph

    def prove(self) -> None:
        valid, *payload = [net for port in self._ports() for net in self.circuit.ports[port]]
        refused, taken = (self._clock(self._any_state(), 0, level) for level in (FALSE, TRUE))
        for net in (valid, *payload):
            self._require("not see ready", net, self._differ(refused[net], taken[net]))
        behind = {net: refused[source] for net, source in self.circuit.flops.items()}
        later = self._clock(behind, 1, None)
        offered = refused[valid]
        self._require("stay until taken", valid, self.graph.both(offered, later[valid] ^ 1))
        for net in payload:
            changed = self._differ(refused[net], later[net])
            self._require("keep its value until taken", net, self.graph.both(offered, changed))

    def _ports(self) -> tuple[str, ...]:
        return (self.channel.valid, *self.channel.payload)

    def _port(self, net: Bit) -> str:
        """The net as a port's bit."""
        return next(
            f"{port}[{self.circuit.ports[port].index(net)}]"
            for port in self._ports()
            if net in self.circuit.ports[port]
        )

    def _any_state(self) -> dict[Bit, int]:
        state = {net: self.graph.variable(self.circuit.name(net)) for net in self.circuit.flops}
        return state | {net: FALSE for name in self.quiet for net in self.circuit.words[name]}

    def _clock(self, state: Mapping[Bit, int], number: int, ready: int | None) -> dict[Bit, int]:
        """All nets in a clock, from what registers hold in it."""
        circuit, levels = self.circuit, dict(self.pinned)
        if ready is not None:
            levels[self.channel.ready] = ready
        values: dict[Bit, int] = {"0": FALSE, "1": TRUE, **state}
        for port, nets in circuit.ports.items():
            for bit, net in enumerate(nets):
                if net not in circuit.gates and net not in values:
                    given = levels.get(port)
                    named = f"{port}[{bit}] of clock {number}"
                    values[net] = self.graph.variable(named) if given is None else given
        for inputs in circuit.gates.values():
            for net in inputs:
                if net not in circuit.gates and net not in values:
                    values[net] = self.graph.variable(f"{circuit.name(net)} of clock {number}")
        wanted = [net for port in self._ports() for net in circuit.ports[port]]
        circuit.evaluate(values, wanted if number else [*wanted, *circuit.flops.values()], self.graph)
        return values

    def _differ(self, a: int, b: int) -> int:
        return self.graph.both(self.graph.both(a, b) ^ 1, self.graph.both(a ^ 1, b ^ 1) ^ 1)

    def _require(self, rule: str, net: Bit, broken: int) -> None:
        example = self.graph.difference(broken, FALSE)
        if example is not None:
            shown = ", ".join(f"{name}={value:d}" for name, value in sorted(example.items()) if value)
            raise RuntimeError(f"{self._port(net)} must {rule}; it does not with {shown or 'all 0'}")
