"""A complex layer in its real form: what the complex PE computes of the weights is what the judge does."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from algo.bitplane import words
from algo.bitplane.activations import Activations, quantize_activations
from algo.bitplane.build import from_digits
from algo.bitplane.format import Digit
from algo.bitplane.ints import Ints
from algo.bitplane.matrix import PackedMatrix, Term
from algo.bitplane.planes import PerGroup, Plane, gather
from hw.pe.bitserial import BitSerial
from hw.pe.complex import Complex
from hw.spec import Beat
from hw.tests.structure import word
from sim import judge, schedule, tiles
from sim.tests.test_engines import SIGN

BITS = 8


def conjugate_form(axis: np.ndarray, negative: np.ndarray, scales: tuple[int, int]) -> PackedMatrix:
    """``conj(x) q`` for units q, over rows and columns in pairs of real and imaginary part."""
    rows, columns = 2 * axis.shape[0], 2 * axis.shape[1]
    top, left = np.arange(rows) % 2 == 0, np.arange(columns) % 2 == 0
    on = top[:, None] & left

    def stored(bits: np.ndarray):
        return gather(np.kron(bits, np.ones((2, 2), np.bool_)), on, "top & left")

    real, imag = "even(upper(axis))", "even(upper(negative))"
    terms = (
        Term(planes=(f"~({imag} ^ (~top & ~left))",), coefs=(1,), digit=Digit.BIPOLAR, scale="real",
             mask=f"~{real} & ~(top ^ left)"),
        Term(planes=(f"~{imag}",), coefs=(1,), digit=Digit.BIPOLAR, scale="imag",
             mask=f"{real} & (top ^ left)"),
    )  # fmt: skip
    return PackedMatrix(
        rows=rows,
        columns=columns,
        group=columns,
        terms=terms,
        planes={
            "top": PerGroup(top[:, None]),
            "left": Plane(words.pack(left[None]), "masks"),
            "axis": stored(axis),
            "negative": stored(negative),
        },
        ints={n: Ints(np.array([[s]]), 16, True) for n, s in zip(("real", "imag"), scales, strict=True)},
        exponent=Ints(np.zeros((1, 1), np.int64), 4, True),
    )


def items_of_complex_pe(pe: Complex, axis: np.ndarray, negative: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Items [row, axis, part] of the definition of the PE, on weights and a token's complex integers."""
    found = np.empty((len(axis), 2, 2), np.int64)
    for row in range(len(axis)):
        for at, mask in enumerate((~axis[row], axis[row])):
            beats = list(beats_of(pe, axis[row], ~negative[row], mask, x))
            found[row, at] = [pe.items(beats, output)[0] for output in (0, 1)]
    return found


def beats_of(pe: Complex, axis: np.ndarray, positive: np.ndarray, mask: np.ndarray, x: np.ndarray):
    parts = [part.astype(np.int64) for part in (x.real, x.imag)]
    chunks = range(0, len(axis), pe.lanes)
    for plane in range(BITS - 1, -1, -1):
        for first in chunks:
            here = slice(first, first + pe.lanes)

            def lanes(*planes: np.ndarray, here: slice = here) -> int:
                cut = [np.asarray(p)[here] for p in planes]
                return word([np.pad(c, (0, pe.lanes - len(c))) for c in cut])

            yield Beat(
                w=lanes(axis, positive),
                x=lanes(*(part >> plane & 1 for part in parts)),
                mask=lanes(mask),
                first=plane == BITS - 1 and first == 0,
                shift=first == 0 and plane < BITS - 1,
                neg=plane == BITS - 1,
                last=plane == 0 and first == chunks[-1],
            )


@pytest.fixture(scope="module")
def layer():
    rng = np.random.default_rng(0)
    axis, negative = rng.random((2, 5, 71)) < 0.5
    x = rng.integers(-128, 128, (3, 71)) + 1j * rng.integers(-128, 128, (3, 71))
    matrix = conjugate_form(axis, negative, (7, 5))
    act = Activations(values=x.view(np.float64).astype(np.int64), bits=BITS, scale=np.ones(3, np.float32))
    return axis, negative, x, matrix, act


def test_the_judge_computes_complex_arithmetic_on_the_real_form(layer):
    axis, negative, x, matrix, act = layer
    q = np.where(axis, 5j, 7) * np.where(negative, -1, 1)
    y = x.conj() @ q.T
    sums = judge.integer_sums(matrix, [act])[0]
    np.testing.assert_array_equal(sums[:, 0::2] + 1j * sums[:, 1::2], y)


def test_the_complex_pe_computes_the_sums_of_the_real_form(layer):
    # The PE multiplies conj(q) x: its imaginary items are those of conj(x) q with the sign turned over.
    axis, negative, x, matrix, act = layer
    pe = Complex(lanes=16, conjugate=True)
    expected = judge.integer_sums(matrix, [act])[0]
    for token in range(3):
        items = items_of_complex_pe(pe, axis, negative, x[token])
        real, imag = np.array([7, 5]) @ items[:, :, 0].T, -np.array([7, 5]) @ items[:, :, 1].T
        np.testing.assert_array_equal(np.stack([real, imag], axis=1).ravel(), expected[token])


