"""Look-up tables and clocks of the popcount PE, beside BISMO's published fits: the tables of docs/rtl.md.

``tables`` maps to Xilinx 7 series and counts; ``clocks`` places on an ECP5-85F of speed grade 8, operands and
``ready`` coming from registers, so that the first level of logic is timed like every other; ``family`` maps
the other PEs to Xilinx 7 series. From the root:

    python benchmarks/bench_rtl_fpga.py tables --lanes 64 128 256
    python benchmarks/bench_rtl_fpga.py clocks --lanes 64 256 --levels 0 1 2 3 --seeds 1 2 3
    python benchmarks/bench_rtl_fpga.py family
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from itertools import product
from typing import Any

from amaranth import Module, Signal
from amaranth.back import rtlil
from amaranth.lib import wiring

from hw import toolchain
from hw.pe.bitserial import BitSerial
from hw.pe.complex import Complex
from hw.pe.fpmac import FpMac
from hw.pe.gather import Gather
from hw.pe.mac import Mac
from hw.pe.minifloat import Minifloat
from hw.pe.planes import PlaneParallel
from hw.pe.popcount import OPS, Popcount
from hw.pe.selectadd import SelectAdd
from hw.pe.table import Table
from hw.pe.term import Term
from hw.pe.ternary import Ternary
from hw.pe.twoplane import TwoPlane
from hw.pipeline import ports
from hw.popcount.plan import FORMS
from hw.spec import PeSpec, Segment
from hw.synth import synthesize

ACC_WIDTH = 32  #: accumulator [bits], that of the published fits

#: Look-up tables of a PE of K lanes with a 32-bit accumulator, as (per lane, constant): the cost models in
#: the code of BISMO (github.com/EECS-NTNU/bismo), first and second generation.
FITS = {"BISMO 1": (2.04, 109.41), "BISMO 2": (1.17, 44.1)}


INT8 = (1, 2, 4, 8, 16, 32, 64, -128)
ONE = Segment(columns=1, weight=(1,), activation=(1,), w_bipolar=True, x_bipolar=True)
SIGNS = replace(ONE, activation=INT8, x_bipolar=False)
TRITS = Segment(columns=1, weight=(1, -1), activation=INT8)
INT4 = Segment(columns=1, weight=(1, 2, 4, -8), activation=INT8)

#: PEs of the family table, each with dot products it is made for.
FAMILY: tuple[tuple[PeSpec, str, Segment], ...] = (
    (BitSerial(), "1 x 1 bit", ONE),
    (BitSerial(), "1 bit x int8", SIGNS),
    (Ternary(), "ternary x 1 bit", replace(TRITS, activation=(1,), x_bipolar=True)),
    (Ternary(), "ternary x int8", TRITS),
    (PlaneParallel(), "int4 x int8", INT4),
    (Gather(keep=2, of=4), "1 bit 2:4 x int8", replace(SIGNS, masked=True, kept=(2, 4))),
    (Gather(keep=4, of=8), "1 bit 4:8 x int8", replace(SIGNS, masked=True, kept=(4, 8))),
    (SelectAdd(lanes=16, ternary=False), "1 bit x int8", SIGNS),
    (SelectAdd(lanes=16), "ternary x int8", TRITS),
    (SelectAdd(lanes=64), "ternary x int8", TRITS),
    (Table(), "1 bit x int8", SIGNS),
    (Term(), "int4 x int8", INT4),
    (Mac(w_bits=4, booth=True), "int4 x int8", INT4),
    (Mac(booth=True), "int8 x int8", replace(INT4, weight=INT8)),
    (Mac(), "int8 x int8", replace(INT4, weight=INT8)),
)
#: PEs that read no planes, by what a lane multiplies each clock.
CODES: tuple[tuple[PeSpec, str], ...] = (
    (TwoPlane(), "two signs x one plane, their sum shared"),
    (Complex(), "{1, -1, i, -i} x one plane"),
    (Minifloat(), "E2M1 x int8"),
    (Minifloat(x_exponent=2, x_mantissa=1), "E2M1 x E2M1"),
    (Minifloat(exponent=4, mantissa=3, acc_width=44), "E4M3 x int8"),
    (FpMac(), "fp16 x fp16, fp32 sum"),
)


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


def family() -> None:
    """Look-up tables of each PE on Xilinx 7 series, and for each product a clock of what it is made for."""
    head(
        "PE", "lanes", "LUT", "FF", "CARRY4", "DSP", "product", "clocks", "columns", "LUT per product a clock"
    )
    for spec, product_of, segment in FAMILY:
        columns = spec.columns(segment)
        clocks = spec.beats(replace(segment, columns=columns))
        found = mapped(spec)
        cost = f"{found.lut * clocks / (columns * spec.rows * spec.tokens):.1f}"
        show([*figures(spec), product_of, clocks, columns, cost])
    for spec, product_of in CODES:
        show([*figures(spec), product_of, 1, spec.lanes, f"{mapped(spec).lut / spec.lanes:.1f}"])


@cache
def mapped(spec: PeSpec) -> Any:
    """A PE on Xilinx 7 series."""
    return synthesize(toolchain.rtlil(spec), "pe", "xilinx")


def figures(spec: PeSpec) -> list[Any]:
    """What a PE takes."""
    found = mapped(spec)
    return [type(spec).__name__, spec.lanes, found.lut, found.flop, found.carry, found.dsp]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=("tables", "clocks", "family"))
    parser.add_argument("--lanes", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--levels", type=int, nargs="+", default=[1])
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    chosen = parser.parse_args()
    if chosen.what == "tables":
        tables(chosen.lanes, chosen.levels, chosen.forms)
    elif chosen.what == "family":
        family()
    else:
        clocks(chosen.lanes, chosen.levels, chosen.seeds)


if __name__ == "__main__":
    main()
