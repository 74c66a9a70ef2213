"""Look-up tables and clocks of the popcount PE, beside BISMO's published fits: the tables of docs/rtl.md.

``tables`` maps to Xilinx 7 series and counts; ``clocks`` places on an ECP5-85F of speed grade 8, operands and
``ready`` coming from registers, so that the first level of logic is timed like every other. From the root:

    python benchmarks/bench_rtl_fpga.py tables --lanes 64 128 256
    python benchmarks/bench_rtl_fpga.py clocks --lanes 64 256 --levels 0 1 2 3 --seeds 1 2 3
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from itertools import product
from typing import Any

from amaranth import Module, Signal
from amaranth.back import rtlil
from amaranth.lib import wiring

from hw import toolchain
from hw.pe.popcount import OPS, Popcount
from hw.pipeline import ports
from hw.popcount.plan import FORMS
from hw.spec import PeSpec
from hw.synth import synthesize

ACC_WIDTH = 32  #: accumulator [bits], that of the published fits

#: Look-up tables of a PE of K lanes with a 32-bit accumulator, as (per lane, constant): the cost models in
#: the code of BISMO (github.com/EECS-NTNU/bismo), first and second generation.
FITS = {"BISMO 1": (2.04, 109.41), "BISMO 2": (1.17, 44.1)}


class Registered(wiring.Component):
    """A PE whose operands, and whose sink's ``ready``, come from registers."""

    def __init__(self, spec: PeSpec) -> None:
        self.spec = spec
        super().__init__(ports(spec))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.pe = pe = self.spec.create()
        beat = Signal(len(self.i.payload.as_value()), reset_less=True)
        valid, ready = Signal(), Signal()
        with m.If(pe.i.ready):
            m.d.sync += [beat.eq(self.i.payload.as_value()), valid.eq(self.i.valid)]
        m.d.sync += ready.eq(self.o.ready)
        m.d.comb += [
            pe.i.payload.as_value().eq(beat),
            pe.i.valid.eq(valid),
            pe.o.ready.eq(ready),
            self.i.ready.eq(pe.i.ready),
            self.o.valid.eq(pe.o.valid),
            self.o.payload.eq(pe.o.payload),
        ]
        return m


def show(cells: Iterable[Any]) -> None:
    """One row of a Markdown table, at once."""
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def head(*names: str) -> None:
    """The names of a table's columns."""
    show(names)
    print("|" + "---|" * len(names), flush=True)


def tables(lanes: list[int], levels: list[int], forms: list[str]) -> None:
    """Look-up tables on Xilinx 7 series."""
    head("form", "op", "lanes", "levels", "latency", "LUT", "FF", "CARRY4", *FITS)
    for form, k, op, cut in product(forms, lanes, OPS, levels):
        spec = Popcount(lanes=k, acc_width=ACC_WIDTH, op=op, levels=cut, form=form, instances=form == "lut6")
        found = synthesize(toolchain.rtlil(spec), "pe", "xilinx")
        fits = (f"{slope * k + constant:.0f}" for slope, constant in FITS.values())
        show([form, op, k, cut, spec.latency(), found.lut, found.flop, found.carry, *fits])


def clocks(lanes: list[int], levels: list[int], seeds: list[int]) -> None:
    """Clock on ECP5, median of the seeds."""
    head("op", "lanes", "levels", "latency", "LUT4", "CCU2C", "FF", "MHz")
    for k, cut in product(lanes, levels):
        spec = Popcount(lanes=k, acc_width=ACC_WIDTH, levels=cut)
        design = rtlil.convert(Registered(spec), name="pe", emit_src=False)
        found = synthesize(design, "pe", "ecp5", place=True, device="85k", speed=8, seeds=seeds)
        clock = found.fmax_note if found.fmax_hz is None else f"{found.fmax_hz / 1e6:.0f}"
        # The registers around the PE are not the PE's: two words, the flags, valid and ready.
        around = 2 * k + len(spec.flags()) + 2
        show([spec.op, k, cut, spec.latency(), found.lut, found.carry, (found.flop or 0) - around, clock])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=("tables", "clocks"))
    parser.add_argument("--lanes", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--levels", type=int, nargs="+", default=[1])
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    chosen = parser.parse_args()
    if chosen.what == "tables":
        tables(chosen.lanes, chosen.levels, chosen.forms)
    else:
        clocks(chosen.lanes, chosen.levels, chosen.seeds)


if __name__ == "__main__":
    main()