def test_a_real_pe_runs_the_real_form_at_four_times_the_lane_beats(layer):
    _, _, _, matrix, act = layer
    pe = BitSerial(lanes=16)
    tokens, rows = np.arange(2), np.arange(matrix.rows)
    work = schedule.work(matrix, [act], pe, tokens, rows)
    items = np.array([pe.items(work.beats.to_list(), 0)]).T
    expected = judge.integer_sums(matrix, [act])[:, tokens][:, :, rows]
    np.testing.assert_array_equal(schedule.assemble(work, items), expected)
    whole = 2 * 71 // 16 + 1
    assert len(work.beats) == 2 * 10 * 2 * whole * BITS
    complex_beats = 2 * 5 * 2 * -(-71 // 16) * BITS
    assert len(work.beats) / complex_beats == pytest.approx(4, rel=0.15)


@pytest.mark.parametrize("conjugate", [False, True])
@pytest.mark.parametrize("bits", [1, 8])
def test_the_schedule_of_complex_rows_assembles_to_the_judges_sums(layer, conjugate, bits):
    *_, matrix, act = layer
    if bits == 1:
        act = quantize_activations(act.values, 1)
    pe = Complex(lanes=16, conjugate=conjugate)
    tokens, rows = np.array([0, 2]), np.array([1, 2, 3, 7, 8])
    work = tiles.work(matrix, [act], pe, tokens, rows)
    beats = work.beats.to_list()
    items = np.array([pe.items(beats, output) for output in (0, 1)]).T
    expected = judge.integer_sums(matrix, [act])[:, tokens][:, :, rows]
    np.testing.assert_array_equal(tiles.assemble(work, items), expected)
    counted = sum(s.count * pe.beats(s) for s in tiles.shape(matrix, bits, 1, pe).segments)
    # Four pairs hold the five rows.
    assert len(beats) == 2 * 4 * counted
    assert tiles.shape(matrix, bits, 3, pe).rows == 5


@pytest.mark.parametrize("algebra", ["conjugate", "plain", "both"])
@pytest.mark.parametrize("group", [142, 32])
def test_either_pe_runs_either_algebra_and_groups(algebra, group):
    rng = np.random.default_rng(3)
    axis, negative = rng.random((2, 2, 71)) < 0.5
    matrix = conjugate_form(axis, negative, (3, -2))
    if algebra != "conjugate":
        imag = "even(upper(negative))"
        plain = (
            replace(matrix.terms[0], planes=(f"~{imag}",)),
            replace(matrix.terms[1], planes=(f"~({imag} ^ (top & ~left))",)),
        )
        matrix = replace(matrix, terms=plain if algebra == "plain" else matrix.terms + plain)
    groups = -(-142 // group)
    scales = {name: Ints(rng.integers(-9, 9, (4, groups)), 16, True) for name in matrix.ints}
    top = PerGroup(np.repeat(matrix.planes["top"].bits, groups, axis=1))
    matrix = replace(matrix, group=group, ints=scales, planes={**matrix.planes, "top": top})
    act = Activations(values=rng.integers(-8, 8, (2, 142)), bits=4, scale=np.ones(2, np.float32))
    for conjugate in (False, True):
        pe = Complex(lanes=10, conjugate=conjugate)
        work = tiles.work(matrix, [act], pe, np.arange(2), np.arange(4))
        items = np.array([pe.items(work.beats.to_list(), output) for output in (0, 1)]).T
        np.testing.assert_array_equal(tiles.assemble(work, items), judge.integer_sums(matrix, [act]))


def test_what_is_no_complex_matrix_is_refused(layer):
    *_, matrix, act = layer
    pe = Complex()
    at = np.zeros(1, np.int64)

    def refused(change: PackedMatrix, message: str, acts: Activations = act) -> None:
        with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
            tiles.work(change, [acts], pe, at, at)

    odd = replace(matrix, terms=(replace(matrix.terms[0], planes=("negative",)),))
    refused(odd, "terms must be of complex units in pairs of rows and columns, not Term(planes=('negative',)")
    whole = replace(matrix, terms=(replace(matrix.terms[0], mask=None),))
    refused(whole, "terms must be of complex units in pairs of rows and columns, not ")
    digits = replace(matrix, terms=(replace(matrix.terms[0], digit=Digit.UNIPOLAR),))
    refused(digits, "terms must each be one sign plane for complex weights, not ")
    signs = np.ones((3, 6), np.int64)
    three = from_digits(SIGN, signs, np.ones((3, 1)))
    acts = Activations(values=signs[:1], bits=8, scale=np.ones(1, np.float32))
    message = "rows, columns and groups must be of whole pairs for complex weights, not 3 x 6 in groups of 6"
    refused(three, message, acts)
    work = tiles.work(matrix, [act], pe, at, at)
    with pytest.raises(ValueError, match=r"^items must be \[2, 2\] for the tile, not \[1, 2\]$"):
        tiles.assemble(work, np.zeros((1, 2), np.int64))
