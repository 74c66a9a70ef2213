"""What the fits of a calibration say of a PE or an array: area by part, look-up tables, clock period."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from statistics import median
from typing import Any

from cost_models.calibration import paths
from cost_models.calibration.designs import family_of
from hw.grid import Grid
from hw.spec import PeSpec, Resources


def group_of(spec: PeSpec) -> str:
    """What is fitted together: a PE of the family, or a kind of it that shares too little with the others."""
    family = family_of(spec)
    if family == "mac" and getattr(spec, "booth", False):
        return "mac booth"
    if family == "popcount" and getattr(spec, "form", "") != "portable":
        return f"popcount {getattr(spec, 'form', '')}"
    return family


def mappings(spec: PeSpec) -> tuple[str, ...]:
    """Mappings that may differ for a PE or an array of it.

    Yosys builds a multiplication of its own as an array of products or, told to, by Booth's digits; it leaves
    those with an operand of under four bits as they are.
    """
    one: Any = core(spec)
    wide = group_of(one) == "mac" and min(one.w_bits, one.act_bits) >= 4
    return ("default", "booth") if wide else ("default",)


def _multiplied(one: Any, mapping: str) -> dict[str, Resources]:
    """Parts of a lane's product that is left to the synthesizer, under a mapping.

    An array has a row for each bit of the narrower operand, and copies of its sign up to the top of the
    product. Booth's digits read two bits of an activation; they make both operands as wide as the wider, an
    even number of bits, and leave the rest to logic optimization: of a digit of copies of the sign, whose
    row is 0, half adders of the sum are left.
    """
    product = one.w_bits + one.act_bits
    ends = {"product sums": Resources(adder_bit=product, flop=product)}
    if mapping == "default":
        few, many = sorted((one.w_bits, one.act_bits))
        rows = (few - 2) * (many - 1)
        signs = sum(product - row for row in range(2, few)) - rows
        return ends | {
            "products": Resources(gate2=few * many),
            "product rows": Resources(full_adder=rows),
            "sign copies": Resources(full_adder=signs),
        }
    width = -(-max(one.w_bits, one.act_bits) // 2) * 2
    short = one.act_bits % 2  # the highest digit is a sign alone
    digits, row = one.act_bits // 2, one.w_bits + 1
    sums = [min(width + 1, product - 2 * digit) for digit in range(1, width // 2)]
    real = digits + short - 1  # sums with a digit of the activation's own
    return ends | {
        "digits": Resources(gate2=3 * (digits + short)),
        "digit rows": Resources(gate2=2, mux2=1) * ((row - 2) * digits),
        "row ends": Resources(gate2=2, mux2=1) * (2 * digits),
        "sign rows": Resources(gate2=2 * row * short),
        "product rows": Resources(full_adder=sum(sums[:real])),
        "idle rows": Resources(half_adder=sum(sums[real:])),
    }


def by_kind(parts: Mapping[str, Resources]) -> dict[str, float]:
    """Counted cells by part and kind, of parts that have any."""
    return {
        f"{part}.{kind}": count
        for part, counted in parts.items()
        for kind, count in asdict(counted).items()
        if count
    }


def fits(content: Mapping[str, Any], spec: PeSpec) -> Mapping[str, Any]:
    """The fits of a PE, by mapping. Raises ValueError if its kind has none."""
    group = group_of(spec)
    if not content["fits"].get(group):
        known = ", ".join(content["fits"])
        raise ValueError(f"pe must be one calibrated for {content['target']} ({known}), not {group!r}")
    found: Mapping[str, Any] = content["fits"][group]
    return found


def area_terms(content: Mapping[str, Any], spec: PeSpec) -> tuple[str, dict[str, float]]:
    """The mapping that is predicted to take the least area, and the area by part and kind under it.

    Flip-flops stand under ``<part>.flop`` with all that their enables take.
    """
    found = fits(content, core(spec))
    options = {
        mapping: priced(
            counted(spec, mapping), found[mapping]["area"]["coefficients"], content["kinds"]["area"]
        )
        for mapping in mappings(spec)
        if mapping in found
    }
    mapping = min(options, key=lambda name: sum(options[name].values()))
    return mapping, options[mapping]


def core(spec: PeSpec) -> PeSpec:
    """The PE of a grid, or the PE itself."""
    return spec.array.pe if isinstance(spec, Grid) else spec


def counted(spec: PeSpec, mapping: str = "default") -> dict[str, float]:
    """Counted cells by part and kind, for area: a counting tree's by where the longest path is."""
    return _split(_cells(spec, mapping), core(spec))


