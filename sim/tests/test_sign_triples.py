"""Two planes and their XOR in one pass: found where it is, the judge's sums, one plane less to read."""

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
from algo.bitplane.planes import Plane
from sim import judge
from sim.kernels import sign_blocks
from sim.kernels.bipolar import upright
from sim.numba_engine import Lowered

THREE = ("a", "b", "~(a ^ b)")


def matrix(rows, columns, group, rng, *, planes=THREE, mask=None, salient=0.1):
    """Terms of signs, one a plane, with a scale a group each, outside a mask that all rows share."""
    group = min(group, columns)
    shape = (rows, -(-columns // group))
    bits = {name: rng.random((rows, columns)) < 0.5 for name in "ab"}
    shared = rng.random((1, columns)) < salient
    terms = tuple(
        Term(planes=(p,), coefs=(1,), digit=Digit.BIPOLAR, scale=f"s{k}", offset=None, mask=mask)
        for k, p in enumerate(planes)
    )
    return PackedMatrix(
        rows=rows,
        columns=columns,
        group=group,
        terms=terms,
        planes={
            **{name: Plane(words.pack(one)) for name, one in bits.items()},
            "shared": Plane(words.pack(shared), "masks"),
        },
        ints={f"s{k}": Ints(rng.integers(-99, 99, shape), 8, True) for k in range(len(planes))},
        exponent=Ints(np.zeros((1, 1), np.int64), 8, True),
    )


@settings(max_examples=30, deadline=None)
@given(
    rows=st.sampled_from([1, 2, 63, 65, 130]),
    columns=st.sampled_from([3, 64, 127, 300, 700]),
    group=st.sampled_from([16, 64, 100, 128]),
    tokens=st.sampled_from([1, 5, 65]),
    mask=st.sampled_from([None, "shared", "~shared"]),
    planes=st.sampled_from([THREE, ("a", "a ^ b", "b"), ("~a", "~b", "a ^ b")]),
    seed=st.integers(0, 2**32 - 1),
)
def test_sums_equal_the_judge_s(rows, columns, group, tokens, mask, planes, seed):
    rng = np.random.default_rng(seed)
    one = matrix(rows, columns, group, rng, planes=planes, mask=mask)
    act = quantize_activations(rng.standard_normal((tokens, columns)), 1)
    made = Lowered.of(one).integer_sums([act], kernel="sign_blocks")
    np.testing.assert_array_equal(made, judge.integer_sums(one, [act]))


@pytest.mark.parametrize(
    ("planes", "found"),
    [
        (THREE, 1),
        (("a", "b", "a ^ b"), 1),
        (("a", "~b", "~(a ^ b)"), 1),
        (("a", "b"), 0),
        (("a", "b", "a & b"), 0),
    ],
)
def test_a_third_plane_that_is_the_xor_of_two_is_not_read(planes, found):
    rng = np.random.default_rng(0)
    one = matrix(70, 300, 64, rng, planes=planes, mask="~shared")
    prepared = sign_blocks.prepare(one, None)
    assert (len(prepared.triples), len(prepared.made)) == (found, found)
    assert len(prepared.laid.operations) == len(planes) - 3 * found


def test_planes_on_different_columns_are_not_taken_together():
    rng = np.random.default_rng(1)
    one = matrix(70, 300, 64, rng, planes=("a", "b", "a ^ b"))
    mixed = replace(one, terms=(*one.terms[:2], replace(one.terms[2], mask="shared")))
    assert sign_blocks.prepare(mixed, None).triples == ()


@pytest.mark.parametrize(
    ("text", "plane", "coef"),
    [
        ("~a", "a", -3),
        ("~(a ^ b)", "a ^ b", -3),
        ("~(a) ^ (b)", "~(a) ^ (b)", 3),
        ("~a ^ b", "~a ^ b", 3),
        ("a", "a", 3),
    ],
)
def test_a_complemented_plane_of_signs_is_the_plane_with_the_opposite_coefficient(text, plane, coef):
    term = Term(planes=(text,), coefs=(3,), digit=Digit.BIPOLAR, scale="s", offset=None, mask=None)
    assert (upright(term).planes, upright(term).coefs) == ((plane,), (coef,))
    bits = Term(planes=(text,), coefs=(3,), digit=Digit.UNIPOLAR, scale="s", offset=None, mask=None)
    assert upright(bits) == bits
