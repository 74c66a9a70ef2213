"""Binarized blocks as the planes and scalars that are stored.

Two zones of one sign plane each are one dense plane pair: with ``a`` and ``mu`` of the high and low zone, the
sign A and the zone bit B (+1 high) as digits, an entry is ``(mu_h + mu_l)/2 + (mu_h - mu_l)/2 B
+ (a_h + a_l)/2 A + (a_h - a_l)/2 (A XNOR B)``: no mask but the column flags, and the third plane is computed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from algo.binarize.zone import Block, Bools, Floats
from algo.bitplane import words
from algo.bitplane.build import exponent_ints, mantissa_ints
from algo.bitplane.format import Digit
from algo.bitplane.matrix import PackedMatrix, Term
from algo.bitplane.planes import Pattern, Plane, Stored, gather
from algo.bitplane.scales import Grid, round_scale

SCALE_FORMAT = "fp16"


def term(
    plane: str, scale: str, offset: str | None = None, mask: str | None = None, col: str | None = None
) -> Term:
    """A sign plane times its scale."""
    return Term(
        planes=(plane,), coefs=(1,), digit=Digit.BIPOLAR, scale=scale, offset=offset, mask=mask, col=col
    )


def two_planes(blocks: Sequence[Block], group: int) -> PackedMatrix:
    """BiLLM and ARB: planes ``sign`` and ``second``, the zone bit or, on salient columns, the second sign.

    With a bitmap on the salient columns their second sign is a plane of those columns alone.
    """
    salient, bitmap = _columns(blocks), blocks[0].low is not None
    planes = _zoned_planes(blocks, "extra planes")
    scalars = [_two_zone_scalars(block) for block in blocks]
    return packed(planes, _BITMAP_TERMS if bitmap else TWO_PLANE_TERMS, scalars, salient.size, group)


TWO_PLANE_TERMS = (
    term("sign", "salient_scale1", "salient_offset", "salient"),
    term("second", "salient_scale2", None, "salient"),
    term("sign", "scale_mean", "offset_mean", "~salient"),
    term("~(sign ^ second)", "scale_difference", None, "~salient"),
    term("second", "offset_difference", None, "~salient"),
)


_BITMAP_TERMS = (
    term("sign", "salient_scale1_mean", "salient_offset_mean", "salient"),
    term("~(sign ^ zone)", "salient_scale1_difference", None, "salient"),
    term("second", "salient_scale2_mean", None, "salient"),
    term("~(second ^ zone)", "salient_scale2_difference", None, "salient"),
    term("zone", "salient_offset_difference", None, "salient"),
    term("sign", "scale_mean", "offset_mean", "~salient"),
    term("~(sign ^ zone)", "scale_difference", None, "~salient"),
    term("zone", "offset_difference", None, "~salient"),
)


def _zoned_planes(blocks: Sequence[Block], zone_role: str) -> dict[str, Stored]:
    """Column flags, signs, and one plane of zones and second signs, or, with a bitmap, one of each."""
    salient, bitmap = _columns(blocks), blocks[0].low is not None
    zone = _wide([block.mask(block.zones[0]) | (block.mask(block.high) & bitmap) for block in blocks])
    second = _wide([block.second for block in blocks])
    planes: dict[str, Stored] = {
        "salient": Plane(words.pack(salient[None]), "masks"),
        "sign": Plane(words.pack(_wide([block.sign for block in blocks]))),
    }
    if bitmap:
        planes["zone"] = Plane(words.pack(zone), zone_role)
        planes["second"] = gather(second, salient[None], "salient", "extra planes")
    else:
        # A second sign on salient columns, else the bit that parts the zones.
        planes["second"] = Plane(words.pack(zone | second), zone_role)
    return planes


def _two_zone_scalars(block: Block) -> dict[str, Floats]:
    high, low = block.zones
    found = _halves("scale", high.scales[0], low.scales[0]) | _halves("offset", high.offset, low.offset)
    top = block.high
    if block.low is None:
        return found | {
            "salient_scale1": top.scales[0],
            "salient_scale2": top.scales[1],
            "salient_offset": top.offset,
        }
    for stage in (0, 1):
        found |= _halves(f"salient_scale{stage + 1}", top.scales[stage], block.low.scales[stage])
    return found | _halves("salient_offset", top.offset, block.low.offset)


def _halves(name: str, high: Floats, low: Floats) -> dict[str, Floats]:
    return {f"{name}_mean": (high + low) / 2, f"{name}_difference": (high - low) / 2}


ROW_COLUMN_TERMS = (
    term("sign", "high_scale", None, "second & ~salient", "column1"),
    term("sign", "low_scale", None, "~second & ~salient", "column2"),
    term("sign", "salient_scale1", None, "salient", "column1"),
    term("second", "salient_scale2", None, "salient", "column2"),
)
_BITMAP_ROW_COLUMN_TERMS = (
    term("sign", "high_scale", None, "zone & ~salient", "column1"),
    term("sign", "low_scale", None, "~zone & ~salient", "column2"),
    term("sign", "salient_high_scale1", None, "zone & salient", "column1"),
    term("second", "salient_high_scale2", None, "zone & salient", "column2"),
    term("sign", "salient_low_scale1", None, "~zone & salient", "low_column1"),
    term("second", "salient_low_scale2", None, "~zone & salient", "low_column2"),
)


def row_column_planes(blocks: Sequence[Block], group: int) -> PackedMatrix:
    """ARB-RC: zones as masks, each with row scales and an activation stream of its column factors.

    Salient columns need two factors (one per sign plane), the others two (one per zone): they share two
    arrays, four with a bitmap.
    """
    salient, bitmap = _columns(blocks), blocks[0].low is not None
    planes = _zoned_planes(blocks, "masks")
    terms = _BITMAP_ROW_COLUMN_TERMS if bitmap else ROW_COLUMN_TERMS
    names = ("salient_high", "salient_low") if bitmap else ("salient",)
    factors = {
        name: np.concatenate([_factor(block, name) for block in blocks]).astype(np.float16)
        for name in dict.fromkeys(term.col for term in terms if term.col)
    }
    scalars = [_row_scalars(block, names) for block in blocks]
    return packed(planes, terms, scalars, salient.size, group, factors)


def _row_scalars(block: Block, names: Sequence[str]) -> dict[str, Floats]:
    found = {"high_scale": block.zones[0].scales[0], "low_scale": block.zones[1].scales[0]}
    for name, zone in zip(names, (block.high, block.low), strict=False):
        if zone is not None:
            found |= {f"{name}_scale{stage + 1}": zone.scales[stage] for stage in (0, 1)}
    return found


def _factor(block: Block, name: str) -> Floats:
    """Column factors [k] of one activation stream."""
    stage = int(name[-1]) - 1
    top = block.low if name.startswith("low_") else block.high
    found = np.ones(block.salient.size)
    for zone, which in ((top, stage), (None if name.startswith("low_") else block.zones[stage], 0)):
        if zone is not None and zone.columns is not None:
            found[zone.at] = zone.columns[which]
    return found


SPARSE_TERMS = (
    term("sign", "salient_scale1", "salient_offset", "keep & salient"),
    term("second", "salient_scale2", None, "keep & salient"),
    term("sign", "outer_scale", "outer_offset", "outer"),
    term("sign", "middle_scale", "middle_offset", "middle"),
    term("sign", "inner_scale", "inner_offset", "keep & ~salient & ~outer & ~middle"),
)


def sparse_planes(blocks: Sequence[Block], group: int, kept: int, of: int) -> PackedMatrix:
    """STBLLM: an N:M pattern, and sign, zone and second planes of the kept entries alone."""
    salient = _columns(blocks)
    keep = _wide([block.keep for block in blocks if block.keep is not None])
    rest, top = keep & ~salient, keep & salient
    outer, middle = (_wide([block.mask(block.zones[at]) for block in blocks]) for at in (0, 1))
    planes: dict[str, Stored] = {
        "keep": Pattern.of_bits(keep, kept, of),
        "salient": Plane(words.pack(salient[None]), "masks"),
        "sign": gather(_wide([block.sign for block in blocks]), keep, "keep"),
        "second": gather(_wide([block.second for block in blocks]), top, "keep & salient", "extra planes"),
        "outer": gather(outer, rest, "keep & ~salient", "masks"),
        "middle": gather(middle, rest, "keep & ~salient", "masks"),
    }
    return packed(planes, SPARSE_TERMS, [_three_zone_scalars(block) for block in blocks], salient.size, group)


def _three_zone_scalars(block: Block) -> dict[str, Floats]:
    found = {
        "salient_scale1": block.high.scales[0],
        "salient_scale2": block.high.scales[1],
        "salient_offset": block.high.offset,
    }
    for name, zone in zip(("outer", "middle", "inner"), block.zones, strict=True):
        found |= {f"{name}_scale": zone.scales[0], f"{name}_offset": zone.offset}
    return found


def _columns(blocks: Sequence[Block]) -> Bools:
    return np.concatenate([block.salient for block in blocks])


def _wide(parts: Sequence[Bools]) -> Bools:
    return np.concatenate(parts, axis=1)


def packed(
    planes: Mapping[str, Stored],
    terms: tuple[Term, ...],
    scalars: Sequence[Mapping[str, Floats]],
    columns: int,
    group: int,
    factors: Mapping[str, np.ndarray] | None = None,
) -> PackedMatrix:
    """Scalars [rows] of each block rounded to their format and put on one grid per row."""
    rounded = {
        name: round_scale(np.stack([part[name] for part in scalars], axis=1), SCALE_FORMAT)
        for name in scalars[0]
    }
    grid = Grid.covering(*rounded.values())
    return PackedMatrix(
        rows=len(grid.exponent),
        columns=columns,
        group=min(group, columns),
        terms=terms,
        planes=planes,
        ints={name: mantissa_ints(grid, values) for name, values in rounded.items()},
        exponent=exponent_ints(grid),
        factors=factors or {},
    )
