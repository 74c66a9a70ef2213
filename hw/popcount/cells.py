"""The cells of a 6-LUT fabric, as Xilinx primitives for synthesis or as what they do for simulators.

A look-up table is given as functions of bits, written with ``& | ^``: applied to signals they are its
behaviour, applied to all combinations of integers its INIT. Both come from one function and cannot differ.

Sources: Xilinx UG953, Vivado Design Suite 7 Series FPGA Libraries Guide (LUT6, LUT6_2, CARRY4); UG474, 7
Series FPGAs Configurable Logic Block (a carry chain's data come from a table's O5 or by a pin, which is the
lowest position's for its carry in as well).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

from amaranth import Cat, Const, Instance, Module, Signal

#: A function of bits, of signals (many at a time, bit by bit) or of the integers 0 and 1 alike.
Function = Callable[..., Any]


def truth(function: Function, inputs: int) -> int:
    """Truth table of a function of so many bits: bit i is its value where input k is bit k of i.

    >>> hex(truth(lambda a, b: a ^ b, 2)), hex(truth(lambda a, b, c: (a & b) | (a ^ b) & c, 3))
    ('0x6', '0xe8')
    """
    rows = product((0, 1), repeat=inputs)
    return sum((function(*reversed(row)) & 1) << i for i, row in enumerate(rows))


def dual(o6: Function, o5: Function, inputs: int) -> int:
    """INIT of a LUT6_2 with both outputs. O5 is the lower half of the table, read by five inputs.

    Of fewer than six inputs the two functions are free, the sixth pin being 1. Raises ValueError if there are
    six and ``o5``, of the first five, is not ``o6`` where the sixth is 0.
    """
    if inputs < 6:
        low, high = truth(o5, inputs), truth(o6, inputs)
        copies = sum(1 << (i << inputs) for i in range(1 << 5 - inputs))
        return (high * copies) << 32 | low * copies
    init, low = truth(o6, 6), truth(o5, 5)
    if init & 0xFFFFFFFF != low:
        raise ValueError(f"o5 must be o6 where the sixth input is 0, {init & 0xFFFFFFFF:#x}, not {low:#x}")
    return init


class Behaviour:
    """The cells by what they do; every simulator executes it, and any fabric takes it.

    Inputs are equally wide: bit k of each belongs to the k-th of as many cells side by side, which simulators
    evaluate as one. So do outputs.
    """

    def lut(self, m: Module, o6: Function, inputs: Sequence[Any]) -> Any:
        """``o6`` of at most six inputs: a look-up table."""
        out = Signal(len(inputs[0]), name="o6")
        m.d.comb += out.eq(o6(*inputs))
        return out

    def lut2(self, m: Module, o6: Function, o5: Function, inputs: Sequence[Any]) -> tuple[Any, Any]:
        """Two functions of the same inputs in one look-up table, as `dual` allows."""
        return self.lut(m, o6, inputs), self.lut(m, o5, inputs[:5])

    def chain(self, m: Module, s: Sequence[Any], di: Sequence[Any], ci: Any) -> tuple[list[Any], Any]:
        """Carry chain: at each position sum ``s ^ carry``, then carry ``di`` unless ``s``, which leaves it.

        Returns sums, lowest first, and the carry out.
        """
        if len(ci) == 1:  # an adder of di and s ^ di
            out, low = Signal(len(s) + 1, name="chain"), Cat(*di)
            m.d.comb += out.eq(low + (low ^ Cat(*s)) + ci)
            return list(out[:-1]), out[-1]
        sums = []
        for select, data in zip(s, di, strict=True):
            carry = Signal(len(ci), name="carry")
            m.d.comb += carry.eq(data ^ (select & (data ^ ci)))
            sums.append(self.lut(m, parity, [select, ci]))
            ci = carry
        return sums, ci


class Primitives:
    """The same cells as instances, for synthesis for Xilinx 7 series; simulators need their models."""

    def lut(self, m: Module, o6: Function, inputs: Sequence[Any]) -> Any:
        n = len(inputs)
        out, init = Signal(len(inputs[0]), name="o6"), Const(truth(o6, n), 1 << n)
        for k, o in enumerate(out):
            pins = {f"i_I{pin}": bits[k] for pin, bits in enumerate(inputs)}
            m.submodules += Instance(f"LUT{n}", p_INIT=init, o_O=o, **pins)
        return out

    def lut2(self, m: Module, o6: Function, o5: Function, inputs: Sequence[Any]) -> tuple[Any, Any]:
        n, side = len(inputs), len(inputs[0])
        high, low, init = Signal(side, name="o6"), Signal(side, name="o5"), Const(dual(o6, o5, n), 64)
        for k in range(side):
            # Pins past the inputs are 1 (the sixth has to be, the others do not matter).
            pins = {f"i_I{pin}": inputs[pin][k] if pin < n else Const(1) for pin in range(6)}
            m.submodules += Instance("LUT6_2", p_INIT=init, o_O6=high[k], o_O5=low[k], **pins)
        return high, low

    def chain(self, m: Module, s: Sequence[Any], di: Sequence[Any], ci: Any) -> tuple[list[Any], Any]:
        chains = [self._one(m, [x[k] for x in s], [x[k] for x in di], c) for k, c in enumerate(ci)]
        sums, carries = zip(*chains, strict=True)
        return [Cat(*side) for side in zip(*sums, strict=True)], Cat(*carries)

    def _one(self, m: Module, s: list[Any], di: list[Any], ci: Any) -> tuple[list[Any], Any]:
        width, places = len(s), -(-len(s) // 4) * 4
        out, carry = Signal(places, name="chain"), Signal(places, name="carry")
        select, data = (Cat(*bits, Const(0, places - width)) for bits in (s, di))
        for at in range(0, places, 4):
            pins = {"i_CYINIT": Const(0), "i_CI": carry[at - 1]} if at else {"i_CYINIT": ci, "i_CI": Const(0)}
            pins |= {"i_S": select[at : at + 4], "i_DI": data[at : at + 4]}
            pins |= {"o_O": out[at : at + 4], "o_CO": carry[at : at + 4]}
            m.submodules += Instance("CARRY4", **pins)
        return list(out[:width]), carry[width - 1]


def parity(*bits: Any) -> Any:
    """Whether an odd number of bits are 1."""
    total = bits[0]
    for bit in bits[1:]:
        total = total ^ bit
    return total


def majority(a: Any, b: Any, c: Any) -> Any:
    """Whether at least two of three bits are 1."""
    return (a & b) | ((a ^ b) & c)
