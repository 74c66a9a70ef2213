"""Published figures beside the models': what is compared stands in ``targets.toml``, what is computed here.

A row says how far off a model is, not that it is right: conditions differ, and the reason says how. Targets
that stand on the simulator are computed by `planeforge.validation`, which writes the report.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cost_models import fpga
from cost_models import tech as techs
from cost_models.area import pe_area
from cost_models.calibration import store
from cost_models.sparsity import price
from cost_models.sparsity.designs import Datapath
from hw.pe.bitserial import BitSerial
from hw.pe.mac import Mac
from hw.pe.minifloat import Minifloat
from hw.pe.popcount import Popcount
from hw.pe.selectadd import SelectAdd
from hw.spec import PeSpec, Resources, Segment

PATH = Path(__file__).parent / "targets.toml"
CLOSE = 0.15  #: a row further off than this states its reason
_FIELDS = ("section", "target", "published", "said", "unit", "source", "why")

Computed = Mapping[str, Callable[[], float]]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One published figure and the model's."""

    key: str
    section: str
    target: str
    published: float | None  #: None: only `said` is known
    said: str  #: a range or direction, where no figure is published
    ours: float | None  #: None: not computed
    unit: str
    source: str
    why: str  #: the reason where it is far off, or not computed

    @property
    def ratio(self) -> float | None:
        """Ours over published."""
        return None if self.published is None or self.ours is None else self.ours / self.published

    @property
    def far(self) -> bool:
        """Whether it is off by more than `CLOSE`."""
        return self.ratio is not None and abs(self.ratio - 1) > CLOSE


def rows(computed: Computed) -> tuple[Row, ...]:
    """Every target with what is computed for it.

    Raises ValueError for a target that lacks a field or a needed reason, or a computation without a target.
    """
    targets = tomllib.loads(PATH.read_text(encoding="utf-8"))
    for key in computed:
        if key not in targets:
            raise ValueError(f"computed must be of a target, not {key!r}")
    return tuple(_row(key, entry, computed.get(key)) for key, entry in targets.items())


def _row(key: str, entry: Mapping[str, object], compute: Callable[[], float] | None) -> Row:
    for field in entry:
        if field not in _FIELDS:
            raise ValueError(f"{key} must state only {', '.join(_FIELDS)}, not {field!r}")
    for field in _FIELDS:
        if field not in entry and field not in ("published", "said"):
            raise ValueError(f"{key} must state {field}; it does not")
    published, why = entry.get("published"), str(entry["why"])
    if (published is None) == ("said" not in entry):
        raise ValueError(f"{key} must state one of published and said; it states both or neither")
    if published is not None and not (isinstance(published, float) and published > 0):
        raise ValueError(f"{key}.published must be a positive float, not {published!r}")
    ours = None
    if compute is not None:
        try:
            ours = compute()
        except ValueError as error:
            why = f"not computed: {error}"
    row = Row(
        key=key,
        section=str(entry["section"]),
        target=str(entry["target"]),
        published=published if isinstance(published, float) else None,
        said=str(entry.get("said", "")),
        ours=ours,
        unit=str(entry["unit"]),
        source=str(entry["source"]),
        why=why,
    )
    if (row.ours is None or row.far) and not why:
        raise ValueError(f"{key} must state why it is off by {row.ratio}, or not computed; it does not")
    return row


def models() -> Computed:
    """What the cost models alone compute, by target."""
    return {**_multipliers(), **_energies(), **_cycles(), **_fpgas(), **_memories(), **_sparsity()}


def _area(spec: PeSpec | Resources, tech: str = "nangate45") -> float:
    return pe_area(spec, tech).total


def _multipliers() -> Computed:
    def per_product(bits: int) -> float:
        return _area(Mac(lanes=8, w_bits=bits, act_bits=bits)) / 8

    def minifloat(exponent: int, mantissa: int) -> float:
        spec = Minifloat(
            lanes=8,
            exponent=exponent,
            mantissa=mantissa,
            x_exponent=exponent,
            x_mantissa=mantissa,
            acc_width=48,
        )
        return _area(spec)

    return {
        **{f"bit_fusion_{bits}": partial(per_product, bits) for bits in (2, 4, 8)},
        "bit_fusion_growth": lambda: per_product(8) / per_product(2),
        "adder_8": lambda: _area(Resources(adder_bit=8)),
        "adder_32": lambda: _area(Resources(adder_bit=32)),
        "minifloat_e4m3": lambda: minifloat(4, 3) / _area(Mac(lanes=8)),
        "minifloat_e2m1": lambda: minifloat(2, 1) / _area(Mac(lanes=8, w_bits=4, act_bits=4)),
    }


