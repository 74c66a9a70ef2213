"""Small floats of a packed matrix as the PE for them reads them: blocks are items, strays are refused."""

import numpy as np
import pytest

from algo.bitplane.activations import Activations
from algo.bitplane.build import from_digits
from algo.bitplane.format import Digit, Format
from hw.pe.minifloat import Code, Minifloat, codes
from sim import judge, schedule


def e2m1_matrix(digits):
    fmt = Format(
        name="e2m1", digit=Digit.UNIPOLAR, coefs=(1, 2, 4, 8, -16), group=32, published_bits=4.25, source="MX"
    )
    return from_digits(fmt, digits, np.ones((len(digits), -(-digits.shape[1] // 32))))


def test_a_block_of_mxfp4_times_integers_or_mxfp4_is_an_item_that_equals_the_judge():
    rng = np.random.default_rng(0)
    grid = np.array(sorted(codes(Code(2, 1))))
    matrix = e2m1_matrix(rng.choice(grid, (3, 75)))
    for spec, bits, range_of in (
        (Minifloat(lanes=9), 8, np.arange(-128, 128)),
        (Minifloat(lanes=9, x_exponent=2, x_mantissa=1), 5, grid),
    ):
        act = Activations(
            values=rng.choice(range_of, (2, 75)),
            bits=bits,
            scale=np.ones(2, np.float32),
            mantissa=rng.integers(1, 200, (2, 3)),
        )
        tokens, rows = np.arange(2), np.arange(3)
        work = schedule.work(matrix, [act], spec, tokens, rows)
        items = np.array(spec.items(work.beats))
        np.testing.assert_array_equal(schedule.assemble(work, items), judge.integer_sums(matrix, [act]))
        assert len(items) == 2 * 3 * 3
        assert len(work.beats) == 2 * 3 * (4 + 4 + 2)


def test_a_digit_or_an_activation_without_a_code_is_refused_by_its_value():
    act = Activations(values=np.array([[1, 2, 3, 7]]), bits=5, scale=np.ones(1, np.float32))
    fours = e2m1_matrix(np.array([[0, 3, 4, 12]]))
    fp4, at = Minifloat(x_exponent=2, x_mantissa=1), np.array([0])
    for refuses in (schedule.check_pe, lambda *given: schedule.work(*given, at, at)):
        for digit in (5, 13, -13):
            with pytest.raises(ValueError, match=rf"^digits must have codes in the PE, not {digit}$"):
                refuses(e2m1_matrix(np.array([[0, digit, 4, 12]])), [act], Minifloat())
        with pytest.raises(ValueError, match=r"^activations must have codes in the PE, not 7$"):
            refuses(fours, [act], fp4)
        refuses(fours, [act], Minifloat())
