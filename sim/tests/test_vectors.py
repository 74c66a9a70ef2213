"""Vectors in kernels against NumPy, on this CPU's instructions and, in a process of its own, without them."""

import os
import subprocess
import sys
from itertools import product

import numpy as np
import pytest
from numba import njit

from sim.kernels import cpu, vectors, wide
from sim.kernels.vectors import Lanes, U8x64, U16x32, U32x16, U64x8

UNSIGNED = {8: np.uint8, 16: np.uint16, 32: np.uint32, 64: np.uint64}
KINDS = (U64x8, U32x16, U8x64, Lanes(16, 8))


def lanes_of(kind: Lanes, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 2**64, kind.count, np.uint64).astype(UNSIGNED[kind.bits])


def applied(function, *arrays, kinds, result):
    """What a vector function makes of whole arrays, as an array of ``result`` lanes."""
    loads = [vectors.load(kind) for kind in kinds]
    out = np.zeros(result.count + 1, UNSIGNED[result.bits])
    first = loads[0]
    if len(arrays) == 1:

        @njit
        def run(a, out):
            vectors.store(out, 1, function(first(a, 0)))

    elif len(arrays) == 2:
        second = loads[1]

        @njit
        def run(a, b, out):
            vectors.store(out, 1, function(first(a, 0), second(b, 0)))

    else:
        second, third = loads[1:]

        @njit
        def run(a, b, c, out):
            vectors.store(out, 1, function(first(a, 0), second(b, 0), third(c, 0)))

    run(*arrays, out)
    assert out[0] == 0  # nothing is written before the offset
    return out[1:]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_operators_work_lane_by_lane_and_wrap(kind):
    of, lanes = vectors.load(kind), kind.count

    @njit
    def run(a, b, out):
        x, y = of(a, 0), of(b, 0)
        vectors.store(out, 0, x + y)
        vectors.store(out, lanes, x - y)
        vectors.store(out, 2 * lanes, x * y)
        vectors.store(out, 3 * lanes, x & y)
        vectors.store(out, 4 * lanes, x | y)
        vectors.store(out, 5 * lanes, x ^ y)
        vectors.store(out, 6 * lanes, ~x)
        vectors.store(out, 7 * lanes, vectors.count_ones(x))
        x += y
        vectors.store(out, 8 * lanes, x)

    a, b = lanes_of(kind), lanes_of(kind, 1)
    out = np.zeros(9 * lanes, UNSIGNED[kind.bits])
    run(a, b, out)
    expected = (a + b, a - b, a * b, a & b, a | b, a ^ b, ~a, np.bitwise_count(a), a + b)
    np.testing.assert_array_equal(out.reshape(9, lanes), np.stack(expected))


def test_shifts_bring_zeros_or_copies_of_the_sign():
    a = lanes_of(U16x32)
    for function, expected in (
        (njit(lambda x: vectors.shift_left(x, 3)), a << np.uint16(3)),
        (njit(lambda x: vectors.shift_right(x, 5)), a >> np.uint16(5)),
        (njit(lambda x: vectors.shift_signed(x, 5)), (a.view(np.int16) >> np.int16(5)).view(np.uint16)),
    ):
        np.testing.assert_array_equal(applied(function, a, kinds=[U16x32], result=U16x32), expected)


def test_splat_drops_high_bits_and_keeps_the_sign():
    splat16, splat64 = vectors.splat(U16x32), vectors.splat(U64x8)

    @njit
    def run(value, narrow, broad):
        vectors.store(narrow, 0, splat16(value))
        vectors.store(broad, 0, splat64(value))

    narrow, broad = np.zeros(32, np.uint16), np.zeros(8, np.uint64)
    run(np.int32(-70000), narrow, broad)
    assert set(narrow.tolist()) == {-70000 % 2**16}
    assert set(broad.tolist()) == {-70000 % 2**64}


def test_lanes_change_width_with_and_without_sign():
    a = lanes_of(U8x64)[:32]
    kinds = [Lanes(8, 32)]
    signed = applied(vectors.sign_extend(U16x32), a, kinds=kinds, result=U16x32)
    np.testing.assert_array_equal(signed.view(np.int16), a.view(np.int8))
    np.testing.assert_array_equal(applied(vectors.zero_extend(U16x32), a, kinds=kinds, result=U16x32), a)
    wide_lanes = lanes_of(U16x32)
    low = applied(vectors.truncate(Lanes(8, 32)), wide_lanes, kinds=[U16x32], result=Lanes(8, 32))
    np.testing.assert_array_equal(low, wide_lanes.astype(np.uint8))
    same = applied(vectors.bitcast(U8x64), wide_lanes, kinds=[U16x32], result=U8x64)
    np.testing.assert_array_equal(same, wide_lanes.view(np.uint8))


def test_lanes_move_to_the_places_their_names_say():
    a, b = np.arange(16, dtype=np.uint32), np.arange(100, 116, dtype=np.uint32)
    pair = {"kinds": [U32x16] * 2}
    for function, expected, kind in (
        (vectors.concatenate, [*range(16), *range(100, 116)], Lanes(32, 32)),
        (vectors.interleave_low, [v for i in range(8) for v in (i, 100 + i)], U32x16),
        (vectors.interleave_high, [v for i in range(8, 16) for v in (i, 100 + i)], U32x16),
        (vectors.shuffle((3, 16, 0, 31)), [3, 100, 0, 115], Lanes(32, 4)),
    ):
        assert applied(function, a, b, result=kind, **pair).tolist() == expected
    assert applied(vectors.low_half, a, kinds=[U32x16], result=Lanes(32, 8)).tolist() == list(range(8))
    assert applied(vectors.high_half, a, kinds=[U32x16], result=Lanes(32, 8)).tolist() == list(range(8, 16))


