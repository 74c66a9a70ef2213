"""What a term's expressions can make, whatever the bits of the planes that are stored.

A four-bit float read as an integer of five planes has 15 values, not 32; a mask ``n & ~c`` keeps no column
that the pattern ``n`` leaves out. Both follow from the expressions alone, by trying all combinations of bits.
"""

from __future__ import annotations

import re
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from algo.bitplane import expression, words
from algo.bitplane.format import Digit
from algo.bitplane.matrix import PackedMatrix, Term
from algo.bitplane.planes import Pattern
from hw.spec import Segment

MOST_PLANES = 12  #: stored planes of a term; for more, nothing is tried

_PAIRED = re.compile(rf"\b({'|'.join(expression.PAIRS)})\b")


@lru_cache(maxsize=256)
def digits(term: Term) -> tuple[int, ...]:
    """Integers that the term's planes make where its mask is set, ascending; () if all that its places do."""
    tried = tables((*term.planes, *(() if term.mask is None else (term.mask,))))
    if tried is None:
        return ()
    made = np.zeros(tried.shape[1], np.int64)
    for coef, bits in zip(term.coefs, tried, strict=False):
        made += coef * term.digit.of(bits)
    found = tuple(np.unique(made if term.mask is None else made[tried[-1]]).tolist())
    free = Segment(columns=0, weight=term.coefs, activation=(), w_bipolar=term.digit is Digit.BIPOLAR)
    return () if found == free.w_digits else found


def kept(matrix: PackedMatrix, mask: str | None) -> tuple[int, int]:
    """The N:M pattern that columns on ``mask`` keep to in every group, as (N, M); (1, 1) if there is none.

    One whose blocks the groups of the matrix cut is none: a piece of a block may hold all that it keeps.
    """
    found = [(1, 1)]
    if mask is None:
        return found[0]
    for name in expression.plane_names(mask):
        plane = matrix.planes[name]
        if isinstance(plane, Pattern) and plane.kept and (matrix.groups == 1 or matrix.group % plane.of == 0):
            tried = tables((mask, name))
            if tried is not None and not np.any(tried[0] & ~tried[1]):
                found.append((plane.kept, plane.of))
    return min(found, key=lambda pattern: pattern[0] / pattern[1])


def tables(texts: tuple[str, ...]) -> NDArray[np.bool_] | None:
    """Each expression for every combination of the stored planes' bits, [texts, combinations].

    None if there are too many planes, or one takes bits of its neighbours.
    """
    names = sorted({name for text in texts for name in expression.plane_names(text)})
    if len(names) > MOST_PLANES or any(_PAIRED.search(text) for text in texts):
        return None
    combinations = np.arange(1 << len(names))
    planes = {name: words.pack((combinations >> at & 1).astype(np.bool_)) for at, name in enumerate(names)}
    valid = words.valid(len(combinations))
    found = [expression.evaluate(text, planes, valid) for text in texts]
    return words.unpack(np.stack(found), len(combinations))
