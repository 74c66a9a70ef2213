"""A PE's waves from its definition alone: what its ports show, clock by clock, as a value change dump.

Values come from `PeSpec.golden`, their clocks from `PeSpec.latency` and the rule that the pipeline moves as
one. Names and times are those of Amaranth's simulator with a clock of 1 us, so that a viewer can lay the
RTL's waves beside them: an edge at 500 ns and every 1000 ns from there.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from hw.beats import Beats
from hw.spec import Beat, PeSpec

PERIOD = 1000  #: of the clock [ns]


@dataclass(frozen=True, kw_only=True)
class Clock:
    """What the ports show during one clock, up to and including its rising edge."""

    offered: bool  #: ``i.valid``
    beat: Beat | None  #: ``i.payload``: the beat offered, or the latest one that was; None before the first
    accepts: bool  #: ``i.ready``
    valid: bool  #: ``o.valid``
    accumulators: tuple[int, ...]  #: ``o.payload``
    takes: bool  #: ``o.ready``


def clocks(
    spec: PeSpec, beats: Beats, offered: Iterable[bool] = (), ready: Iterable[bool] = ()
) -> Iterator[Clock]:
    """The clocks of a run of beats, the last of them the first at which the PE has come to rest.

    Parameters: offered, ready, as `PeSpec.stalled_cycles` takes them.

    Raises ValueError if the beats are of another PE's lanes.
    """
    if beats.lanes != spec.lanes:
        raise ValueError(f"lanes must be {beats.lanes} for the beats, not {spec.lanes!r}")
    queue, offers, takes = iter(beats), iter(offered), iter(ready)
    left = len(beats)
    # Beats on their way to the accumulator, which is the last of the stages.
    pipeline: list[Beat | None] = [None] * (spec.latency() - 1)
    shown: Beat | None = None
    waiting = valid = False
    accumulators = (0,) * spec.outputs
    while True:
        wanted, taken = next(offers, True), next(takes, True)
        if not waiting and left and wanted:
            shown, waiting = next(queue), True
        accepts = taken or not valid
        yield Clock(
            offered=waiting,
            beat=shown,
            accepts=accepts,
            valid=valid,
            accumulators=accumulators,
            takes=taken,
        )
        if not (left or valid or any(pipeline)):
            return
        if accepts:
            *pipeline, arrived = [shown if waiting else None, *pipeline]
            left -= waiting
            waiting = False
            if arrived is not None:
                accumulators = tuple(spec.golden(acc, arrived, k) for k, acc in enumerate(accumulators))
            valid = arrived is not None and arrived.last


def dump(spec: PeSpec, beats: Beats, offered: Iterable[bool] = (), ready: Iterable[bool] = ()) -> str:
    """The text of a VCD file of a run of beats; parameters and errors as `clocks`.

    Raises RuntimeError if pyvcd, which Amaranth brings, is not installed.
    """
    try:
        from vcd import VCDWriter
    except ImportError:
        raise RuntimeError(
            "pyvcd must be installed to write a VCD file: pip install 'planeforge[rtl]'"
        ) from None
    sizes = _sizes(spec)
    text = io.StringIO()
    with VCDWriter(text, timescale="1 ns", comment="planeforge, PE by its definition") as writer:
        # A dot is no part of a plain name.
        named = {name: f"\\{name}" if "." in name else name for name in sizes}
        variables = {
            name: writer.register_var("pe", named[name], "wire", size=size) for name, size in sizes.items()
        }
        shown: dict[str, int] = {}
        for index, clock in enumerate(clocks(spec, beats, offered, ready)):
            # What an edge changes is seen from that edge on; the first clock begins at 0, without an edge.
            begins = index * PERIOD - PERIOD // 2 if index else 0
            values = {"clk": int(index > 0), **_values(spec, clock)}
            for name, value in values.items():
                if shown.get(name) != value:
                    writer.change(variables[name], begins, value)
            shown = values
            if index:
                writer.change(variables["clk"], index * PERIOD, 0)
                shown["clk"] = 0
    return text.getvalue()


def _sizes(spec: PeSpec) -> dict[str, int]:
    """Bits of every wave."""
    fields = {f"i__payload.{name}": bits for name, bits in spec.fields().items()}
    handshakes = dict.fromkeys(("clk", "i__valid", "i__ready", "o__valid", "o__ready"), 1)
    return handshakes | fields | dict.fromkeys(_items(spec), spec.acc_width)


def _items(spec: PeSpec) -> list[str]:
    """Names of the accumulators' waves."""
    return ["o__payload"] if spec.outputs == 1 else [f"o__payload[{k}]" for k in range(spec.outputs)]


def _values(spec: PeSpec, clock: Clock) -> dict[str, int]:
    """A clock's values by wave; an accumulator as the bits of its two's complement."""
    beat = clock.beat or Beat(w=0, x=0)
    bits = [accumulator & ((1 << spec.acc_width) - 1) for accumulator in clock.accumulators]
    return {
        "i__valid": int(clock.offered),
        "i__ready": int(clock.accepts),
        "o__valid": int(clock.valid),
        "o__ready": int(clock.takes),
        **{f"i__payload.{name}": int(getattr(beat, name)) for name in spec.fields()},
        **dict(zip(_items(spec), bits, strict=True)),
    }