def test_masks_choose_lanes_from_bit_zero_on():
    load64, splat8, as_lanes = vectors.load(U8x64), vectors.splat(U8x64), vectors.bits_as_lanes(U8x64)

    @njit
    def run(a, mask, added, bits):
        vectors.store(added, 0, vectors.add_where(load64(a, 0), mask, splat8(7)))
        vectors.store(bits, 0, as_lanes(mask))
        return vectors.nonzero(load64(bits, 0)), vectors.total(load64(a, 0))

    a, mask = lanes_of(U8x64), np.uint64(0x8000_0000_1234_0001)
    added, bits = np.zeros(64, np.uint8), np.zeros(64, np.uint8)
    again, total = run(a, mask, added, bits)
    chosen = (mask >> np.arange(64, dtype=np.uint64)) & np.uint64(1)
    np.testing.assert_array_equal(bits, chosen)
    np.testing.assert_array_equal(added, a + 7 * chosen.astype(np.uint8))
    assert again == mask
    assert total == int(a.view(np.int8).sum(dtype=np.int8))


def test_elements_and_popcounts_are_read_one_by_one():
    @njit
    def run(a, i):
        return vectors.element(a, i), vectors.popcount(a[i])

    a = np.array([1, 2**64 - 1, 5], np.uint64)
    assert run(a, 1) == (2**64 - 1, 64)


@pytest.mark.parametrize("kind", [U8x64, Lanes(64, 4)], ids=str)
def test_logic_of_three_follows_its_truth_table(kind):
    a, b, c = (lanes_of(kind, seed) for seed in range(3))
    for table in (wide.SUM, wide.CARRY, wide.DIFFER_ON, 0x1B):
        expected = np.zeros_like(a)
        for bits in product((0, 1), repeat=3):
            if table >> (4 * bits[0] + 2 * bits[1] + bits[2]) & 1:
                expected |= np.bitwise_and.reduce(
                    [v if bit else ~v for v, bit in zip((a, b, c), bits, strict=True)]
                )
        made = applied(wide.logic(table), a, b, c, kinds=[kind] * 3, result=kind)
        np.testing.assert_array_equal(made, expected, err_msg=hex(table))
    majority = applied(wide.majority, a, b, c, kinds=[kind] * 3, result=kind)
    np.testing.assert_array_equal(majority, (a & b) | (a & c) | (b & c))


def test_the_carry_of_two_words_into_a_running_sum_is_their_majority():
    before, w1, w2 = (lanes_of(U64x8, seed) for seed in range(3))
    after1, after2 = before ^ w1, before ^ w1 ^ w2
    made = applied(wide.logic(wide.CARRY), after1, before, after2, kinds=[U64x8] * 3, result=U64x8)
    np.testing.assert_array_equal(made, (before & w1) | (before & w2) | (w1 & w2))


def test_dots_are_exact_at_their_extremes_and_wrap():
    rng = np.random.default_rng(0)
    acc = rng.integers(0, 2**32, 16, np.uint32)
    u = rng.integers(0, 256, 64).astype(np.uint8)
    s = rng.integers(-128, 128, 64).astype(np.int8)
    u[:16], s[:16], s[8:16] = 255, -128, 127
    expected = acc + (u.astype(np.int64) * s).reshape(16, 4).sum(axis=1)
    made = applied(wide.dot4, acc, u, s, kinds=[U32x16, U8x64, U8x64], result=U32x16)
    np.testing.assert_array_equal(made, expected.astype(np.uint32))
    left, right = (rng.integers(-(2**15), 2**15, 32).astype(np.int16) for _ in range(2))
    left[:4] = right[:4] = -(2**15)
    expected = acc + (left.astype(np.int64) * right).reshape(16, 2).sum(axis=1)
    made = applied(wide.dot2, acc, left, right, kinds=[U32x16, U16x32, U16x32], result=U32x16)
    np.testing.assert_array_equal(made, expected.astype(np.uint32))


def test_lookups_take_the_low_bits_of_an_index():
    table, index = lanes_of(U8x64), lanes_of(U8x64, 1)
    made = applied(wide.lookup_bytes, table, index, kinds=[U8x64] * 2, result=U8x64)
    block = np.arange(64) & 48
    np.testing.assert_array_equal(made, np.where(index & 128, 0, table[block + (index & 15)]))
    low, places, high = (lanes_of(U16x32, seed) for seed in range(3))
    made = applied(wide.lookup_words, low, places, high, kinds=[U16x32] * 3, result=U16x32)
    np.testing.assert_array_equal(made, np.concatenate([low, high])[places & 63])


def test_features_follow_what_numba_is_told_to_compile_for(monkeypatch):
    try:
        for name, given, there, missing in (
            ("znver4", "", "avx512vpopcntdq", "amx-int8"),
            ("x86-64-v3", "", "avx2", "avx512f"),
            ("generic", "", None, "avx2"),
            ("cascadelake", "-avx512vnni,+gfni", "gfni", "avx512vnni"),
        ):
            monkeypatch.setattr(cpu.config, "CPU_NAME", name)
            monkeypatch.setattr(cpu.config, "CPU_FEATURES", given)
            cpu.features.cache_clear()
            cpu.name.cache_clear()
            assert there is None or cpu.has(there), name
            assert not cpu.has(missing), name
    finally:
        monkeypatch.undo()
        cpu.features.cache_clear()
        cpu.name.cache_clear()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["generic", "x86-64-v3"])
def test_the_same_holds_without_the_hosts_instructions(name):
    told = os.environ | {"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": ""}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(command, env=told, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
