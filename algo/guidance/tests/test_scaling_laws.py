"""Fits of published losses against the papers' own figures."""

import re

import pytest

from algo.guidance.scaling_laws import PostTrainingFit, TrainingFit

BF16, E4M3, E2M1 = (8, 7), (4, 3), (2, 1)


@pytest.mark.parametrize(
    ("layout", "published", "loss"), [(BF16, 1730e12, 2.5626), (E4M3, 27e12, 2.5631), (E2M1, 0.39e12, 2.5979)]
)
def test_training_turns_worse_where_the_paper_says(layout, published, loss):
    fit = TrainingFit()
    critical = fit.critical_tokens(1e9, *layout, 128)
    assert critical == pytest.approx(published, rel=0.015)
    around = [fit.loss(1e9, critical * factor, *layout, 128) for factor in (0.99, 1.0, 1.01)]
    assert min(around) == around[1]
    assert fit.loss(1e9, 1e11, *layout, 128) == pytest.approx(loss, abs=5e-5)


def test_the_best_layouts_are_the_papers():
    found = {bits: TrainingFit().best_layout(bits) for bits in (4, 5, 6, 7, 8, 16)}
    assert found == {4: (2, 1), 5: (2, 2), 6: (3, 2), 7: (3, 3), 8: (4, 3), 16: (8, 7)}


def test_scales_of_a_channel_cost_more_than_those_of_a_block():
    fit = TrainingFit()
    assert fit.loss(1e9, 1e11, *E2M1, None) > fit.loss(1e9, 1e11, *E2M1, 128)


def test_quantizing_hurts_longer_trained_and_smaller_models_more():
    fit = PostTrainingFit()
    assert fit.rise(7e9, 2e12, 4) == pytest.approx(0.143, abs=5e-4)
    assert fit.rise(7e9, 100e12, 4) == pytest.approx(1.113, abs=5e-4)
    assert fit.rise(7e9, 2e12, 2) == pytest.approx(6.44, abs=5e-3)
    assert fit.rise(7e9, 3e12, 4) > fit.rise(7e9, 2e12, 4) > fit.rise(8e9, 2e12, 4) > fit.rise(8e9, 2e12, 5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: TrainingFit().best_layout(2), "bits must be at least 3, not 2"),
        (lambda: TrainingFit().loss(0, 1, 2, 1, 32), "parameters must be positive, not 0"),
        (lambda: TrainingFit().loss(1, -1, 2, 1, 32), "tokens must be positive, not -1"),
        (lambda: TrainingFit().critical_tokens(1, 2, 1, 1), "block must be at least 2, not 1"),
        (lambda: PostTrainingFit().rise(1, 1, 0), "bits must be positive, not 0"),
    ],
)
def test_what_no_fit_covers_is_refused(call, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call()