def _cells(spec: PeSpec, mapping: str = "default") -> dict[str, float]:
    """Counted cells by part and kind; of a grid those that a synthesizer leaves."""
    parts = dict(spec.array.parts() if isinstance(spec, Grid) else spec.left())
    one: Any = core(spec)
    if group_of(one) == "mac":
        del parts["product rows"]
        copies = parts.pop("products").flop // one.parts()["products"].flop
        lane = _multiplied(one, mapping)
        parts |= {name: cells * (one.lanes * copies) for name, cells in lane.items()}
    return by_kind(parts)


def _split(counts: dict[str, float], one: PeSpec) -> dict[str, float]:
    """A counting tree's cells under names of their own as far as it is on the longest path."""
    share = paths.tree_leads(one) if "tree.full_adder" in counts else 0.0
    if not share:
        return counts
    found = dict(counts)
    for name, count in counts.items():
        part, _, kind = name.rpartition(".")
        if part in ("tree", "count", "dot") and kind in ("full_adder", "adder_bit", "gate2"):
            found[f"leading {name}"] = count * share
            found[name] = count * (1 - share)
    return {name: count for name, count in found.items() if count}


def tabled(spec: PeSpec) -> dict[str, float]:
    """Counted cells for look-up tables: those of a tree by the levels between its registers, 0, 1 or more.

    Tables are mapped for delay at first: between registers close by they hold less than in a whole tree.
    """
    levels = getattr(core(spec), "levels", None)
    if levels is None:
        return _cells(spec)
    cut = ("whole", "cut", "cut at times")[min(levels, 2)]
    found: dict[str, float] = {}
    for name, count in _cells(spec).items():
        part, _, kind = name.rpartition(".")
        name = f"{part}, {cut}.{kind}" if part in ("tree", "flipped tree") else name
        found[name] = found.get(name, 0.0) + count
    return found


def priced(
    counts: Mapping[str, float], coefficients: Mapping[str, float], kinds: Mapping[str, float]
) -> dict[str, float]:
    """Cost by part and kind. A part that the fit has not seen is priced as its kind, see `of_kinds`."""
    return {
        name: count * (coefficients[name] if name in coefficients else _like(name, kinds))
        for name, count in counts.items()
    }


def _like(name: str, kinds: Mapping[str, float]) -> float:
    return kinds[name] if name in kinds else kinds.get(_kind(name), 0.0)


def of_kinds(fits: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The median coefficient of each kind of cell, over the parts of all fits.

    Registers between the PEs of an array are priced as those of operands in PEs: enabled, and never reset.
    """
    found: dict[str, list[float]] = {}
    for coefficients in fits:
        for name, value in coefficients.items():
            found.setdefault(_kind(name), []).append(value)
            if name == "lanes.flop":
                found.setdefault("network.flop", []).append(value)
    return {kind: float(f"{median(values):.6g}") for kind, values in sorted(found.items())}


def _kind(name: str) -> str:
    return name.rpartition(".")[2]


def lut_terms(content: Mapping[str, Any], spec: PeSpec) -> dict[str, float]:
    """Look-up tables by part and kind."""
    found = fits(content, core(spec))["default"]["lut"]["coefficients"]
    return priced(tabled(spec), found, content["kinds"]["lut"])
