"""What a term's digits and masks can be, against stored codes decoded one by one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algo.bitplane import words
from algo.bitplane.activations import quantize_activations
from algo.bitplane.format import Digit
from algo.bitplane.ints import Ints
from algo.bitplane.matrix import PackedMatrix, Term
from algo.bitplane.planes import Pattern, Plane
from algo.bitplane.tests.strategies import n_of_m
from hw.pe import term as term_pe
from sim import judge, schedule, truth

#: Bits of place 1, 2, 4 and 8 of an E2M1 magnitude over its smallest, from its code's bits.
PLACES = ("m & ~e1", "~e1 & e0 | e1 & ~e0 & m", "e1 & ~e0 | e1 & e0 & m", "e1 & e0")


def plane(bits: np.ndarray) -> Plane:
    return Plane(words.pack(bits.astype(np.bool_)))


def fp4(rows: int, columns: int, seed: int) -> tuple[PackedMatrix, np.ndarray]:
    """A matrix that stores E2M1 codes, and the integers they stand for."""
    m, e0, e1, s = np.random.default_rng(seed).integers(0, 2, (4, rows, columns))
    exponent = 2 * e1 + e0
    magnitude = np.where(exponent == 0, m, (2 + m) << np.maximum(exponent - 1, 0))
    term = Term(
        planes=tuple(f"({text}) & {side}" for text in PLACES for side in ("~s", "s")),
        coefs=tuple(sign << place for place in range(4) for sign in (1, -1)),
        digit=Digit.UNIPOLAR,
        scale="scale",
    )
    matrix = PackedMatrix(
        rows=rows,
        columns=columns,
        group=columns,
        terms=(term,),
        planes={"m": plane(m), "e0": plane(e0), "e1": plane(e1), "s": plane(s)},
        ints={"scale": Ints(np.ones((rows, 1), np.int64), 2, True)},
        exponent=Ints(np.zeros((rows, 1), np.int64), 16, True),
    )
    return matrix, np.where(s, -1, 1) * magnitude


def test_a_floats_planes_make_its_values_and_no_others():
    matrix, values = fp4(9, 70, seed=0)
    assert truth.digits(matrix.terms[0]) == tuple(np.unique(values).tolist())
    assert len(np.unique(values)) == 15
    act = quantize_activations(np.ones((1, 70)))
    assert schedule.segment(matrix, next(schedule.slots(matrix)), act).digits == truth.digits(matrix.terms[0])


def test_a_term_serial_pe_takes_two_beats_for_a_float_of_four_bits():
    matrix, values = fp4(3, 70, seed=1)
    act = quantize_activations(np.random.default_rng(2).normal(size=(2, 70)))
    pe = term_pe.Term(lanes=70, acc_width=24, slots=2)
    work = schedule.work(matrix, [act], pe, np.arange(2), np.arange(3))
    assert len(work.beats) == 2 * 3 * 2
    sums = schedule.assemble(work, np.array(pe.items(work.beats)))
    np.testing.assert_array_equal(sums[0], act.values @ values.T)
    np.testing.assert_array_equal(sums, judge.integer_sums(matrix, [act]))


def term_of(planes: tuple[str, ...], coefs: tuple[int, ...], mask: str | None, digit: Digit) -> Term:
    return Term(planes=planes, coefs=coefs, digit=digit, scale="scale", mask=mask)


@pytest.mark.parametrize(
    ("planes", "coefs", "mask", "digit", "digits"),
    [
        (("a", "b"), (1, 2), None, Digit.UNIPOLAR, ()),
        (("a", "b"), (1, 2), "c", Digit.BIPOLAR, ()),
        (("a", "~a"), (1, 2), None, Digit.UNIPOLAR, (1, 2)),
        (("a", "a"), (1, 2), None, Digit.BIPOLAR, (-3, 3)),
        (("a & b", "a & ~b"), (1, -1), None, Digit.UNIPOLAR, ()),
        (("a & b", "a & ~b"), (1, -1), "a", Digit.UNIPOLAR, (-1, 1)),
        (("a",), (1,), "a & ~a", Digit.UNIPOLAR, ()),
        (("even(a)", "a"), (1, 2), None, Digit.UNIPOLAR, ()),
        (tuple("abcdefghijklm"), (1,) * 13, None, Digit.UNIPOLAR, ()),
    ],
)
def test_digits_follow_from_the_expressions_or_are_all_that_the_places_make(
    planes, coefs, mask, digit, digits
):
    assert truth.digits(term_of(planes, coefs, mask, digit)) == digits


def masked(mask: str | None, columns: int, group: int, seed: int) -> PackedMatrix:
    rng = np.random.default_rng(seed)
    sparse = Pattern.of_bits(n_of_m(rng, 2, columns, 2, 4), 2, 4)
    wide = Pattern.of_bits(n_of_m(rng, 2, columns, 5, 8), 5, 8)
    none = Pattern.of_bits(n_of_m(rng, 2, columns, 0, 3), 0, 3)
    groups = -(-columns // group)
    return PackedMatrix(
        rows=2,
        columns=columns,
        group=group,
        terms=(term_of(("p",), (1,), mask, Digit.BIPOLAR),),
        planes={
            "p": plane(rng.integers(0, 2, (2, columns))),
            "c": plane(rng.integers(0, 2, (1, columns))),
            "n": sparse,
            "v": wide,
            "z": none,
        },
        ints={"scale": Ints(np.ones((2, groups), np.int64), 2, True)},
        exponent=Ints(np.zeros((2, 1), np.int64), 16, True),
    )


@pytest.mark.parametrize(
    ("mask", "kept"),
    [
        (None, (1, 1)),
        ("n", (2, 4)),
        ("v", (5, 8)),
        ("n & ~c", (2, 4)),
        ("~c & (v & p)", (5, 8)),
        ("n & v", (2, 4)),
        ("v & n", (2, 4)),
        ("n | c", (1, 1)),
        ("~n", (1, 1)),
        ("n ^ c", (1, 1)),
        ("even(n)", (1, 1)),
        ("z", (1, 1)),
        ("c", (1, 1)),
    ],
)
def test_a_mask_keeps_to_a_pattern_that_it_never_leaves(mask, kept):
    assert truth.kept(masked(mask, 40, 40, seed=0), mask) == kept


@pytest.mark.parametrize(
    ("group", "kept"), [(4, (2, 4)), (6, (1, 1)), (8, (2, 4)), (39, (1, 1)), (40, (2, 4))]
)
def test_a_pattern_whose_blocks_groups_cut_is_none(group, kept):
    assert truth.kept(masked("n", 40, group, seed=0), "n") == kept


@settings(deadline=None, max_examples=40)
@given(
    mask=st.sampled_from(["n", "n & ~c", "v & c", "n & v"]),
    columns=st.sampled_from([3, 8, 65, 100]),
    seed=st.integers(0, 999),
)
def test_no_block_of_a_group_keeps_more_than_its_pattern_says(mask, columns, seed):
    matrix = masked(mask, columns, min(8, columns), seed)
    keep, of = truth.kept(matrix, mask)
    assert of > 1
    bits = words.unpack(matrix.words_of(mask), columns)
    padded = np.pad(bits, ((0, 0), (0, -columns % of))).reshape(2, -1, of)
    assert padded.sum(axis=2).max() <= keep


def test_the_schedule_says_of_what_pattern_a_slot_is():
    matrix = masked("n & ~c", 40, 40, seed=0)
    act = quantize_activations(np.ones((1, 40)))
    slot = next(schedule.slots(matrix))
    assert schedule.segment(matrix, slot, act).kept == (2, 4)
    cut = replace(matrix, group=10, ints={"scale": Ints(np.ones((2, 4), np.int64), 2, True)})
    assert schedule.segment(cut, replace(slot, group=3), act).kept == (1, 1)
