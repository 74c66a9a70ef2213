"""Random packed matrices with their meaning kept beside them, entry by entry."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from algo.bitplane import words
from algo.bitplane.format import Digit
from algo.bitplane.ints import Ints
from algo.bitplane.matrix import PackedMatrix, Term
from algo.bitplane.planes import Pattern, Plane, gather

MASKS = (None, "m", "~m", "m & c", "~(m ^ c) & p0", "c", "n", "n & ~c", "even(m)", "lower(n) | odd(p0)")


@st.composite
def matrices(draw) -> PackedMatrix:
    """One to three terms over shared planes; any width, any group, a mask that all rows share."""
    rows, columns = draw(st.integers(1, 5)), draw(st.sampled_from([1, 2, 7, 63, 64, 65, 100, 130]))
    group = draw(st.integers(1, columns))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    groups = -(-columns // group)

    def plane(height: int) -> Plane:
        return Plane(words.pack(rng.random((height, columns)) < draw(st.sampled_from([0.0, 0.3, 1.0]))))

    planes = {"p0": plane(rows), "p1": plane(rows), "m": plane(rows), "c": plane(1)}
    kept, of = draw(st.sampled_from([(2, 4), (4, 8), (5, 8), (0, 3), (3, 3)]))
    keep = n_of_m(rng, rows, columns, kept, of)
    planes["n"] = Pattern.of_bits(keep, kept, of)
    shared = words.unpack(planes["c"].words, columns)
    on, mask = draw(st.sampled_from([("c", shared), ("n", keep), ("n & ~c", keep & ~shared)]))
    planes["g"] = gather(rng.random((rows, columns)) < 0.5, mask, on)
    ints = {
        "s0": Ints(rng.integers(-(2**15), 2**15, (rows, groups)), 16, True),
        "s1": Ints(rng.integers(-(2**15), 2**15, (1, groups)), 16, True),
        "z": Ints(rng.integers(0, 4, (rows, groups)), 2, False),
        "o": Ints(rng.integers(-(2**15), 2**15, (rows, groups)), 16, True),
    }
    factors = {"f": rng.normal(size=columns).astype(np.float32)}
    terms = tuple(_term(draw) for _ in range(draw(st.integers(1, 3))))
    return PackedMatrix(
        rows=rows,
        columns=columns,
        group=group,
        terms=terms,
        planes=planes,
        ints=ints,
        exponent=Ints(rng.integers(-40, 10, (rows, 1)), 16, True),
        row=draw(st.sampled_from([None, rng.normal(size=rows).astype(np.float32)])),
        factors=factors,
        rotate=draw(st.sampled_from([None, *(block for block in (2, 4, 64) if columns % block == 0)])),
    )


def n_of_m(rng: np.random.Generator, rows: int, columns: int, kept: int, of: int) -> np.ndarray:
    """Boolean [rows, columns]: ``kept`` of every ``of`` columns, in a short last group what of them fits."""
    ranks = rng.random((rows, -(-columns // of), of)).argsort(axis=2)
    bits = (ranks < kept).reshape(rows, -1)[:, :columns]
    short = columns % of
    if short:
        bits[:, -short:] = np.arange(short) < min(kept, short)
    return bits


def _term(draw) -> Term:
    planes = draw(
        st.sampled_from(
            [("p0",), ("p0", "p1"), ("p1", "~p0"), ("p0 ^ p1",), ("g", "p1"), ("odd(g)",), ("upper(p0)",)]
        )
    )
    coefs = draw(st.sampled_from([(1, 2), (1, -2), (1, -1), (4, 1)]))[: len(planes)]
    return Term(
        planes=planes,
        coefs=coefs,
        digit=draw(st.sampled_from(Digit)),
        scale=draw(st.sampled_from(["s0", "s1"])),
        mask=draw(st.sampled_from(MASKS)),
        zero=draw(st.sampled_from([None, "z"])),
        offset=draw(st.sampled_from([None, "o"])),
        col=draw(st.sampled_from([None, None, "f"])),
    )
