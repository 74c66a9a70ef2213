"""PEs that read weights by integer digit, on matrices of every kind and activations of any width."""

import numpy as np
import pytest

from algo.bitplane.activations import Activations
from algo.bitplane.build import from_digits
from algo.bitplane.format import Digit, Format
from hw.pe.mac import Mac
from hw.pe.planes import PlaneParallel
from hw.pe.selectadd import SelectAdd
from hw.pe.ternary import Ternary
from sim import judge, schedule

PES = [
    Mac(lanes=9, acc_width=24, w_bits=4),
    Mac(lanes=9, acc_width=24, w_bits=4, booth=True),
    SelectAdd(lanes=9, acc_width=24),
    SelectAdd(lanes=9, acc_width=24, ternary=False),
    Ternary(lanes=20, acc_width=24),
    *(
        PlaneParallel(lanes=20, acc_width=24, w_planes=w, x_planes=x)
        for w, x in ((2, 1), (4, 1), (1, 4), (2, 4), (3, 3))
    ),
]
MATRICES = [
    ((1, 2, 4, -8), Digit.UNIPOLAR, range(-8, 8)),
    ((1, 2, 4), Digit.UNIPOLAR, range(8)),
    ((1, 2), Digit.BIPOLAR, range(-3, 4, 2)),
    ((1, -1), Digit.UNIPOLAR, range(-1, 2)),
    ((1, -1, 4, -4), Digit.UNIPOLAR, (-5, -4, -3, -1, 0, 1, 3, 4, 5)),
]


@pytest.mark.parametrize("spec", PES, ids=repr)
@pytest.mark.parametrize(("coefs", "digit", "digits"), MATRICES, ids=str)
def test_a_matrix_of_any_integers_equals_the_judge(spec, coefs, digit, digits):
    rng = np.random.default_rng(3)
    fmt = Format(name="f", digit=digit, coefs=coefs, group=64, published_bits=1.0, source="test")
    matrix, at = from_digits(fmt, rng.choice(digits, (2, 75)), np.ones((2, 2))), np.arange(2)
    for bits in (1, 3, 5, 8):
        most = 1 << bits - 1
        x = rng.choice([-1, 1], (2, 75)) if bits == 1 else rng.integers(-most, most, (2, 75))
        act = Activations(values=x, bits=bits, scale=np.ones(2, np.float32))
        work = schedule.work(matrix, [act], spec, at, at)
        items = np.array(spec.items(work.beats))
        np.testing.assert_array_equal(schedule.assemble(work, items), judge.integer_sums(matrix, [act]))
        if isinstance(spec, Mac):
            assert len(work.beats) == 2 * 2 * (8 + 2)
