"""Skipped beats against a count entry by entry, and against the integers: skipping must not change a sum."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from algo.bitplane import words
from algo.bitplane.build import from_digits
from algo.bitplane.format import Digit, Format
from algo.bitplane.ints import Ints
from algo.bitplane.matrix import PackedMatrix, Term
from algo.bitplane.planes import Plane
from hw.pe.bitserial import BitSerial
from hw.pe.selectadd import SelectAdd
from hw.pe.table import Table
from hw.spec import ArraySpec, Beat
from sim.cycles import run
from sim.cycles.plan import plan
from sim.cycles.product import Pass, Product, Stored, of_matrix, places
from sim.cycles.skips import Skips

PE = BitSerial(lanes=4, acc_width=24, levels=0)
INT3 = Format(
    name="int3", digit=Digit.UNIPOLAR, coefs=(1, 2, -4), group=10, published_bits=3.0, source="a test's own"
)
GAPPED = replace(INT3, name="gapped", coefs=(1, 8))
ZEROED = replace(INT3, name="zeroed", coefs=(1, 2), zero=True)


def sparse(fmt, seed, rows=7, columns=27):
    """A matrix with whole words, planes and groups of zeros."""
    rng = np.random.default_rng(seed)
    digits = rng.choice(fmt.values(), (rows, columns))
    digits *= np.repeat(rng.integers(0, 2, (rows, -(-columns // 5))), 5, axis=1)[:, :columns]
    digits[: rng.integers(0, rows)] &= ~1 if fmt is INT3 else -1
    groups = -(-columns // fmt.group)
    zero = rng.integers(0, 4, (rows, groups)) if fmt.zero else None
    return from_digits(fmt, digits, np.ones((rows, groups)), zero)


def masked_signs(seed, rows=7, columns=27):
    """Signs on a mask that spares whole words."""
    rng = np.random.default_rng(seed)
    mask = np.repeat(rng.random((rows, -(-columns // 4))) < 0.3, 4, axis=1)[:, :columns]
    planes = {
        "sign": Plane(words.pack(rng.random((rows, columns)) < 0.5)),
        "zone": Plane(words.pack(mask), "masks"),
    }
    ones = Ints(np.ones((rows, 3), np.int64), 16, signed=True)
    return PackedMatrix(
        rows=rows,
        columns=columns,
        group=10,
        terms=(Term(planes=("sign",), coefs=(1,), digit=Digit.BIPOLAR, scale="s", mask="zone", offset="s"),),
        planes=planes,
        ints={"s": ones},
        exponent=Ints(np.zeros((rows, 1), np.int64), 8, signed=True),
    )


def beats_of(matrix, act_bits, rows, first, stop, skip, lanes):
    """Beats of every item of a row tile in a column range, by looking at every entry."""
    found = []
    for term in matrix.terms:
        mask = words.unpack(matrix.words_of(term.mask), matrix.columns)[rows, first:stop]
        bits = [words.unpack(matrix.words_of(t), matrix.columns)[rows, first:stop] for t in term.planes]
        adds = [mask if term.digit is Digit.BIPOLAR else mask & plane for plane in bits]
        kinds = [(adds, term.coefs)]
        if term.zero is not None or term.offset is not None:
            kinds.append(([mask], (1,)))
        for planes, coefs in kinds:
            total, begun = 0, False
            for exponent in reversed(range(20)):
                here = 0
                for plane, coef in zip(planes, coefs, strict=True):
                    for act in places(act_bits):
                        if abs(coef) * abs(act) == 1 << exponent:
                            cut = [plane[:, at : at + lanes].any() for at in range(0, stop - first, lanes)]
                            here += sum(cut) if skip == "words" else len(cut) * any(cut)
                total += here if here or not begun else 1
                begun |= here > 0
            found.append(total)
    return found


MATRICES = [
    *((sparse, fmt) for fmt in (INT3, GAPPED, ZEROED)),
    (lambda _, seed: masked_signs(seed), None),
]


@given(
    st.sampled_from(MATRICES),
    st.integers(0, 30),
    st.sampled_from(["planes", "words"]),
    st.sampled_from([1, 3]),
)
def test_skipped_beats_are_those_an_entry_by_entry_count_spares(kind, seed, skip, act_bits):
    make, fmt = kind
    matrix = make(fmt, seed)
    array = ArraySpec(pe=PE, rows=3, columns=2, skip=skip)
    product = of_matrix(matrix, act_bits, tokens=2)
    pieces = [(0, 10), (10, 18), (20, 27)]
    found = Skips(matrix).work(pieces, product, array)[..., 0]
    for tile, first_row in enumerate(range(0, 7, 3)):
        for at, (first, stop) in enumerate(pieces):
            rows = slice(first_row, first_row + 3)
            assert found[tile, at].tolist() == beats_of(matrix, act_bits, rows, first, stop, skip, 4)


def test_an_array_that_skips_nothing_counts_as_without_facts():
    matrix = sparse(INT3, 0)
    product = of_matrix(matrix, 3, tokens=5)
    array = ArraySpec(pe=PE, rows=3, columns=2)
    plain = run.simulate(product, array)
    assert run.simulate(product, array, Skips(matrix)) == plain
    full = sparse(INT3, 0)
    full = from_digits(INT3, np.full((7, 27), -1), np.ones((7, 3)))
    for planes in ("outermost", "inside"):
        for flow in ("output-stationary", "weight-stationary"):
            each = replace(array, planes=planes, dataflow=flow)
            want = run.simulate(of_matrix(full, 3, tokens=5), each)
            found = run.simulate(of_matrix(full, 3, tokens=5), replace(each, skip="words"), Skips(full))
            assert (found.clocks, found.moved, found.beats) == (want.clocks, want.moved, want.beats)


def test_skipping_words_is_never_slower_than_planes_nor_planes_than_nothing():
    matrix = sparse(INT3, 3)
    product = of_matrix(matrix, 3, tokens=2)
    array = ArraySpec(pe=PE, rows=3, columns=2)
    nothing, planes, word = (
        run.simulate(product, replace(array, skip=skip), Skips(matrix)).counters["busy"]
        for skip in ("none", "planes", "words")
    )
    assert word < planes < nothing


@pytest.mark.parametrize("seed", range(4))
def test_the_beats_that_are_left_yield_the_same_items(seed):
    # One row, so the array's beats are the row's own; a place without a beat still doubles.
    matrix = sparse(GAPPED, seed, rows=1, columns=10)
    rng = np.random.default_rng(seed)
    x, bits = (
        rng.integers(0, 2, (2, 10)),
        [words.unpack(matrix.words_of(t), 10)[0] for t in matrix.terms[0].planes],
    )
    beats, exact = [], 0
    exponents = sorted({abs(c * a).bit_length() - 1 for c in (1, 8) for a in (1, -2)}, reverse=True)
    for exponent in range(exponents[0], -1, -1):
        here = []
        for plane, coef in zip(bits, (1, 8), strict=True):
            for digits, act in zip(x, (1, -2), strict=True):
                exact += int((plane * digits).sum()) * coef * act * (exponent == 0)
                if abs(coef * act) == 1 << exponent:
                    for at in range(0, 10, 4):
                        if plane[at : at + 4].any():
                            w, a = (
                                int("".join(str(int(b)) for b in reversed(v[at : at + 4])), 2)
                                for v in (plane, digits)
                            )
                            here.append(Beat(w=w, x=a, mask=15, neg=coef * act < 0))
        here = here or [Beat(w=0, x=0, mask=0)] * bool(beats)
        beats += [replace(here[0], shift=bool(beats)), *here[1:]] if here else []
    if beats:
        beats[0] = replace(beats[0], first=True)
        beats[-1] = replace(beats[-1], last=True)
    array = ArraySpec(pe=PE, rows=1, columns=1, skip="words")
    product = of_matrix(matrix, 2, tokens=1)
    made = plan(product, array, Skips(matrix))
    assert made.work[0, 0, 0] == len(beats)
    assert PE.items(beats) == ([exact] if beats else [])


def test_a_pe_that_takes_whole_numbers_skips_nothing():
    rng = np.random.default_rng(0)
    fmt = Format(name="s", digit=Digit.UNIPOLAR, coefs=(1, -1), group=64, published_bits=1.0, source="test")
    matrix = from_digits(fmt, rng.integers(-1, 2, (5, 64)), np.ones((5, 1)))
    array = ArraySpec(pe=SelectAdd(lanes=8), rows=2, columns=2, skip="words")
    message = r"^skip must be 'none' unless the PE is a BitSerial, not 'words'$"
    with pytest.raises(ValueError, match=message):
        run.simulate(of_matrix(matrix, 8, 3), array, Skips(matrix))


def test_tiles_are_those_of_a_pe_that_serves_several_rows():
    product = Product(
        tokens=3,
        rows=21,
        columns=64,
        group=64,
        passes=(Pass(weight=(1,), bipolar=True),),
        activation=(1, 2, 4, 8, 16, 32, 64, -128),
        stored=Stored(planes=64),
    )
    array = ArraySpec(pe=Table(lanes=16, row_count=8), rows=2, columns=2)
    found = run.simulate(product, array)
    assert array.tile_rows == 16
    # Two row tiles by two token tiles, four beats each: all planes of an activation pass at once.
    assert found.counters["busy"] == 2 * 2 * 4
    assert array.cycles(product.shape()) == 16 + array.latency()