def _energies() -> Computed:
    def value(tech: str, key: str) -> float:
        return techs.load(tech).constant(key).value

    def nodes() -> float:
        # Both sides to 0.9 and 0.7 V: our 45 nm library runs at 1.1 V, and switching goes with V^2.
        slowed = (0.9 / 1.1) ** 2
        return value("asap7", "operand_toggle") / (value("nangate45", "operand_toggle") * slowed)

    multiplier, adder = "multiplier_bit", "accumulator_bit"
    return {
        "multiplier_8_over_adder_32": lambda: (
            64 * value("nangate45", multiplier) / (32 * value("nangate45", adder))
        ),
        "adder_32_over_8": lambda: 32 * value("nangate45", adder) / (8 * value("nangate45", adder)),
        "tpu_add_8": lambda: 8 * value("asap7", adder),
        "tpu_add_32": lambda: 32 * value("asap7", adder),
        "tpu_mul_8": lambda: 64 * value("asap7", multiplier),
        "node_area": lambda: value("asap7", "area_ge") / value("nangate45", "area_ge"),
        "node_energy": nodes,
    }


def _cycles() -> Computed:
    def beats(w_bits: int, act_bits: int) -> int:
        w, x = (tuple(1 << p for p in range(bits)) for bits in (w_bits, act_bits))
        return BitSerial(lanes=64).beats(Segment(columns=512, weight=w, activation=x))

    return {
        "loom": lambda: beats(8, 8) / beats(4, 4),
        "stripes": lambda: beats(1, 16) / beats(1, 4),
    }


def _fpgas() -> Computed:
    def luts(spec: PeSpec) -> float:
        if "xilinx" not in store.names():
            raise ValueError("7-series has no calibration yet (planeforge calibrate --target xilinx)")
        return fpga.luts(spec, "xilinx").total

    return {
        "finn_luts": lambda: luts(Popcount(lanes=128, op="xor")),
        **{f"bismo_v1_{k}": partial(luts, Popcount(lanes=k)) for k in (64, 256)},
        "bismo_v2_64": lambda: luts(Popcount(lanes=64, form="lut6")),
        "ternfpga": lambda: luts(SelectAdd(lanes=8)),
    }


def _memories() -> Computed:
    def read(tech: str, bits: int) -> float:
        return bits * techs.load(tech).constant("sram_read").value

    return {
        "sram_sg13g2_area": lambda: 65536 * techs.load("sg13g2").constant("sram_area").value * 1e-6,
        "sram_sg13g2_read": lambda: read("sg13g2", 64),
        "sram_horowitz": lambda: read("nangate45", 64),
        "eyeriss": lambda: techs.dram("lpddr5").value / read("nangate45", 1),
    }


def _sparsity() -> Computed:
    def change(columns: int, w: int, x: int, keep: int, of: int, index: str = "beside") -> float:
        sparse = Datapath(columns=columns, w_bits=w, act_bits=x, keep=keep, of=of, index=index)
        return price.verdict(sparse, "nangate45").area.value

    return {
        "sparse_bits": lambda: price.stored_bits(8, 2, 4) / 8,
        "sparse_1_2_4": lambda: change(128, 1, 1, 2, 4),
        "sparse_1_2_4_outside": lambda: change(128, 1, 1, 2, 4, "outside"),
        "sparse_1_4_8": lambda: change(128, 1, 1, 4, 8),
        "sparse_1_1_4": lambda: change(128, 1, 1, 1, 4),
        "sparse_8": lambda: change(16, 8, 8, 2, 4),
        "sparse_w4a8": lambda: change(16, 4, 8, 2, 4),
        "sparse_w2a8": lambda: change(16, 2, 8, 2, 4),
        "sparse_4": lambda: change(16, 4, 4, 2, 4),
    }


def table(found: Iterable[Row]) -> list[str]:
    """Rows as lines of a Markdown table, reasons of far ones below."""
    lines = ["| target | published | model | model / published | source |", "|---|---|---|---|---|"]
    notes = []
    for row in found:
        published = row.said if row.published is None else f"{row.published:g}"
        unit = "" if row.unit == "1" else f" {row.unit}"
        ours = "not computed" if row.ours is None else f"{row.ours:.4g}{unit}"
        ratio = "-" if row.ratio is None else f"{row.ratio:.2f}"
        said = published if row.published is None else published + unit
        lines.append(f"| {row.target} | {said} | {ours} | {ratio} | {row.source} |")
        if row.far:
            notes.append(f"* {row.target}, {(row.ratio or 0) - 1:+.0%}: {row.why}.")
        elif row.ours is None or row.published is None:
            notes.append(f"* {row.target}: {row.why}.")
    return [*lines, *([""] if notes else []), *notes]
