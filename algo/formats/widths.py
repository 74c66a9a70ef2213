"""Widths of accumulators that hold every dot product: exact, and by the closed forms that were published."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

_CODE = re.compile(r"(int(?P<bits>\d+)|e(?P<exponent>\d)m(?P<mantissa>\d))")


def exact(first: Iterable[int], second: Iterable[int], count: int) -> int:
    """Bits, sign included, of a sum of ``count`` products of integers of two value sets: no more are needed.

    >>> exact(range(-7, 8), range(-7, 8), 4096)
    19
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, not {count!r}")
    ends = [(min(values), max(values)) for values in (tuple(first), tuple(second))]
    products = [a * b for a in ends[0] for b in ends[1]]
    low, high = min(*products, 0) * count, max(*products, 0) * count
    return max(high.bit_length(), (-low - 1).bit_length() if low < 0 else 0) + 1


def published(first: str, second: str, count: int) -> int:
    """Bits by the closed form for elements ``intB`` or ``eXmY``, both of one kind.

    Integers: ``a + b + ceil(log2 count) + 1``; floats: ``2**Ea + Ma + 2**Eb + Mb + ceil(log2 count) - 1``.
    Source: Aggarwal et al., Shedding the Bits, arXiv:2311.12359, section 3.

    Raises ValueError for another element, a mixture of both kinds, or a count below 1.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, not {count!r}")
    found = []
    for name in (first, second):
        match = _CODE.fullmatch(name)
        if match is None:
            raise ValueError(f"element must be intB or eXmY, not {name!r}")
        found.append(match)
    if (found[0]["bits"] is None) != (found[1]["bits"] is None):
        raise ValueError(f"elements must be both integers or both floats, not {first!r} and {second!r}")
    terms = math.ceil(math.log2(count))
    if found[0]["bits"] is not None:
        return int(found[0]["bits"]) + int(found[1]["bits"]) + terms + 1
    return sum((1 << int(f["exponent"])) + int(f["mantissa"]) for f in found) + terms - 1


def signed_terms(values: Iterable[int]) -> int:
    """Most signed powers of two that any of the integers takes: non-zero digits of non-adjacent form.

    >>> signed_terms([7, 6, 11])
    3
    """
    return max((abs(v) ^ 3 * abs(v)).bit_count() for v in values)
