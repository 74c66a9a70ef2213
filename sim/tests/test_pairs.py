"""Pairs on the two-plane PE: real binarized matrices sum up to the judge's integers, in fewer beats."""

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from algo.bitplane import family
from algo.bitplane.activations import quantize_activations
from algo.bitplane.format import Digit
from algo.bitplane.tests.strategies import matrices
from algo.formats.quantized import Calibration
from hw import pysim
from hw.pe.bitserial import BitSerial
from hw.pe.twoplane import TwoPlane
from hw.spec import ArraySpec
from sim import judge, pairs, schedule
from sim.tests.test_engines import activations_for

TOKENS, ROWS = np.array([2, 0]), np.array([4, 1, 3])


def quantized(method, **options):
    """A matrix of 171 columns, so a whole group and a short one, by a published method; and activations."""
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((5, 171)) * np.exp(0.4 * rng.standard_normal(171))
    x = rng.standard_normal((400, 171))
    module = family.load("algo.methods", method)
    found = module.quantize(weight, Calibration(2 * x.T @ x, np.ones(171)), module.Config(**options))
    return found.matrix, x[:3]


def activations(matrix, x, bits=8):
    return [quantize_activations(x, bits, None if s is None else matrix.factors[s]) for s in matrix.streams]


def by_definition(spec, work):
    listed = work.beats.to_list()
    return np.array([spec.items(listed, output) for output in range(4)]).T


#: Passes of a group, against the items that one term and one offset at a time take.
METHODS = {
    ("billm", False): (2, 7),
    ("billm", True): (3, 10),
    ("arb", False): (2, 7),
    ("arb-x", False): (2, 7),
    ("arb-rc", False): (2, 4),
    ("arb-rc", True): (4, 6),
    ("stbllm", None): (3, 9),
    ("xnor", None): (1, 2),
}


@pytest.mark.parametrize(("method", "bitmap"), METHODS, ids=str)
@pytest.mark.parametrize("bits", [1, 8])
def test_real_matrices_sum_up_to_the_judges_integers_in_fewer_beats(method, bitmap, bits):
    matrix, x = quantized(method, **({} if bitmap is None else {"cgb": bitmap}))
    acts, spec = activations(matrix, x, bits), TwoPlane(lanes=70)
    work = pairs.work(matrix, acts, spec, TOKENS, ROWS)
    expected = judge.integer_sums(matrix, acts)[:, TOKENS][:, :, ROWS]
    np.testing.assert_array_equal(pairs.assemble(work, by_definition(spec, work)), expected)
    one_by_one = schedule.work(matrix, acts, BitSerial(lanes=70), TOKENS, ROWS)
    passes, items = METHODS[method, bitmap]
    assert len(pairs.passes(matrix)) == passes
    # Two words in the whole group, one in the short one; a bit of its own is read as two.
    assert len(work.beats) == passes * 6 * 3 * max(bits, 2)
    assert len(one_by_one.beats) == items * 6 * 3 * bits
    if bits == 8:
        assert len(work.beats) < len(one_by_one.beats)


def test_the_rtls_items_sum_up_to_the_judges_integers():
    matrix, x = quantized("billm")
    acts, spec = activations(matrix, x), TwoPlane()
    work = pairs.work(matrix, acts, spec, TOKENS[:1], ROWS[:1])
    items = pysim.run(spec, work.beats).items
    expected = judge.integer_sums(matrix, acts)[:, TOKENS[:1]][:, :, ROWS[:1]]
    np.testing.assert_array_equal(pairs.assemble(work, items), expected)


@pytest.mark.parametrize(("method", "ratio"), [("billm", 3.5), ("arb-rc", 2.0), ("stbllm", 3.0)])
def test_an_array_takes_as_many_clocks_less(method, ratio):
    matrix, _ = quantized(method)
    arrays = ArraySpec(pe=TwoPlane()), ArraySpec(pe=BitSerial())
    shapes = pairs.shape(matrix, 8, 100), schedule.shape(matrix, 8, 100)
    two_plane, serial = (
        array.cycles(shape) - array.pe.latency() for array, shape in zip(arrays, shapes, strict=True)
    )
    assert serial == ratio * two_plane


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_any_matrix_of_sign_planes_sums_up_to_the_judges_integers(data):
    matrix = data.draw(matrices())
    signs = tuple(
        replace(t, digit=Digit.BIPOLAR, planes=t.planes[:1], coefs=(1,), zero=None) for t in matrix.terms
    )
    matrix = replace(matrix, terms=signs)
    acts, spec = (
        data.draw(activations_for(matrix)),
        TwoPlane(lanes=data.draw(st.sampled_from([1, 5, 64, 100]))),
    )
    assume(not any(name in repr(signs) for name in ("even", "odd", "upper", "lower")))
    tokens, rows = np.arange(len(acts[0].values))[:2], np.arange(matrix.rows)[:2]
    work = pairs.work(matrix, acts, spec, tokens, rows)
    expected = judge.integer_sums(matrix, acts)[:, tokens][:, :, rows]
    np.testing.assert_array_equal(pairs.assemble(work, by_definition(spec, work)), expected)
    shape = pairs.shape(matrix, acts[0].bits, 1)
    per_output = sum(segment.count * spec.beats(segment) for segment in shape.segments)
    assert len(work.beats) == per_output * len(tokens) * len(rows)


def test_terms_on_masks_without_a_common_entry_share_a_pass_and_others_do_not():
    matrix, _ = quantized("arb-rc")
    sign = matrix.terms[0]
    masks = ("second", None, "salient", "~(second | salient)", "~second")
    passes = pairs.passes(replace(matrix, terms=tuple(replace(sign, mask=m, col=None) for m in masks)))
    assert [len(one.shares) for one in passes] == [2, 1, 1, 1]
    paired = "(second) | (~(second | salient))"
    assert [one.operands.mask for one in passes] == [paired, None, "salient", "~second"]


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("ptqtp", "terms must each be one sign plane to be paired, not Term(planes=('plus1', 'minus1'), "),
        ("rtn", "terms must each be one sign plane to be paired, not Term(planes=('plane0', 'plane1', "),
        ("hbllm", "expressions must join at most 12 planes entry by entry to be paired, not even(haar), "),
    ],
)
def test_a_matrix_of_other_terms_is_refused(method, message):
    matrix, x = quantized(method)
    for refuses in (pairs.passes, lambda m: pairs.work(m, activations(m, x), TwoPlane(), TOKENS, ROWS)):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
            refuses(matrix)


def test_items_that_are_missing_or_may_not_fit_are_refused():
    matrix, x = quantized("xnor")
    work = pairs.work(matrix, activations(matrix, x), TwoPlane(), TOKENS, ROWS)
    with pytest.raises(ValueError, match=r"^items must be \[12, 4\] for the tile, not \[11, 4\]$"):
        pairs.assemble(work, np.zeros((11, 4), np.int64))
    message = "acc_width must be at least 16 for 128 columns of digits -1 to 1 at 8 activation bits, not 15"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        pairs.work(matrix, activations(matrix, x), TwoPlane(acc_width=15), TOKENS, ROWS)
