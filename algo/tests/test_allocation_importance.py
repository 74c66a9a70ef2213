"""Layer scores on vectors worked by hand, and the ranking policy."""

from __future__ import annotations

import itertools
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from algo.allocation import importance


def test_modification_is_minus_the_cosine() -> None:
    assert importance.modification([1, 2, 3, 4], [2, 1, 0, 4]) == pytest.approx(-0.796819, abs=5e-7)
    assert importance.modification([[1.0, 0.0]], [[-3.0, 0.0]]) == 1.0


def test_modification_is_averaged_over_tokens_and_blind_to_length() -> None:
    x = np.array([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    y = np.array([[5.0, 0.0], [1.0, 0.0], [0.0, 0.0]])  # cosines 1, 0 and, of a vector of zeros, 0
    assert importance.modification(x, y) == pytest.approx(-1 / 3)
    assert importance.modification(7 * x, y) == pytest.approx(-1 / 3)


def test_outlier_share_counts_one_side_with_the_populations_sigma() -> None:
    assert importance.outlier_share([0] * 7 + [1, 2, 5]) == 0.1
    assert importance.outlier_share([-5, -2, -1] + [0] * 7) == 0.0
    # Mean 0.75, sigma 5.87 with n and 6.27 with n - 1: the two sevens lie between.
    assert importance.outlier_share([7, -6, -4, 7, 3, 2, 6, -9]) == 0.25


def test_outlier_share_of_the_normal_and_the_laplace_distribution() -> None:
    rng = np.random.default_rng(0)
    assert importance.outlier_share(rng.normal(3, 2, 400_000)) == pytest.approx(0.1587, abs=0.002)
    assert importance.outlier_share(rng.laplace(-1, 5, 400_000)) == pytest.approx(0.1216, abs=0.002)


@pytest.mark.parametrize("value", [0.0, 0.1, -3.0])
def test_equal_weights_have_no_outlier(value: float) -> None:
    assert importance.outlier_share(np.full((3, 7), value)) == 0.0


def test_occupancy_entropy_in_bits() -> None:
    assert importance.occupancy_entropy([4, 2, 1, 1]) == 1.75
    assert importance.occupancy_entropy([0, 9, 0]) == 0.0
    assert math.copysign(1, importance.occupancy_entropy([9])) == 1
    assert importance.occupancy_entropy([3] * 100) == pytest.approx(6.644, abs=5e-4)


def test_clusters_that_lie_apart_are_found_whatever_the_seed() -> None:
    rng = np.random.default_rng(0)
    sizes = [64, 32, 16, 16]
    centres = 100 * np.eye(5)[:4]
    x = np.concatenate([c + rng.normal(size=(n, 5)) for c, n in zip(centres, sizes, strict=True)])
    x = rng.permutation(x)
    for seed in range(20):
        assert importance.cluster_entropy(x, 4, seed) == 1.75


def test_fewer_distinct_vectors_than_clusters_are_as_many_clusters() -> None:
    x = np.repeat([[0.1, 0.2], [5.0, 1.0]], [6, 2], axis=0)
    expected = -(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25))
    assert importance.cluster_entropy(x, 8) == pytest.approx(expected)
    assert importance.cluster_entropy(np.zeros((5, 3)), 5) == 0.0


def test_a_seed_gives_one_entropy_and_no_sweep_could_improve_its_clusters() -> None:
    x = np.random.default_rng(1).normal(size=(300, 7))
    found = [importance.cluster_entropy(x, 10, seed) for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]
    assert 2.5 < found[0] < math.log2(10)


def test_kendalls_tau_of_rankings_by_number_of_clusters() -> None:
    found = importance.stability(
        {100: [1.0, 2.0, 3.0, 4.0], 50: [1.0, 3.0, 2.0, 4.0], 20: [4.0, 3.0, 2.0, 1.0]}
    )
    assert found == pytest.approx({(20, 50): -2 / 3, (20, 100): -1.0, (50, 100): 2 / 3})


def test_top_layers_keep_the_high_format() -> None:
    scores, sizes = [0.1, 0.9, 0.5, 0.9], [10, 10, 10, 10]
    assert importance.by_rank(scores, sizes, 2, 4, share=0.25).tolist() == [False, True, False, False]
    assert importance.by_rank(scores, sizes, 2, 4, share=0.75).tolist() == [False, True, True, True]
    assert importance.by_rank(scores, sizes, 2, 4, average_bits=3).tolist() == [False, True, False, True]
    assert not importance.by_rank(scores, sizes, 2, 4, share=0).any()
    assert importance.by_rank(scores, sizes, 2, 4, share=1).all()


def test_55_percent_low_layers_are_41_percent_smaller() -> None:
    sizes = [7] * 20
    high = importance.by_rank(range(20), sizes, 1.09, 4.25, share=0.45)
    bits = importance.average(high, sizes, 1.09, 4.25)
    assert bits == pytest.approx(2.51, abs=0.005)
    assert round(100 * (1 - bits / 4.25)) == 41
    assert importance.by_rank(range(20), sizes, 1.09, 4.25, average_bits=bits).tolist() == high.tolist()


@given(
    layers=st.lists(
        st.tuples(st.integers(-5, 5), st.integers(1, 50), st.integers(1, 4), st.integers(4, 9)),
        min_size=1,
        max_size=7,
    ),
    share=st.floats(0, 1),
)
def test_an_average_is_used_up_from_the_top_without_passing_any_over(layers, share: float) -> None:
    scores, sizes, low, high = map(list, zip(*layers, strict=True))
    least, most = (np.dot(sizes, bits) / sum(sizes) for bits in (low, high))
    budget = least + share * (most - least)
    kept = importance.by_rank(scores, sizes, low, high, average_bits=budget)
    assert importance.average(kept, sizes, low, high) <= budget * (1 + 1e-9)
    for a, b in itertools.permutations(range(len(scores)), 2):
        if kept[b] and not kept[a]:
            assert (scores[b], -b) > (scores[a], -a)
    if not kept.all():
        following = max(np.flatnonzero(~kept), key=lambda i: (scores[i], -i))
        more = kept.copy()
        more[following] = True
        assert importance.average(more, sizes, low, high) > budget * (1 - 1e-9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: importance.modification([[1, 2]], [[1, 2, 3]]),
            "inputs and outputs must both be [tokens, width], not [1, 2] and [1, 3]",
        ),
        (
            lambda: importance.modification([[1, np.nan]], [[1, 2]]),
            "inputs and outputs must be finite, not NaN or infinity",
        ),
        (lambda: importance.outlier_share([]), "weight must hold finite numbers, not none, NaN or infinity"),
        (
            lambda: importance.outlier_share([1, np.inf]),
            "weight must hold finite numbers, not none, NaN or infinity",
        ),
        (lambda: importance.occupancy_entropy([0, 0]), "counts must be at least 0 and not all 0, not [0, 0]"),
        (
            lambda: importance.occupancy_entropy([2, -1]),
            "counts must be at least 0 and not all 0, not [2, -1]",
        ),
        (
            lambda: importance.cluster_entropy([1.0, 2.0]),
            "outputs must be finite, [tokens, width], not [2] or NaN or infinity",
        ),
        (
            lambda: importance.cluster_entropy(np.zeros((5, 2)), 6),
            "clusters must be 1 to 5, the tokens there are, not 6",
        ),
        (
            lambda: importance.stability({5: [1, 2]}),
            "by_clusters must hold at least two numbers of clusters, not [5]",
        ),
        (
            lambda: importance.stability({5: [1, 2], 6: [1, 2, 3]}),
            "by_clusters must score the same layers, at least two, not [2, 3] layers",
        ),
        (
            lambda: importance.stability({5: [1], 6: [1]}),
            "by_clusters must score the same layers, at least two, not [1] layers",
        ),
        (
            lambda: importance.by_rank([1, np.nan], [1, 1], 2, 4, share=0.5),
            "scores must be finite and sizes above 0, one each a layer",
        ),
        (
            lambda: importance.by_rank([1], [1], 2, 4),
            "one of share and average_bits must be given, not None and None",
        ),
        (
            lambda: importance.by_rank([1], [1], 2, 4, share=1, average_bits=3),
            "one of share and average_bits must be given, not 1 and 3",
        ),
        (lambda: importance.by_rank([1], [1], 2, 4, share=1.5), "share must be 0 to 1, not 1.5"),
        (lambda: importance.by_rank([1], [1], 4, 2, average_bits=3), "low_bits must be at most high_bits"),
        (
            lambda: importance.by_rank([1], [1], 2, 4, average_bits=1.5),
            "average_bits must be at least 2, not 1.5",
        ),
    ],
)
def test_arrays_and_numbers_that_do_not_fit_are_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call()
