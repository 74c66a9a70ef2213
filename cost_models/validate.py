"""Published figures beside ours: ``python -m cost_models.validate``; ``--synth`` adds those that synthesize.

A row says how far off we are, not that we are right: conditions differ, and the note says how.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from cost_models import tech as techs
from cost_models.area import pe_area
from hw.pe.bitserial import BitSerial
from hw.spec import Resources, Segment


@dataclass(frozen=True, kw_only=True)
class Row:
    """One published figure and ours."""

    target: str
    published: float
    ours: float
    unit: str
    source: str
    note: str

    @property
    def deviation(self) -> float:
        """Ours over published, less one."""
        return self.ours / self.published - 1


HOROWITZ = "Horowitz, Computing's Energy Problem, ISSCC 2014 (45 nm, 0.9 V)"
STILLMAKER = "Stillmaker and Baas, Integration 58, 2017"


def rows() -> tuple[Row, ...]:
    """The rows that need no tool."""
    return (*_areas(), *_energies(), *_scaling(), _cycles())


def _areas() -> Iterable[Row]:
    for bits, published in ((8, 36.0), (32, 137.0)):
        yield Row(
            target=f"area of a carry-propagate adder, {bits} bits",
            published=published,
            ours=pe_area(Resources(adder_bit=bits), "nangate45").total,
            unit="um2",
            source=HOROWITZ,
            note="ours is the accumulator's share of a whole PE, a coefficient that only sums validate",
        )


def _energies() -> Iterable[Row]:
    tech = techs.load("nangate45")
    multiplier, adder = (tech.constant(key).value for key in ("multiplier_bit", "accumulator_bit"))
    yield Row(
        target="energy of an 8-bit multiplication over a 32-bit addition",
        published=2.0,
        ours=64 * multiplier / (32 * adder),
        unit="1",
        source=HOROWITZ,
        note="ours has the product's registers and a 48-bit sum in it, full-random data and all glitches",
    )
    read = tech.constant("sram_read")
    yield Row(
        target="energy of a 64-bit read of 8 KB",
        published=10.0,
        ours=64 * read.value,
        unit="pJ",
        source=HOROWITZ,
        note="ours: low-operating-power cells by CACTI 7; Horowitz's is a cache",
    )
    yield Row(
        target="external memory over on-chip buffer, per bit",
        published=200 / 6,
        ours=techs.dram("lpddr5").value / read.value,
        unit="1",
        source="Chen et al., Eyeriss, ISCA 2016 (65 nm: buffer 6, DRAM 200, per MAC)",
        note="order of magnitude only: a 108 KB buffer against one 8 KB bank, another DRAM",
    )


def _scaling() -> Iterable[Row]:
    old, new = techs.load("nangate45"), techs.load("asap7")
    yield Row(
        target="area from 45 to 7 nm",
        published=0.059,
        ours=new.constant("area_ge").value / old.constant("area_ge").value,
        unit="1",
        source=STILLMAKER,
        note="two open predictive libraries, not one foundry's roadmap",
    )
    # Both sides to 0.9 and 0.7 V: our 45 nm library runs at 1.1 V, and switching goes with V^2.
    slowed = (0.9 / 1.1) ** 2
    yield Row(
        target="energy from 45 nm, 0.9 V to 7 nm, 0.7 V",
        published=0.057,
        ours=new.constant("operand_toggle").value / (old.constant("operand_toggle").value * slowed),
        unit="1",
        source=STILLMAKER,
        note="a factor of 3 across three generations is the usual disagreement",
    )


def _cycles() -> Row:
    pe = BitSerial(lanes=64)
    planes = [tuple(1 << p for p in range(bits)) for bits in (8, 4)]
    wide, narrow = (pe.beats(Segment(columns=512, weight=p, activation=p)) for p in planes)
    return Row(
        target="beats at 8 by 8 bits over beats at 4 by 4",
        published=4.0,
        ours=wide / narrow,
        unit="1",
        source="Sharify et al., Loom, DAC 2018 (time goes with the product of the precisions)",
        note="an identity: must be exact",
    )


def lut_slope(lanes: Sequence[int] = (32, 64, 128)) -> Row:
    """Look-up tables per lane on 7-series by Yosys, beside BISMO's; about 10 s per width."""
    from amaranth.back import rtlil

    from hw.synth import synthesize

    luts = []
    for n in lanes:
        pe = BitSerial(lanes=n, acc_width=32, levels=3).create()
        luts.append(synthesize(rtlil.convert(pe, name="pe", emit_src=False), "pe", "xilinx").lut)
    slope = float(np.polyfit(lanes, np.array(luts, dtype=float), 1)[0])
    return Row(
        target="look-up tables per lane, 7-series",
        published=2.04,
        ours=slope,
        unit="LUT6",
        source="Umuroglu et al., BISMO, FPL 2018 (AND, count: 2.04 K + 109)",
        note="ours masks and takes digits of either kind: two bits per lane to count instead of one",
    )


def text(found: Iterable[Row]) -> str:
    """Rows as aligned text."""
    lines = [f"{'target':58} {'published':>10} {'ours':>10}  unit   off"]
    for row in found:
        lines.append(
            f"{row.target:58} {row.published:10.4g} {row.ours:10.4g}  {row.unit:5} {row.deviation:+.0%}"
            f"\n    {row.source}\n    {row.note}"
        )
    return "\n".join(lines)


def main(arguments: Iterable[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m cost_models.validate", description=__doc__)
    parser.add_argument("--synth", action="store_true", help="also the rows that synthesize (half a minute)")
    asked = parser.parse_args(None if arguments is None else list(arguments))
    print(text((*rows(), lut_slope()) if asked.synth else rows()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
