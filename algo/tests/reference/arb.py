"""Alternating refined binarization of one group: mean, scales and signs in turns.

Source: ARB-LLM, arXiv:2410.03129, algorithms 1 and 2, released code (the order of the updates).
"""

from __future__ import annotations

from algo.tests.reference.primitives import Array, Mask, by_rows, nearest_codes, sign, stages

EPSILON = 1e-8  #: added to the denominators of the scales, as released


def first_order(entries: Array, iterations: int) -> tuple[float, float, Array]:
    """Mean, scale and signs of one row's entries.

    An iteration takes the mean by the scale and signs before it, the scale by the signs before it.
    """
    ((mean, scale, signs),) = stages(entries, 1)
    for _ in range(iterations):
        mean += (entries - (mean + scale * signs)).sum() / len(entries)
        scale = (signs * (entries - mean)).sum() / ((signs * signs).sum() + EPSILON)
        signs = sign(entries - mean)
    return mean, scale, signs


def second_order(entries: Array, iterations: int) -> tuple[float, float, float, Array, Array]:
    """Mean, two scales, two rows of signs of one row's entries."""
    (mean_one, one, signs_one), (mean_two, two, signs_two) = stages(entries, 2)
    mean = mean_one + mean_two
    for _ in range(iterations):
        mean += (entries - (mean + one * signs_one + two * signs_two)).sum() / len(entries)
        rest = entries - mean
        one = (signs_one * (rest - two * signs_two)).sum() / ((signs_one**2).sum() + EPSILON)
        two = (signs_two * (rest - one * signs_one)).sum() / ((signs_two**2).sum() + EPSILON)
        signs_one, signs_two = nearest_codes(rest, one, two)
    return mean, one, two, signs_one, signs_two


def arb(a: Array, mask: Mask, order: int, iterations: int) -> Array:
    """ARB1 or ARB2 of every row on the mask."""

    def fit(entries: Array) -> Array:
        if order == 1:
            mean, scale, signs = first_order(entries, iterations)
            return mean + scale * signs
        mean, one, two, signs_one, signs_two = second_order(entries, iterations)
        return mean + one * signs_one + two * signs_two

    return by_rows(fit, a, mask)
