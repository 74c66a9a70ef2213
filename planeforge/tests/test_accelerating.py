"""Layers on the accelerator: sums equal to the exact integer product, whatever the format and the tiling."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from algo.bitplane import family, words
from algo.bitplane.activations import Activations, quantize_activations
from algo.bitplane.build import from_digits
from algo.bitplane.format import Digit, Format
from algo.bitplane.ints import Ints
from algo.bitplane.matrix import PackedMatrix, Term
from algo.bitplane.planes import Plane
from hw.accelerator import reference, simulate
from hw.accelerator.commands import Load, Opcode, Run
from hw.accelerator.planner import Planner
from hw.accelerator.spec import AcceleratorSpec
from hw.pe.bitserial import BitSerial
from hw.pe.selectadd import SelectAdd
from hw.spec import ArraySpec, PeSpec
from planeforge import accelerating
from sim.integer import integer_sums


def spec_of(lanes: int = 8, rows: int = 2, columns: int = 2, **given: object) -> AcceleratorSpec:
    array = ArraySpec(pe=BitSerial(lanes=lanes, acc_width=22, levels=1), rows=rows, columns=columns)
    depths = {"w_depth": 32, "x_depth": 64, "mask_depth": 16, "scale_depth": 16, "step_depth": 32}
    return AcceleratorSpec(array=array, **depths | given)


def integers(rows: int, columns: int, group: int, *, zero: bool, seed: int = 0) -> PackedMatrix:
    rng = np.random.default_rng(seed)
    fmt = Format(
        name="uint3",
        digit=Digit.UNIPOLAR,
        coefs=(1, 2, 4),
        group=group,
        zero=zero,
        published_bits=3,
        source="test",
    )
    groups = -(-columns // group)
    scale = rng.random((rows, groups)) + 0.05
    zeros = rng.integers(0, 8, (rows, groups)) if zero else None
    return from_digits(fmt, rng.integers(0, 8, (rows, columns)), scale, zeros, scale_bits=12)


def signs(rows: int, columns: int, group: int, seed: int = 1) -> PackedMatrix:
    """Two masked terms of signs, one of them with offsets, on two activation streams."""
    rng = np.random.default_rng(seed)
    groups = -(-columns // group)
    bits = {name: words.pack(rng.random((rows, columns)) < 0.5) for name in ("sign", "zone")}

    def ints() -> Ints:
        return Ints(rng.integers(-2000, 2000, (rows, groups)), 12, signed=True)

    first = Term(planes=("sign",), coefs=(1,), digit=Digit.BIPOLAR, scale="a", mask="zone", offset="c")
    second = replace(first, scale="b", mask="~zone", offset=None, col="f")
    return PackedMatrix(
        rows=rows,
        columns=columns,
        group=group,
        terms=(first, second),
        planes={name: Plane(w, "sign planes") for name, w in bits.items()},
        ints={name: ints() for name in "abc"},
        exponent=Ints(np.zeros((rows, 1), np.int64), 16, signed=True),
        factors={"f": rng.random(columns).astype(np.float32)},
    )


def inputs(matrix: PackedMatrix, tokens: int, bits: int, seed: int = 2) -> list[Activations]:
    rng = np.random.default_rng(seed)
    shape = (tokens, matrix.columns)
    return [quantize_activations(rng.normal(size=shape), bits) for _ in matrix.streams]


CASES = [
    (integers(7, 70, 24, zero=True), 5, 4, spec_of()),
    (integers(3, 100, 100, zero=False), 3, 3, spec_of(lanes=5, rows=3, columns=1, mask_depth=4)),
    (signs(5, 37, 16), 4, 2, spec_of(lanes=7, columns=3, scaling="serial")),
    (signs(4, 20, 20), 3, 1, spec_of(lanes=64)),
]


@pytest.mark.parametrize("case", CASES, ids=["integers", "cut", "signs", "binary"])
def test_sums_are_the_exact_integer_product(case):
    matrix, tokens, bits, spec = case
    activations = inputs(matrix, tokens, bits)
    report = accelerating.sums(matrix, activations, spec, reference.run)
    np.testing.assert_array_equal(report.sums, integer_sums(matrix, activations))


def test_the_rtl_agrees_and_takes_every_beat_once():
    matrix, spec = integers(4, 40, 24, zero=True), spec_of()
    activations = inputs(matrix, 3, 3)
    wanted = accelerating.sums(matrix, activations, spec, reference.run)
    report = accelerating.sums(matrix, activations, spec, simulate.run)
    np.testing.assert_array_equal(report.sums, integer_sums(matrix, activations))
    assert report.beats == wanted.beats > 0
    assert report.clocks > report.beats


def test_group_scales_of_tokens_take_a_mantissa_for_each_column():
    matrix, spec = integers(5, 50, 24, zero=True), spec_of(scale_bits=24)
    rng = np.random.default_rng(3)
    mantissa = rng.integers(1, 60, (4, matrix.groups))
    activations = [replace(inputs(matrix, 4, 4)[0], mantissa=mantissa, in_range=True)]
    report = accelerating.sums(matrix, activations, spec, reference.run)
    np.testing.assert_array_equal(report.sums, integer_sums(matrix, activations))
    opcodes = {c.opcode for c in commands(matrix, activations, spec) if isinstance(c, Load)}
    assert Opcode.LOAD_SCALE in opcodes


def commands(matrix, activations, spec):
    lowering = accelerating.Lowering(matrix, activations, spec)
    return list(Planner(spec, lowering.parts(), len(activations[0].values), matrix.rows).commands())


def test_activations_that_fit_a_half_are_loaded_once_for_all_rows():
    matrix = integers(9, 40, 40, zero=False)
    activations = inputs(matrix, 4, 3)
    few = commands(matrix, activations, spec_of())
    assert sum(c.opcode == Opcode.LOAD_X for c in few if isinstance(c, Load)) == 2  # tiles of tokens
    assert sum(c.opcode == Opcode.LOAD_W for c in few if isinstance(c, Load)) == 10
    many = commands(matrix, activations, spec_of(x_depth=8))
    # Three blocks of a tile of rows, five such tiles, whatever the tokens.
    assert sum(c.opcode == Opcode.LOAD_W for c in many if isinstance(c, Load)) == 15


def test_blocks_of_a_tile_take_turns_with_the_halves():
    matrix = integers(2, 200, 24, zero=False)
    spec = spec_of(x_depth=16, w_depth=16)
    runs = [c for c in commands(matrix, inputs(matrix, 2, 3), spec) if isinstance(c, Run)]
    halves = [run.w_base // spec.w_depth for run in runs]
    assert len(runs) > 3
    assert halves == [at % 2 for at in range(len(runs))]
    assert [run.clear for run in runs] == [True, *[False] * (len(runs) - 1)]
    assert [run.drain for run in runs] == [*[False] * (len(runs) - 1), True]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"scale_bits": 9}, r"^scale_bits must be at least 1\d for the matrix's mantissas, not 9$"),
        ({"sum_bits": 32}, r"^sum_bits must be 64 for exact sums, not 32$"),
        ({"step_depth": 4}, r"^step_depth must be at least 12, not 4$"),
        ({"scale_depth": 1}, r"^scale_depth must be at least 2, not 1$"),
        ({"w_depth": 1}, r"^w_depth must be at least 3, not 1$"),
    ],
)
def test_an_accelerator_that_is_too_small_is_refused(given, message):
    matrix = integers(4, 40, 24, zero=False)
    with pytest.raises(ValueError, match=message):
        accelerating.sums(matrix, inputs(matrix, 2, 4), spec_of(**given), reference.run)


def test_errors_and_lost_tiles_are_reported():
    matrix, spec = integers(2, 20, 20, zero=False), spec_of()
    activations = inputs(matrix, 2, 3)

    def broken(spec, session):
        outcome = reference.run(spec, session)
        return replace(outcome, reads=[1 << 5, *outcome.reads[1:]])

    with pytest.raises(RuntimeError, match=r"^the accelerator must report no error, not address$"):
        accelerating.sums(matrix, activations, spec, broken)

    def forgetful(spec, session):
        outcome = reference.run(spec, session)
        return replace(outcome, tiles=outcome.tiles[1:])

    complaint = "the accelerator must complete 1 runs of 1 tiles, not 1 of 0"
    with pytest.raises(RuntimeError, match=f"^{re.escape(complaint)}$"):
        accelerating.sums(matrix, activations, spec, forgetful)


def on_pe(pe: PeSpec) -> AcceleratorSpec:
    return AcceleratorSpec(
        array=ArraySpec(pe=replace(pe, acc_width=24), rows=2, columns=2), scale_bits=24, w_depth=64
    )


def test_every_pe_that_can_compute_a_matrix_computes_it_here():
    matrices = [integers(3, 21, 16, zero=True), signs(3, 21, 16)]
    ran = set()
    for name in family.names("hw.pe"):
        samples = [pe for pe in family.load("hw.pe", name).SAMPLES if pe.lanes >= 5]
        for pe, matrix, bits in product((samples[0], samples[-1]), matrices, (4, 1)):
            activations = inputs(matrix, 2, bits)
            try:
                report = accelerating.sums(matrix, activations, on_pe(pe), reference.run)
            except ValueError:
                continue  # the PE or the accelerator says that it cannot
            np.testing.assert_array_equal(report.sums, integer_sums(matrix, activations))
            ran.add(name)
    assert ran >= {"bitserial", "mac", "planes", "popcount", "selectadd", "table", "term", "ternary"}


def test_items_that_are_twice_the_dot_product_are_halved_in_the_end():
    matrix = integers(4, 30, 16, zero=True)
    activations = inputs(matrix, 3, 4)
    spec = on_pe(SelectAdd(lanes=21, ternary=False))
    lowering = accelerating.Lowering(matrix, activations, spec)
    assert lowering.divisor == 2
    report = accelerating.sums(matrix, activations, spec, reference.run)
    np.testing.assert_array_equal(report.sums, integer_sums(matrix, activations))
