"""Every kernel of the package on whatever it takes, against the judge."""

import re
import tracemalloc
from dataclasses import replace
from pkgutil import resolve_name

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algo.bitplane import words
from algo.bitplane.activations import Activations, quantize_activations
from algo.bitplane.build import from_digits
from algo.bitplane.format import Digit, Format
from algo.bitplane.ints import Ints
from algo.bitplane.matrix import PackedMatrix, Term
from algo.bitplane.planes import Pattern, Plane, gather
from algo.bitplane.tests.strategies import matrices, n_of_m
from sim import judge
from sim.kernels.contract import SCRATCH, kernels
from sim.numba_engine import Lowered

KERNELS = tuple(kernels())
PLANES = ("a", "b", "c", "d", "~(a ^ b)", "g", "even(b)")
MASKS = (None, None, "shared", "~shared", "n", "own", "n & ~shared", "lower(own)")


@st.composite
def tall(draw, bits: int | None = None, sparse: bool = True, most: int = 8) -> PackedMatrix:
    """More rows and columns than a kernel has lanes, cut anywhere; terms of up to ``most`` planes."""
    rows = draw(st.sampled_from([1, 8, 15, 16, 33, 64, 70, 130]))
    columns = draw(st.sampled_from([3, 64, 100, 127, 128, 300, 512, 700]))
    group = min(columns, draw(st.sampled_from([1, 3, 16, 32, 48, 64, 100, 128, 256, 1024])))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    share = draw(st.sampled_from([0.0, 0.05, 0.5, 1.0]))
    made = {name: rng.random((rows, columns)) < 0.5 for name in "abcd"}
    own, shared = rng.random((rows, columns)) < share, rng.random((1, columns)) < share
    kept = n_of_m(rng, rows, columns, 4, 8)
    planes = {name: Plane(words.pack(bits)) for name, bits in made.items()}
    planes |= {"own": Plane(words.pack(own)), "shared": Plane(words.pack(shared))}
    planes |= {"n": Pattern.of_bits(kept, 4, 8), "g": gather(made["a"], kept, "n")}
    scale_bits = draw(st.sampled_from([4, 16, 24])) if bits is None else bits
    high = 1 << (scale_bits - 1)
    shape = (draw(st.sampled_from([1, rows])), -(-columns // group))
    ints = {
        "s": Ints(rng.integers(-high, high, shape), scale_bits, True),
        "t": Ints(np.repeat(rng.integers(-high, high, (rows, 1)), shape[1], axis=1), scale_bits, True),
        "z": Ints(rng.integers(0, 200, shape), 8, False),
        "o": Ints(rng.integers(-high, high, shape), scale_bits, True),
    }
    terms = []
    for _ in range(draw(st.integers(1, 4))):
        count = min(most, draw(st.sampled_from([1, 1, 1, 2, 4, 8])))
        digit = draw(st.sampled_from(Digit))
        terms.append(
            Term(
                planes=tuple(draw(st.sampled_from(PLANES)) for _ in range(count)),
                coefs=tuple(int(c) for c in (1 << np.arange(count)) * rng.choice([-1, 1], count)),
                digit=digit,
                scale=draw(st.sampled_from("st")),
                mask=draw(st.sampled_from(MASKS)) if sparse else None,
                zero=draw(st.sampled_from([None, None, "z"])),
                offset=draw(st.sampled_from([None, None, "o"])),
                col=draw(st.sampled_from([None, None, "f"])),
            )
        )
    return PackedMatrix(
        rows=rows,
        columns=columns,
        group=group,
        terms=tuple(terms),
        planes=planes,
        ints=ints,
        exponent=Ints(np.zeros((1, 1), np.int64), 16, True),
        factors={"f": np.ones(columns, np.float32)},
    )


def draw_activations(draw, matrix: PackedMatrix, bits: int, scaled: bool = True) -> list[Activations]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    tokens = draw(st.sampled_from([0, 1, 2, 3, 5, 9, 17]))
    mantissa = (
        rng.integers(-9, 10, (tokens, matrix.groups)) if scaled and draw(st.integers(0, 3)) == 3 else None
    )
    low, shape = -(1 << (bits - 1)), (tokens, matrix.columns)
    made = []
    for _ in matrix.streams:
        values = rng.choice([-1, 1], shape) if bits == 1 else rng.integers(low, -low, shape)
        if bits > 1 and draw(st.booleans()):
            values[:] = draw(st.sampled_from([low, -low - 1]))
        made.append(
            Activations(
                values=values, bits=bits, scale=rng.random(tokens).astype(np.float32), mantissa=mantissa
            )
        )
    return made


def taken_by(lowered: Lowered, name: str, activations: list[Activations]) -> bool:
    """Whether a kernel takes every stream of a case."""
    for stream, act in zip(lowered.matrix.streams, activations, strict=True):
        prepared = lowered.prepared(stream, name)
        if prepared is None or prepared.cost(act.bits, len(act.values), act.mantissa is not None) is None:
            return False
    return True


def check_all(matrix: PackedMatrix, activations: list[Activations]) -> None:
    expected, lowered = judge.integer_sums(matrix, activations), Lowered.of(matrix)
    np.testing.assert_array_equal(lowered.integer_sums(activations), expected, err_msg="the cheapest")
    for name in KERNELS:
        if taken_by(lowered, name, activations):
            sums = lowered.integer_sums(activations, kernel=name)
            np.testing.assert_array_equal(sums, expected, err_msg=name)


@st.composite
def cases(draw, of, widths):
    matrix = draw(of)
    return matrix, draw_activations(draw, matrix, draw(st.sampled_from(widths)))


@settings(deadline=None, max_examples=25)
@given(cases(matrices(), [1, 1, 2, 3, 8, 16, 20]))
def test_kernels_equal_the_judge_on_small_matrices_of_every_kind(case):
    check_all(*case)


@settings(deadline=None, max_examples=25)
@given(cases(tall(), [1, 1, 2, 4, 8, 16, 19]))
def test_kernels_equal_the_judge_on_matrices_larger_than_their_blocks(case):
    check_all(*case)


@settings(deadline=None, max_examples=30)
@given(cases(tall(bits=16, sparse=False), [1, 8]))
def test_kernels_equal_the_judge_on_dense_planes(case):
    check_all(*case)


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_sign_kernels_equal_the_judge_on_masks_offsets_and_few_columns(data):
    matrix = data.draw(tall(bits=4, most=1))
    check_all(matrix, draw_activations(data.draw, matrix, 1, scaled=False))


def sign_matrix(rows: int, columns: int, group: int, seed: int = 0) -> PackedMatrix:
    rng = np.random.default_rng(seed)
    fmt = Format(
        name="sign", digit=Digit.BIPOLAR, coefs=(1,), group=group, published_bits=1.0, source="one sign plane"
    )
    groups = -(-columns // min(group, columns))
    return from_digits(fmt, rng.choice([-1, 1], (rows, columns)), rng.random((rows, groups)) + 0.5)


@pytest.mark.parametrize(("group", "name"), [(1 << 20, "signs"), (128, "sign_blocks")])
def test_signs_of_every_equal_bit_are_exact_in_every_part_of_a_row(group, name):
    # All weights and activations +1, or opposed: the largest counts there are, over several parts.
    columns = 512 * 31 + 700
    ones = Plane(np.repeat(words.valid(columns)[None], 17, axis=0))
    matrix = replace(sign_matrix(17, columns, group), planes={"plane0": ones})
    values = np.ones((3, columns), np.int64)
    values[1], values[2, ::2] = -1, -1
    act = Activations(values=values, bits=1, scale=np.ones(3, np.float32))
    expected = judge.integer_sums(matrix, [act])
    np.testing.assert_array_equal(Lowered.of(matrix).integer_sums([act], kernel=name), expected)


@pytest.mark.parametrize("bits", [1, 8])
def test_sums_do_not_depend_on_how_tokens_are_cut(bits):
    matrix = sign_matrix(70, 200, 64)
    act = quantize_activations(np.random.default_rng(1).normal(size=(150, 200)), bits)
    lowered = Lowered.of(matrix)
    for name in KERNELS:
        if not taken_by(lowered, name, [act]):
            continue
        whole = lowered.integer_sums([act], kernel=name)
        for first in range(0, 150, 37):
            part = Activations(
                values=act.values[first : first + 37], bits=bits, scale=act.scale[first : first + 37]
            )
            np.testing.assert_array_equal(
                lowered.integer_sums([part], kernel=name), whole[:, first : first + 37], err_msg=name
            )


def test_every_kernel_names_what_it_must_equal():
    assert {"planes", "signs", "sign_blocks"} <= set(KERNELS)
    for name, module in kernels().items():
        assert name == module.NAME
        assert callable(resolve_name(module.GOLDEN)), name


def test_a_kernel_that_is_not_there_or_does_not_fit_is_refused():
    lowered = Lowered.of(sign_matrix(4, 70, 64))
    eight, one = (quantize_activations(np.ones((1, 70)), bits) for bits in (8, 1))
    with pytest.raises(ValueError, match=f"^kernel must be one of {', '.join(KERNELS)}, not 'fast'$"):
        lowered.integer_sums([one], kernel="fast")
    message = "kernel must take 8-bit activations of this matrix, not 'sign_blocks'"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        lowered.integer_sums([eight], kernel="sign_blocks")


def test_signs_times_signs_go_to_the_kernels_made_for_them():
    act = quantize_activations(np.ones((64, 4096)), 1)
    assert Lowered.of(sign_matrix(512, 4096, 4096)).choice(None, act) == "signs"
    assert Lowered.of(sign_matrix(512, 4096, 128)).choice(None, act) == "sign_blocks"


def peak_beyond(function, *arguments) -> int:
    """Bytes held at once beside what a call returns."""
    tracemalloc.start()
    try:
        made = function(*arguments)
        return tracemalloc.get_traced_memory()[1] - made.nbytes
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("rows", "columns", "tokens"), [(40, 11008, 700), (100_000, 70, 1)])
@pytest.mark.parametrize("bits", [1, 8])
def test_memory_stays_within_the_bound_whatever_the_shape(rows, columns, tokens, bits):
    matrix = sign_matrix(rows, columns, 128)
    rng = np.random.default_rng(0)
    low = 1 << (bits - 1)
    values = (
        rng.choice([-1, 1], (tokens, columns)) if bits == 1 else rng.integers(-low, low, (tokens, columns))
    )
    act = Activations(values=values, bits=bits, scale=np.ones(tokens, np.float32))
    lowered = Lowered.of(matrix)
    expected = judge.integer_sums(matrix, [act])
    for name in KERNELS:
        if not taken_by(lowered, name, [act]):
            continue
        sums = lowered.integer_sums([act], kernel=name)  # compiles, and lays the weights out
        np.testing.assert_array_equal(sums, expected, err_msg=name)
        assert peak_beyond(lambda name=name: lowered.integer_sums([act], kernel=name)) < SCRATCH, name
