"""The fp16 reference: rounding, and float weights as planes without any rounding."""

from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from algo import checkpoint
from algo.bitplane.activations import quantize_activations
from algo.bitplane.decode import dequantize
from algo.bitplane.storage import stored_bytes
from hw.spec import ArraySpec
from planeforge import reference
from planeforge.demo import assets
from planeforge.hardware import array, pe
from sim import schedule
from sim.activity import activity


def halves(seed, shape, below):
    """fp16 weights of any bit pattern smaller than ``below``, zeros and subnormals among them."""
    codes = np.random.default_rng(seed).integers(0, int(np.float16(below).view(np.uint16)), shape, np.uint16)
    signs = np.random.default_rng(seed + 1).integers(0, 2, shape).astype(np.uint16) << 15
    return (codes | signs).view(np.float16)


@given(
    seed=st.integers(0, 2**32),
    shape=st.tuples(st.integers(1, 5), st.integers(1, 70)),
    acc_width=st.integers(16, 40),
    act_bits=st.integers(1, 8),
)
def test_lowered_planes_stand_for_exactly_the_fp16_weights(seed, shape, acc_width, act_bits):
    # Below 64 all bit patterns together span 30 bits: no accumulator is too narrow for that.
    weight = halves(seed, shape, 64.0 if acc_width < 32 else np.inf)
    matrix = reference.lower(weight, acc_width=acc_width, act_bits=act_bits)
    np.testing.assert_array_equal(dequantize(matrix), weight.astype(np.float64))


@given(seed=st.integers(0, 2**32), act_bits=st.integers(1, 8), acc_width=st.integers(16, 24))
def test_no_item_of_a_lowered_matrix_can_overflow_the_accumulator(seed, act_bits, acc_width):
    spec = pe(f"bitserial:lanes=16,acc_width={acc_width}")
    matrix = reference.lower(halves(seed, (2, 67), 64.0), acc_width=acc_width, act_bits=act_bits)
    acts = [quantize_activations(np.ones((1, 67)), act_bits)]
    # The schedule refuses a matrix whose items might not fit.
    schedule.work(matrix, acts, spec, np.array([0]), np.array([0, 1]))


def test_a_lowered_matrix_has_as_many_planes_as_its_largest_weight_needs_and_a_sign():
    weight = np.array([[1.0, -0.25, 0.0], [0.5, 0.75, -1.25]])
    matrix = reference.lower(weight, acc_width=32, act_bits=8)
    # In quarters: 4, -1, 0, 2, 3, -5, which four bits of two's complement hold and three do not.
    assert list(matrix.planes) == ["bit0", "bit1", "bit2", "bit3"]
    assert len(matrix.terms) == 1
    assert matrix.terms[0].coefs == (1, 2, 4, -8)
    assert set(matrix.exponent.values.flat) == {-2}


def test_planes_are_cut_into_terms_where_the_accumulator_is_narrow():
    weight = np.array([[2.0**-10, 1.0]])
    matrix = reference.lower(weight, acc_width=14, act_bits=8)
    # (2**p - 1) * 128 * 2 must stay below 2**13: five planes at most.
    assert [len(term.planes) for term in matrix.terms] == [4, 4, 4]
    assert [int(matrix.ints[term.scale].values[0, 0]) for term in matrix.terms] == [1, 16, 256]
    np.testing.assert_array_equal(dequantize(matrix), weight)


@given(st.integers(0, 2**32))
def test_integers_are_the_smallest_that_do_it(seed):
    weight = halves(seed, (3, 5), np.inf)
    values, exponent = reference.integers(weight)
    np.testing.assert_array_equal(np.ldexp(values.astype(np.float64), exponent), weight.astype(np.float64))
    assert not np.any(values) or np.any(values % 2)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        ([[np.nan]], "weight must be finite, not NaN or infinity"),
        ([[1.0, 2.0**-70]], "weight must span at most 62 bits from its largest to its smallest, not 71"),
        ([1.0], "weight must have two axes [rows, columns], not shape [1]"),
        ([[1.0, 2.0**-46]], "acc_width must take more than 16 planes a term for 48-bit weights, not 25"),
    ],
)
def test_weights_that_cannot_be_lowered_are_refused(weight, message):
    with pytest.raises(ValueError, match="^" + message.replace("[", r"\[").replace("]", r"\]") + "$"):
        reference.lower(weight, acc_width=25, act_bits=8)


def test_an_accumulator_too_narrow_for_one_plane_is_refused():
    with pytest.raises(ValueError, match=r"^acc_width must be at least 16 for 200 columns, not 12$"):
        reference.lower(np.ones((1, 200)), acc_width=12, act_bits=8)


@pytest.mark.parametrize(("buffer", "fetches"), [(1 << 20, 1), (1, 3)])
def test_fp16_weights_cross_the_memory_port_in_sixteen_bits(buffer, fetches):
    spec = ArraySpec(pe=array().pe, rows=4, columns=2, weight_buffer_bits=buffer)
    weight = np.float16(np.random.default_rng(0).normal(size=(10, 70)))
    matrix = reference.lower(weight, acc_width=32, act_bits=8)
    x = np.random.default_rng(1).normal(size=(5, 70))
    counted = activity(matrix, [quantize_activations(x, 8)], spec)
    stored = reference.as_stored(counted, matrix, spec, 5)
    # Three tiles of two tokens: a tile of rows beyond the buffer is fetched once for each.
    planes = 8 * sum(stored_bytes(matrix).values())
    assert counted.dram_bits - stored.dram_bits == fetches * (planes - 16 * 700)
    assert {k: v for k, v in asdict(stored).items() if k != "dram_bits"} == {
        k: v for k, v in asdict(counted).items() if k != "dram_bits"
    }


@pytest.fixture(scope="module")
def small():
    return checkpoint.load(assets.model(assets.UNIT_TEST_MODEL))


def test_rounding_leaves_the_given_model_alone_and_counts_what_it_changed(small):
    import copy
    from dataclasses import replace

    import torch

    given_model = copy.deepcopy(small.model)
    name, tensor = next(iter(given_model.named_parameters()))
    with torch.no_grad():
        tensor[0, 0] = 1 + 2**-12
    before = {n: t.clone() for n, t in given_model.named_parameters()}
    plain = reference.rounded(small)
    done = reference.rounded(replace(small, model=given_model))
    assert all(torch.equal(t, before[n]) for n, t in given_model.named_parameters())
    after = dict(done.checkpoint.model.named_parameters())
    assert float(after[name][0, 0]) == 1.0
    assert done.changed == plain.changed + 1
    assert done.weights == sum(t.numel() for t in before.values())
    assert done.largest == pytest.approx(2**-12 / float(before[name].abs().max()))
    for n, t in after.items():
        np.testing.assert_array_equal(t.detach().numpy(), before[n].numpy().astype(np.float16))


def test_a_weight_too_large_for_fp16_is_refused(small):
    import copy
    from dataclasses import replace

    import torch

    model = copy.deepcopy(small.model)
    name, tensor = next(iter(model.named_parameters()))
    with torch.no_grad():
        tensor[0, 0] = 70000.0
    with pytest.raises(ValueError, match=rf"^{name} must fit fp16 \(at most 65504\), not 70000\.0$"):
        reference.rounded(replace(small, model=model))
