"""Sessions by the definition in plain Python, exact but without clocks: a backend as those of the RTL."""

from __future__ import annotations

from hw.accelerator import registers
from hw.accelerator.model import Model, packets_of
from hw.accelerator.session import Outcome, Session
from hw.accelerator.spec import AcceleratorSpec


def run(spec: AcceleratorSpec, session: Session) -> Outcome:
    """Carry out a session; see `hw.accelerator.session.Backend`.

    Registers that tell of clocks read as 0, but for that of the clocks in which the array took a beat.
    """
    model = Model(spec)
    for packet in packets_of(session.words, session.lasts):
        model.packet(packet)
    failed = [completion.error for completion in model.completions if completion.error]
    values = {
        "ERRORS": sum({1 << error for error in failed}),
        "COMPLETED": len(model.completions) - len(failed),
        "FAILED": len(failed),
        "RUN_LO": model.beats & 0xFFFFFFFF,
        "RUN_HI": model.beats >> 32,
    }
    by_offset = {registers.offset(name): value for name, value in values.items()}
    reads = [by_offset.get(offset, 0) for offset, value in session.finish if value is None]
    return Outcome(tiles=model.tiles, reads=reads, clocks=0)
