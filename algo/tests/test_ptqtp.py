"""Two trit planes: a published vector, figures on the normal distribution, plain enumeration."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from algo.bitplane.decode import digits
from algo.bitplane.storage import breakdown
from algo.formats import trits
from algo.methods import ptqtp, ternary

VECTOR = np.array([[0.9, -0.1, 0.05, -1.2, 0.4, 0.0, -0.55, 0.3]])


def test_a_published_vector() -> None:
    scales, errors = ptqtp.fit_scales(VECTOR, 128, 50)
    assert scales[:, 0, 0] == pytest.approx([0.423684, 0.581579], abs=1e-6)
    assert errors[-1] / np.sum(VECTOR**2) == pytest.approx(0.025474, abs=1e-6)
    matrix = ptqtp.quantize(VECTOR).matrix
    trits = [digits(matrix, term)[0].tolist() for term in matrix.terms]
    assert trits == [[1, 1, 0, -1, 1, 0, 0, 1], [1, -1, 0, -1, 0, 0, -1, 0]]


def test_figures_on_normal_weights() -> None:
    weight = np.random.default_rng(0).standard_normal((256, 1280))
    stored = ptqtp.quantize(weight).dequantize()
    assert np.sum((weight - stored) ** 2) / np.sum(weight**2) == pytest.approx(0.0276, abs=5e-4)
    one = ternary.quantize(weight).dequantize()
    assert np.sum((weight - stored) ** 2) < 0.15 * np.sum((weight - one) ** 2)


def slow(part: np.ndarray) -> float:
    """Least squared error of all rounds: nine codes tried for each weight, scales by an inverse."""
    codes = sorted(itertools.product((1, 0, -1), repeat=2), key=lambda c: abs(c[0]) + abs(c[1]))
    planes = np.array([[1, 1] if w >= 0 else [-1, -1] for w in part], float)
    least, alpha = np.inf, np.zeros(2)
    for _ in range(50):
        ridge, gram = 1e-8, planes.T @ planes
        while np.linalg.cond(gram + ridge * np.eye(2)) > 1e6:
            ridge *= 10
        before, alpha = alpha, np.linalg.inv(gram + ridge * np.eye(2)) @ planes.T @ part
        chosen = [min(codes, key=lambda c: (w - c[0] * alpha[0] - c[1] * alpha[1]) ** 2) for w in part]
        planes = np.array(chosen, float)
        least = min(least, float(np.sum((part - planes @ alpha) ** 2)))
        if np.linalg.norm(alpha - before) <= 1e-4 * np.linalg.norm(alpha):
            break
    return least


@pytest.mark.parametrize(("columns", "group"), [(1, 128), (63, 64), (65, 32), (300, 128)])
def test_plain_enumeration_ends_at_the_same_error(columns: int, group: int) -> None:
    weight = np.random.default_rng(columns).standard_normal((4, columns))
    expected = sum(slow(row[s : s + group]) for row in weight for s in range(0, columns, group))
    _, errors = ptqtp.fit_scales(weight, group, 50)
    assert errors[-1] == pytest.approx(expected, rel=1e-9, abs=1e-12)
    stored = ptqtp.quantize(weight, config=ptqtp.Config(group=group)).dequantize()
    assert np.sum((weight - stored) ** 2) == pytest.approx(expected, rel=5e-3, abs=1e-6)


def test_errors_never_rise_from_round_to_round() -> None:
    _, errors = ptqtp.fit_scales(np.random.default_rng(0).standard_t(3, (30, 200)), 77, 50)
    assert np.all(np.diff(errors) <= 0)
    assert errors[-1] < 0.6 * errors[0]


def test_four_plane_bits_are_stored_whatever_a_trit_is_worth() -> None:
    result = ptqtp.quantize(np.random.default_rng(0).standard_normal((32, 2048)))
    assert result.published_bits == pytest.approx(3.17, abs=1e-3)
    assert breakdown(result.matrix) == pytest.approx(
        {"sign planes": 2, "extra planes": 2, "scales": 0.25, "exponents": 16 / 2048}
    )


def test_no_round_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^rounds must be at least 1, not 0$"):
        ptqtp.Config(rounds=0)


@pytest.mark.parametrize(
    ("settings", "error", "planes"),
    [({"planes": 1}, 0.1885, 2), ({"planes": 3}, 0.0051, 6), ({"tied": True}, 0.0285, 4)],
)
def test_one_plane_three_or_a_tied_pair_on_normal_weights(settings, error, planes) -> None:
    weight = np.random.default_rng(0).standard_normal((64, 1280))
    result = ptqtp.quantize(weight, config=ptqtp.Config(**settings))
    found = np.sum((weight - result.dequantize()) ** 2) / np.sum(weight**2)
    assert found == pytest.approx(error, rel=0.03)
    assert len(result.matrix.planes) == planes


@pytest.mark.parametrize("count", [1, 2, 3])
def test_any_number_of_planes_ends_where_plain_alternation_does(count: int) -> None:
    weight = np.random.default_rng(count).standard_normal((3, 70))
    table = sorted(itertools.product((1, 0, -1), repeat=count), key=lambda c: sum(map(abs, c)))
    scales = trits.fit(weight, 64, 50, trits.codes(count))
    for row, (first, end) in itertools.product(range(3), ((0, 64), (64, 70))):
        part, planes, least = weight[row, first:end], None, np.inf
        for _ in range(50):
            if planes is None:
                planes = np.repeat(np.where(weight[row, first:end] >= 0, 1.0, -1.0)[:, None], count, axis=1)
            ridge = 1e-6 * max(np.trace(planes.T @ planes), 1.0)
            alpha = np.linalg.solve(planes.T @ planes + ridge * np.eye(count), planes.T @ part)
            planes = np.array([min(table, key=lambda c: (w - np.dot(alpha, c)) ** 2) for w in part], float)
            least = min(least, float(np.sum((part - planes @ alpha) ** 2)))
        alpha = scales[:, row, first // 64]
        made = sum(min((w - np.dot(alpha, c)) ** 2 for c in table) for w in part)
        assert made == pytest.approx(least, rel=1e-3, abs=1e-9)


def test_a_tied_pair_is_one_integer_of_four_planes() -> None:
    weight = np.random.default_rng(5).standard_normal((5, 130))
    result = ptqtp.quantize(weight, config=ptqtp.Config(tied=True, group=64))
    found = digits(result.matrix, result.matrix.terms[0])
    assert len(result.matrix.terms) == 1
    assert (found.min(), found.max()) == (-4, 4)
    made = result.dequantize()
    for first, end in ((0, 64), (64, 128), (128, 130)):
        for row in range(5):
            part, stored = weight[row, first:end], made[row, first:end]
            scale = np.abs(stored).max() / np.abs(found[row, first:end]).max()
            np.testing.assert_allclose(stored, scale * np.clip(np.rint(part / scale), -4, 4), rtol=1e-12)
    assert np.sum((weight - made) ** 2) < 0.03 * np.sum(weight**2)


def test_weights_of_nothing_but_zeros_stay_zeros() -> None:
    for settings in ({"planes": 1}, {"planes": 3}, {"tied": True}):
        made = ptqtp.quantize(np.zeros((2, 5)), config=ptqtp.Config(**settings)).dequantize()
        np.testing.assert_array_equal(made, 0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"planes": 0}, r"^planes must be at least 1, not 0$"),
        ({"planes": 4}, r"^planes must be at most 3, not 4$"),
        ({"planes": 3, "tied": True}, r"^planes must be 2 where they are tied, not 3$"),
    ],
)
def test_a_number_of_planes_that_is_none_is_refused(settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        ptqtp.Config(**settings)
