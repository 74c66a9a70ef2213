"""ARB-RC: row and column scales and no mean. A plane of a group is r_i c_j B_ij on the mask.

Source: ARB-LLM, arXiv:2410.03129, section 3.4, released code (1e-8 in the denominators).
"""

from __future__ import annotations

import numpy as np

from algo.tests.reference.primitives import Array, Mask, nearest_codes, sign

EPSILON = 1e-8  #: added to the denominators, as released
Plane = tuple[Array, Array, Array]  #: row scales [rows], column scales [k], signs [rows, k]


def initial(a: Array, mask: Mask) -> Plane:
    """Row scales are mean magnitudes; column scales average magnitude over row scale where that is not 0."""
    rows, columns = a.shape
    r, c = np.zeros(rows), np.zeros(columns)
    for i in range(rows):
        if mask[i].any():
            r[i] = np.abs(a[i, mask[i]]).sum() / mask[i].sum()
    for j in range(columns):
        at = mask[:, j] & (r > 0)
        if at.any():
            c[j] = (np.abs(a[at, j]) / r[at]).sum() / at.sum()
    return r, c, sign(a)


def refit(a: Array, mask: Mask, plane: Plane) -> Plane:
    """Least-squares row scales, then column scales by the new row scales; signs stay."""
    r, c, b = plane
    new_r, new_c = np.zeros(len(r)), np.zeros(len(c))
    for i in range(len(r)):
        on = mask[i]
        cb = c[on] * b[i, on]
        new_r[i] = (cb * a[i, on]).sum() / ((cb**2).sum() + EPSILON)
    for j in range(len(c)):
        on = mask[:, j]
        rb = new_r[on] * b[on, j]
        new_c[j] = (rb * a[on, j]).sum() / ((rb**2).sum() + EPSILON)
    return new_r, new_c, b


def product(plane: Plane) -> Array:
    """r_i c_j B_ij, [rows, k], off the mask too."""
    r, c, b = plane
    return np.outer(r, c) * b


def rc_first(a: Array, mask: Mask, iterations: int) -> Plane:
    """RC1(A, M)."""
    plane = initial(a, mask)
    for _ in range(iterations):
        plane = refit(a, mask, plane)
    return plane


def rc_second(a: Array, mask: Mask, iterations: int) -> tuple[Plane, Plane]:
    """RC2(A, M): two planes, each refitted against what the other leaves, then the nearest codes."""
    one = initial(a, mask)
    two = initial(a - product(one), mask)
    for _ in range(iterations):
        one = refit(a - product(two), mask, one)
        two = refit(a - product(one), mask, two)
        first, second = nearest_codes(a, np.outer(one[0], one[1]), np.outer(two[0], two[1]))
        one, two = (one[0], one[1], first), (two[0], two[1], second)
    return one, two


def arb_rc(a: Array, mask: Mask, order: int, iterations: int) -> Array:
    """Values on the mask, 0 off it."""
    planes = (rc_first(a, mask, iterations),) if order == 1 else rc_second(a, mask, iterations)
    return np.where(mask, sum(product(plane) for plane in planes), 0.0)
