"""Two planes of 0 and 1: a published vector, figures on the normal distribution, plain enumeration."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest

from algo.bitplane import words
from algo.bitplane.storage import breakdown
from algo.methods import db_llm

VECTOR = np.array([-0.9, -0.35, -0.1, 0.1, 0.25, 0.45, 0.55, 0.65, 0.9, 1.3])


def test_planes_of_a_worked_vector() -> None:
    first, second = db_llm.assign(VECTOR, np.full(10, 0.8), np.full(10, -0.4))
    np.testing.assert_array_equal(first, [0, 0, 0, 0, 1, 1, 1, 1, 1, 1])
    np.testing.assert_array_equal(second, [1, 1, 0, 0, 1, 1, 1, 0, 0, 0])
    np.testing.assert_allclose(0.8 * first - 0.4 * second, [-0.4, -0.4, 0, 0, 0.4, 0.4, 0.4, 0.8, 0.8, 0.8])


def test_figures_on_normal_weights() -> None:
    weight = np.random.default_rng(0).standard_normal((4, 100_000))
    first, second = (np.full(weight.shape, scale) for scale in (2.1, -1.05))
    planes = db_llm.assign(weight, first, second)
    assert np.mean((weight - 2.1 * planes[0] + 1.05 * planes[1]) ** 2) == pytest.approx(0.1502, abs=5e-4)
    assert planes[0].mean() == pytest.approx(0.301, abs=2e-3)
    assert planes[1].mean() == pytest.approx(0.543, abs=2e-3)

    result = db_llm.quantize(weight, config=db_llm.Config(group=100_000))
    assert np.mean((weight - result.dequantize()) ** 2) == pytest.approx(0.1385, abs=5e-4)
    scales = [
        np.ldexp(result.matrix.ints[name].values.astype(float), result.matrix.exponent.values).mean()
        for name in ("first_scale", "second_scale")
    ]
    assert scales == pytest.approx([1.918, -1.166], abs=5e-3)


def slow(part: list[float], refit: bool) -> tuple[list[float], float]:
    """Values and squared error of one group: every value tried for every weight, scales by lstsq."""

    def coded(a: float, b: float) -> tuple[list[tuple[int, int]], float]:
        codes = [
            min(itertools.product((1, 0), repeat=2), key=lambda c: abs(w - a * c[0] - b * c[1])) for w in part
        ]
        return codes, sum((w - a * c[0] - b * c[1]) ** 2 for w, c in zip(part, codes, strict=True))

    peak = max(abs(w) for w in part)
    s = min((peak * (i / 40) for i in range(1, 41)), key=lambda s: coded(2 * s, -s)[1])
    a, b = 2 * s, -s
    for _ in range(50 if refit else 0):
        codes, _ = coded(a, b)
        if np.linalg.matrix_rank(np.array(codes)) < 2:
            break
        a, b = np.linalg.lstsq(np.array(codes, float), np.array(part), rcond=None)[0]
    codes, error = coded(a, b)
    return [a * c[0] + b * c[1] for c in codes], error


@pytest.mark.parametrize("refit", [False, True])
@pytest.mark.parametrize(("columns", "group"), [(63, 64), (65, 32), (300, 128)])
def test_plain_enumeration_reaches_the_same_values(columns: int, group: int, refit: bool) -> None:
    weight = np.random.default_rng(columns).standard_normal((4, columns))
    stored = db_llm.quantize(weight, config=db_llm.Config(group=group, refit=refit)).dequantize()
    for i, start in itertools.product(range(4), range(0, columns, group)):
        part = weight[i, start : start + group]
        if len(part) < 4:
            continue
        values, error = slow(part.tolist(), refit)
        assert np.sum((part - stored[i, start : start + group]) ** 2) == pytest.approx(error, rel=2e-3)
        np.testing.assert_allclose(stored[i, start : start + group], values, atol=5e-3)


def test_no_round_of_the_refit_raises_the_error() -> None:
    weight = np.random.default_rng(3).standard_t(3, (20, 130))

    def lost(rounds: int) -> np.ndarray:
        scales = db_llm.fit_scales(weight, 65, rounds)
        spread = scales[:, :, np.arange(130) // 65]
        first, second = db_llm.assign(weight, spread[0], spread[1])
        return np.sum((weight - spread[0] * first - spread[1] * second) ** 2, axis=1)

    errors = [lost(rounds) for rounds in (0, 1, 2, 3, 5, 10, 50)]
    for before, after in itertools.pairwise(errors):
        assert np.all(after <= before * (1 + 1e-12))
    assert errors[-1].sum() < 0.97 * errors[0].sum()


def test_zeros_set_no_bit() -> None:
    matrix = db_llm.quantize(np.zeros((2, 70))).matrix
    assert not any(np.any(words.unpack(matrix.dense(name), 70)) for name in ("first", "second"))


def test_two_planes_and_two_scales_are_two_and_a_half_bits() -> None:
    result = db_llm.quantize(np.random.default_rng(0).standard_normal((32, 2048)))
    assert result.published_bits == 2
    assert breakdown(result.matrix) == pytest.approx(
        {"sign planes": 1, "extra planes": 1, "scales": 0.5, "exponents": 16 / 2048}
    )


def test_a_switch_is_true_or_false() -> None:
    with pytest.raises(TypeError, match=f"^{re.escape('refit must be true or false, not 1')}$"):
        db_llm.Config(refit=1)
