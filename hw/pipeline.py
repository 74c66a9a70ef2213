"""What the RTL of every PE has in common: its ports, the control beside the data, stages that move as one."""

from __future__ import annotations

from typing import Any

from amaranth import Module, Mux, Signal, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from hw.spec import PeSpec

#: What travels beside a beat's bits, up to the adder that negates and behind it.
CONTROL = data.StructLayout(dict.fromkeys(("valid", "first", "shift", "neg", "last"), 1))
CONTROL_OF_DOT = data.StructLayout(dict.fromkeys(("valid", "first", "shift", "last"), 1))


def payload_layout(spec: PeSpec) -> data.StructLayout:
    """A beat on the port, the first field in the lowest bits."""
    return data.StructLayout(dict(spec.fields()))


def item_shape(spec: PeSpec) -> Any:
    """An item on the port: a signed integer, or an array of them."""
    one = signed(spec.acc_width)
    return one if spec.outputs == 1 else data.ArrayLayout(one, spec.outputs)


def ports(spec: PeSpec) -> dict[str, Any]:
    """A PE's two streams: ``i`` of beats, ``o`` of items."""
    return {
        "i": In(stream.Signature(payload_layout(spec))),
        "o": Out(stream.Signature(item_shape(spec))),
    }


def handshake(m: Module, pe: Any) -> Any:
    """The signal that all stages of ``pe`` move at the coming edge, wired to both streams.

    Valid is a register and ready follows from it: no path from ``o.ready`` to ``o.valid``.
    """
    moves = Signal(name="moves")
    m.d.comb += [moves.eq(~pe.o.valid | pe.o.ready), pe.i.ready.eq(moves)]
    return moves


def controls(m: Module, moves: Any, stream_in: Any) -> Any:
    """Control of the beat in the first stage; ``last`` is meant for a beat, not for a gap between beats.

    A flag that the beat does not have is 0.
    """
    beat = stream_in.payload
    members = beat.shape().members
    control = Signal(CONTROL, name="control")
    with m.If(moves):
        m.d.sync += [
            control.valid.eq(stream_in.valid),
            control.last.eq(stream_in.valid & beat.last),
            *(getattr(control, f).eq(getattr(beat, f)) for f in ("first", "shift", "neg") if f in members),
        ]
    return control


def registered(m: Module, moves: Any, value: Any, name: str) -> Any:
    """``value`` one move later. Only control needs a reset: bits count where ``valid`` travels with them."""
    later = Signal(value.shape(), name=name, reset_less=not isinstance(value, data.View))
    with m.If(moves):
        m.d.sync += later.eq(value)
    return later


def sum_tree(m: Module, moves: Any, terms: list[Any], control: Any, levels: int) -> tuple[Any, Any]:
    """The sum of signed ``terms``, two by two, registered after every so many levels (0: never).

    Returns the sum and the control that belongs to it; `tree_registers` counts the registers.
    """
    level = 0
    while len(terms) > 1:
        level += 1
        pairs = [a + b for a, b in zip(terms[::2], terms[1::2], strict=False)]
        terms = pairs + ([terms[-1]] if len(terms) % 2 else [])
        if levels and level % levels == 0:
            terms = [registered(m, moves, t, f"sum{level}_{k}") for k, t in enumerate(terms)]
            control = registered(m, moves, control, f"control{level}")
    return terms[0], control


def tree_registers(terms: int, levels: int) -> int:
    """Registered levels of `sum_tree` of so many terms.

    >>> [tree_registers(16, levels) for levels in (0, 1, 2, 3)], tree_registers(1, 1)
    ([0, 4, 2, 1], 0)
    """
    return (terms - 1).bit_length() // levels if levels else 0


def accumulate(m: Module, moves: Any, acc: Any, dot: Any, control: Any) -> None:
    """``acc``, an item of ``o.payload``, from a signed dot product; negated if ``control`` still has ``neg``.

    The accumulator is the item: it stays as it is while the item waits, since nothing moves.
    """
    start = Signal.like(acc, name="start")
    m.d.comb += start.eq(Mux(control.first, 0, Mux(control.shift, acc << 1, acc)))
    with m.If(moves), m.If(control.valid):
        if "neg" in control.shape().members:
            m.d.sync += acc.eq(start + (dot ^ control.neg.replicate(len(acc))) + control.neg)
        else:
            m.d.sync += acc.eq(start + dot)


def hand_over(m: Module, moves: Any, pe: Any, control: Any) -> None:
    """``o.valid`` of ``pe`` beside its accumulators."""
    with m.If(moves):
        m.d.sync += pe.o.valid.eq(control.last)
