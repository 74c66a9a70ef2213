"""What the RTL of every PE has in common: its ports, the control beside the data, stages that move as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from amaranth import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from hw.spec import PeSpec

PORT_BITS = 65_535  #: of a signal in Amaranth's netlists [bits]

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


def require_ports(spec: PeSpec) -> None:
    """Raise ValueError if a port would have more bits than a signal of Amaranth's netlists."""
    beat, item = sum(spec.fields().values()), spec.outputs * spec.acc_width
    if beat > PORT_BITS:
        raise ValueError(f"lanes must leave a beat at most {PORT_BITS} bits, not {beat}")
    if item > PORT_BITS:
        raise ValueError(f"accumulators must have at most {PORT_BITS} bits together, not {item}")


def ports(spec: PeSpec) -> dict[str, Any]:
    """A PE's two streams: ``i`` of beats, ``o`` of items. Raises ValueError as `require_ports`."""
    require_ports(spec)
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


def controls(m: Module, moves: Any, stream_in: Any, layout: data.StructLayout = CONTROL) -> Any:
    """Control of the beat in the first stage; ``last`` is meant for a beat, not for a gap between beats.

    A flag that the beat does not have is 0. `CONTROL_OF_DOT` is the layout of a PE that never negates.
    """
    beat = stream_in.payload
    members = beat.shape().members.keys() & layout.members.keys()
    control = Signal(layout, name="control")
    with m.If(moves):
        m.d.sync += [
            control.valid.eq(stream_in.valid),
            control.last.eq(stream_in.valid & beat.last),
            *(getattr(control, f).eq(getattr(beat, f)) for f in layout.members if f in members - {"last"}),
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


def carried(a: Any, b: Any, carry: Any) -> Any:
    """``a + b + carry`` of two signed values and a bit, on one carry chain."""
    return (Cat(1, a).as_signed() + Cat(carry, b).as_signed())[1:].as_signed()


def paired(terms: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """Half as many terms. A term is a signed value and a bit that is to be added to it: -x is ``(~x, 1)``.

    An adder takes in the bit of one of its terms; that of the other one goes on, so no bit takes an adder.
    """
    sums = [(carried(a, b, c), d) for (a, c), (b, d) in zip(terms[::2], terms[1::2], strict=False)]
    return sums + terms[2 * len(sums) :]


def settled(m: Module, moves: Any, terms: list[tuple[Any, Any]], name: str) -> list[tuple[Any, Any]]:
    """Terms one move later."""
    return [
        (registered(m, moves, t, f"{name}_{k}"), registered(m, moves, c, f"{name}_{k}_carry"))
        for k, (t, c) in enumerate(terms)
    ]


def carry_trees(
    m: Module, moves: Any, trees: list[list[tuple[Any, Any]]], control: Any, levels: int
) -> tuple[list[tuple[Any, Any]], Any]:
    """`sum_tree` of equally many terms each, as `paired` takes them: the last term of each, and the control.

    `carry_cells` counts the cells.
    """
    level = 0
    while len(trees[0]) > 1:
        level += 1
        trees = [paired(terms) for terms in trees]
        if levels and level % levels == 0:
            trees = [settled(m, moves, terms, f"sum{level}") for terms in trees]
            control = registered(m, moves, control, f"control{level}")
    return [terms[0] for terms in trees], control


def carry_tree(
    m: Module, moves: Any, terms: list[tuple[Any, Any]], control: Any, levels: int
) -> tuple[tuple[Any, Any], Any]:
    """`carry_trees` of one tree."""
    [last], control = carry_trees(m, moves, [terms], control, levels)
    return last, control


def carry_cells(terms: int, width: int, levels: int) -> tuple[int, int]:
    """Adder bits and registers of `paired`, `settled` and `carry_trees` of so many terms of a width.

    >>> carry_cells(4, 8, 0), carry_cells(1, 8, 0)
    ((31, 20), (0, 9))
    """
    widths, adders, flops, level = [width] * terms, 0, 0, 0
    while len(widths) > 1 or not level:
        sums = [max(pair) + 1 for pair in zip(widths[::2], widths[1::2], strict=False)]
        adders += sum(sums) + len(sums)
        widths = sums + widths[2 * len(sums) :]
        if not level or (levels and level % levels == 0):
            flops += sum(widths) + len(widths)
        level += 1
    return adders, flops


def chosen(options: list[Any], index: Any) -> Any:
    """The option of this index, the last one past the last, by a tree of two-way selects.

    `selects` counts those that have two different options.
    """
    last, width = options[-1], (len(options) - 1).bit_length()
    options = options + [last] * ((1 << width) - len(options))
    for bit in range(width):
        pairs = zip(options[::2], options[1::2], strict=True)
        options = [Mux(index[bit], b, a) for a, b in pairs]
    return options[0]


def selects(options: int) -> int:
    """Two-way selects of `chosen` among so many.

    >>> [selects(n) for n in (1, 2, 3, 5, 6, 8)]
    [0, 1, 2, 4, 6, 7]
    """
    levels = range(1, (options - 1).bit_length() + 1)
    return sum(-((1 - options) >> level) for level in levels)


def tree_registers(terms: int, levels: int) -> int:
    """Registered levels of `sum_tree` of so many terms.

    >>> [tree_registers(16, levels) for levels in (0, 1, 2, 3)], tree_registers(1, 1)
    ([0, 4, 2, 1], 0)
    """
    return (terms - 1).bit_length() // levels if levels else 0


def tree_widths(terms: int, width: int) -> tuple[tuple[int, ...], ...]:
    """Bits of each term before every level of `sum_tree` of so many terms of a width, and after the last.

    >>> tree_widths(3, 8)
    ((8, 8, 8), (9, 8), (10,))
    """
    levels = [(width,) * terms]
    while len(levels[-1]) > 1:
        before = levels[-1]
        sums = tuple(max(pair) + 1 for pair in zip(before[::2], before[1::2], strict=False))
        levels.append(sums + before[2 * len(sums) :])
    return tuple(levels)


def unread(tree: Sequence[Sequence[int]], levels: int, width: int) -> int:
    """Bits of the register behind a tree, if it has one there, beyond the width that its sum can need.

    >>> unread(((8, 8), (9,)), 1, 8), unread(((8, 8), (9,)), 2, 8)
    (1, 0)
    """
    cut = levels and len(tree) > 1 and (len(tree) - 1) % levels == 0
    return max(0, tree[-1][0] - width) if cut else 0


def accumulate(m: Module, moves: Any, acc: Any, dot: Any, control: Any, carry: Any = None) -> None:
    """``acc``, an item of ``o.payload``, from a signed dot product; negated if ``control`` still has ``neg``.

    ``carry`` is a bit to be added, which a PE that never negates may have.

    The accumulator is the item: it stays as it is while the item waits, since nothing moves.
    """
    start = Signal.like(acc, name="start")
    m.d.comb += start.eq(Mux(control.first, 0, Mux(control.shift, acc << 1, acc)))
    with m.If(moves), m.If(control.valid):
        if "neg" in control.shape().members:
            m.d.sync += acc.eq(start + (dot ^ control.neg.replicate(len(acc))) + control.neg)
        else:
            m.d.sync += acc.eq(start + dot if carry is None else carried(start, dot, carry))


def hand_over(m: Module, moves: Any, pe: Any, control: Any) -> None:
    """``o.valid`` of ``pe`` beside its accumulators."""
    with m.If(moves):
        m.d.sync += pe.o.valid.eq(control.last)
