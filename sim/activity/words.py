"""What a product moves on an array of PEs of any kind, from shapes and words alone."""

from __future__ import annotations

from algo.bitplane.matrix import PackedMatrix
from hw.pe.twoplane import TwoPlane
from hw.spec import Activity, ArraySpec, PeSpec, Segment, Shape
from sim import tiles
from sim.activity import traffic
from sim.activity.stretches import check_schedule


def moved(matrix: PackedMatrix, array: ArraySpec, tokens: int, act_bits: int) -> Activity:
    """Clocks, beats, items and bits moved of a product with ``tokens`` tokens; no toggles.

    A beat's weights and stored mask are read from their buffer once for all PEs of a row, its activations
    once for all of a column; a bubble reads nothing. Raises ValueError if the array's schedule is not
    `sim.activity.counting.SCHEDULE`, or the PE cannot compute the product.
    """
    check_schedule(array)
    pe = array.pe
    shape = tiles.shape(matrix, act_bits, tokens, pe)
    rows, columns = traffic.tiles(matrix.rows, pe.rows), traffic.tiles(tokens, pe.tokens)
    row_tiles, token_tiles = traffic.tiles(rows, array.rows), traffic.tiles(columns, array.columns)
    items = rows * columns * sum(segment.count for segment in shape.segments) * pe.outputs
    per_output = sum(segment.count * pe.beats(segment) for segment in shape.segments)
    weights = sum(
        segment.count * _words(segment, pe) * _read(segment, pe, digits)
        for segment, digits in zip(shape.segments, _digits(matrix, shape, pe), strict=True)
    )
    acts = sum(segment.count * _words(segment, pe) for segment in shape.segments) * pe.words()["x"]
    return Activity(
        cycles=array.cycles(shape),
        beats=per_output * rows * columns,
        items=items,
        scale_products=items,
        weight_buffer_bits=(weights * rows + _factors(matrix) * matrix.rows) * token_tiles,
        activation_buffer_bits=acts * columns * row_tiles,
        result_bits=tokens * matrix.rows * traffic.RESULT_BITS,
        dram_bits=traffic.dram_bits(matrix, array, tokens, act_bits),
    )


def _words(segment: Segment, pe: PeSpec) -> int:
    """Beats of an item that bring words."""
    reading = sum(not step.bubble for step in pe.steps(segment))
    return reading * -(-segment.columns // pe.columns(segment))


def _read(segment: Segment, pe: PeSpec, digits: bool) -> int:
    """Bits that a beat reads of the weight buffer."""
    bits = pe.words()
    return digits * bits["w"] + segment.masked * bits.get("mask", 0)


def _digits(matrix: PackedMatrix, shape: Shape, pe: PeSpec) -> list[bool]:
    """Of each segment whether it reads weights: a sum of activations does not."""
    if isinstance(pe, TwoPlane):
        return [True] * len(shape.segments)
    kinds = [
        digits
        for term in matrix.terms
        for digits in ((True,) if term.zero is None and term.offset is None else (True, False))
    ]
    each = len(shape.segments) // len(kinds)
    return [digits for digits in kinds for _ in range(each)]


def _factors(matrix: PackedMatrix) -> int:
    """Bits of a row's scales, zero points and offsets."""
    names = [
        name for term in matrix.terms for name in (term.scale, term.zero, term.offset) if name is not None
    ]
    return sum(round(matrix.groups * matrix.ints[name].stored_bits) for name in names)
