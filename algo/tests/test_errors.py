"""Error figures by their formulas, and what is refused."""

from __future__ import annotations

import re

import numpy as np
import pytest

from algo.errors import output_error, output_error_by_hessian, weight_error

W = np.array([[3.0, 0.0], [0.0, 4.0]])
Q = np.array([[3.0, 1.0], [0.0, 2.0]])


def test_weight_error_is_the_share_of_energy_lost() -> None:
    assert weight_error(W, Q) == 5 / 25
    assert weight_error(W, W) == 0
    assert weight_error(W, 0 * W) == 1


def test_output_error_weighs_each_input_by_what_comes_through_it() -> None:
    x = np.array([[1.0, 0.0], [1.0, 2.0]])
    # X (W - Q)^T = [[0, 0], [-2, 4]]; X W^T = [[3, 0], [3, 8]]
    assert output_error(x, W, Q) == 20 / 82
    assert output_error([[5.0, 0.0]], W, Q) == 0


def test_the_hessian_gives_the_same_output_error_as_the_activations() -> None:
    rng = np.random.default_rng(0)
    w, x = rng.standard_normal((5, 70)), rng.standard_normal((33, 70))
    q = w + 0.1 * rng.standard_normal((5, 70))
    assert output_error_by_hessian(7 * x.T @ x, w, q) == pytest.approx(output_error(x, w, q), rel=1e-12)
    assert output_error_by_hessian(x.T @ x, w, w) == 0


def test_an_error_of_nothing_is_none_and_an_error_on_nothing_is_infinite() -> None:
    zeros = np.zeros((2, 2))
    assert weight_error(zeros, zeros) == 0
    assert weight_error(zeros, Q) == np.inf
    assert output_error(zeros, W, Q) == 0
    assert output_error_by_hessian(zeros, W, Q) == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: weight_error(W, Q[:1]),
            "weight and quantized must be matrices of one shape, not [2, 2] and [1, 2]",
        ),
        (
            lambda: weight_error(W[0], Q[0]),
            "weight and quantized must be matrices of one shape, not [2] and [2]",
        ),
        (
            lambda: output_error(np.ones((4, 3)), W, Q),
            "activations must have shape [tokens, 2], not [4, 3]",
        ),
        (lambda: output_error(np.ones(2), W, Q), "activations must have shape [tokens, 2], not [2]"),
        (
            lambda: output_error_by_hessian(np.eye(3), W, Q),
            "hessian must have shape [2, 2], not [3, 3]",
        ),
    ],
)
def test_shapes_that_do_not_fit_are_refused(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call()
