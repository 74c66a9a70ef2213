"""Registers of an array's PEs that always hold the same, proven so by induction.

The PEs of a broadcast array keep control registers of their own that never part, and the array's handshake
rests on it. Suspected are registers of one name in different PEs. Those that a reset makes equal, and that
stay equal at every edge as long as all that are suspected are, are equal at every clock after a reset.

Source: van Eijk, "Sequential Equivalence Checking without State Space Traversal", DATE 1998.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from hw.formal.circuit import Bit, Circuit

#: A PE's place in an array, as `hw.array` names it in front of what is inside.
_PLACE = re.compile(r"\bpe_\d+_\d+\.")

#: Registers behind an edge, from what they hold before it; whether the clock is one of reset.
Step = Callable[[Mapping[Bit, int], bool], Mapping[Bit, int]]


def twins(circuit: Circuit, variable: Callable[[str], int], step: Step) -> dict[Bit, Bit]:
    """The first of those that a register is always equal to, for every register.

    Parameters: variable, a literal of any value, by name; step, one clock with any inputs
    """
    named: dict[str, list[Bit]] = defaultdict(list)
    for net in circuit.flops:
        named[_PLACE.sub("", circuit.name(net))].append(net)
    after = step({net: variable(circuit.name(net)) for net in circuit.flops}, True)
    classes = [part for nets in named.values() for part in _split(nets, after)]
    while True:
        first = {net: nets[0] for nets in classes for net in nets}
        after = step({net: variable(circuit.name(one)) for net, one in first.items()}, False)
        parts = [part for nets in classes for part in _split(nets, after)]
        if len(parts) == len(classes):
            return first
        classes = parts


def _split(nets: Sequence[Bit], values: Mapping[Bit, int]) -> list[list[Bit]]:
    """``nets`` by their value."""
    parts: dict[int, list[Bit]] = defaultdict(list)
    for net in nets:
        parts[values[net]].append(net)
    return list(parts.values())
