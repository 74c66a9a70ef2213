"""Bits moved and work done, against sums over jobs; the contracts the figures must keep; bad input."""

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from algo.bitplane.build import from_digits
from algo.bitplane.format import Digit, Format
from algo.bitplane.ints import Ints
from algo.bitplane.matrix import PackedMatrix, Term
from algo.bitplane.planes import Pattern, gather
from algo.bitplane.storage import stored_bytes
from hw.pe.bitserial import BitSerial
from hw.spec import ArraySpec
from sim import schedule
from sim.activity import traffic
from sim.cycles import run
from sim.cycles.plan import plan
from sim.cycles.product import Pass, Product, Stored, of_matrix, places
from sim.tests.test_cycles import cases, expanded, planned

PE = BitSerial(lanes=8, acc_width=16, levels=0)
INT3 = Format(
    name="int3", digit=Digit.UNIPOLAR, coefs=(1, 2, -4), group=10, published_bits=3.0, source="a test's own"
)


def packed(rows=9, columns=37, seed=0, fmt=INT3, low=-4, high=3):
    rng = np.random.default_rng(seed)
    groups = -(-columns // fmt.group)
    digits = rng.integers(low, high + 1, (rows, columns))
    return from_digits(fmt, digits, rng.uniform(0.5, 1, (rows, groups)))


@given(cases())
def test_bits_fetched_and_beats_are_those_of_the_jobs_one_by_one(case):
    product, array = case
    made = planned(*case)
    jobs, fetches, _ = expanded(product, array, made.chunks)
    found = run.simulate(product, array)
    assert found.moved["dram_weights"] == sum(f.bits for f in fetches["weights"])
    assert found.moved["dram_activations"] == sum(f.bits for f in fetches["activations"])
    assert found.moved["dram_results"] == sum(job.result for job in jobs if job.ends)
    assert found.counters["busy"] == sum(sum(job.items) for job in jobs)
    assert found.dram_bits == sum(
        found.moved[f"dram_{kind}"] for kind in ("weights", "activations", "results")
    )


@given(cases())
def test_busy_clocks_are_the_compute_contract_where_nothing_is_skipped_or_reordered(case):
    product, array = case
    array = replace(array, planes="outermost", pack_kept=False)
    # One item per group, as the contract counts them.
    array = replace(array, weight_buffer_bits=10**6, activation_buffer_bits=10**6, result_buffer_bits=10**6)
    found = run.simulate(product, array)
    assert array.cycles(product.shape()) == found.counters["busy"] + (found.clocks > 0) * array.latency()
    beats = sum(s.count * array.pe.beats(s) for s in product.shape().segments)
    assert found.beats == product.tokens * product.rows * beats
    items = sum(s.count for s in product.shape().segments)
    assert found.items == product.tokens * product.rows * items


@pytest.mark.parametrize("act_bits", [1, 3, 8])
def test_product_of_a_stored_matrix_is_its_schedule_and_its_storage(act_bits):
    matrix = packed()
    product = of_matrix(matrix, act_bits, tokens=5)
    assert product.shape() == schedule.shape(matrix, act_bits, 5)
    assert product.stored.row == sum(-(-8 * n // 9) for n in _by_kind(matrix))
    array = ArraySpec(pe=BitSerial(lanes=8, acc_width=16, levels=0), rows=4, columns=2)
    found = run.simulate(product, array)
    assert found.moved["dram_weights"] == product.stored.row * 9
    assert found.moved["dram_weights"] - 8 * sum(stored_bytes(matrix).values()) in range(2 * 9)


def _by_kind(matrix):
    """Stored bytes of planes, and of scales with exponents."""
    stored = stored_bytes(matrix)
    planes = sum(count for name, count in stored.items() if name in matrix.planes)
    return planes, sum(stored.values()) - planes


def test_traffic_is_that_of_the_activity_where_a_buffer_is_not_split():
    matrix = packed()
    array = ArraySpec(pe=PE, rows=4, columns=2, buffers=1)
    product = of_matrix(matrix, 8, tokens=5)
    slack = product.stored.row * 9 - 8 * sum(stored_bytes(matrix).values())
    for bits in (10**6, 1300, 700):
        small = replace(array, activation_buffer_bits=bits)
        found = run.simulate(product, small)
        assert found.dram_bits - slack == traffic.dram_bits(matrix, small, 5, 8)


def test_sram_reads_of_one_tile_are_counted_by_hand():
    # Two rows and two tokens of 16 columns in 8 lanes; 2 weight planes, mask; 3 activation planes; 2 words.
    product = Product(
        tokens=2,
        rows=2,
        columns=16,
        group=16,
        passes=(Pass(weight=(1, -1), masked=True), Pass(weight=(1,), sums=True, masked=True)),
        activation=places(3),
        stored=Stored(planes=32, masks=16, scales=20),
    )
    array = ArraySpec(pe=PE, rows=2, columns=2)
    moved = run.simulate(product, array).moved
    pairs, sums = 2 * 3 * 2, 3 * 2  # words of either pass
    assert moved["weight_buffer_reads"] == 2 * (8 * (2 * pairs + sums) + 20)
    assert moved["activation_buffer_reads"] == 2 * 8 * (pairs + sums)
    inside = run.simulate(product, replace(array, planes="inside")).moved
    assert inside["weight_buffer_reads"] == 2 * (8 * (2 * 2 * 2 + 2) + 20)
    assert inside["activation_buffer_reads"] == moved["activation_buffer_reads"]
    assert moved["result_buffer_writes"] == moved["result_buffer_reads"] == 4 * 32


def test_stationary_weights_are_read_once_and_partial_sums_move_instead():
    product = Product(
        tokens=12,
        rows=2,
        columns=32,
        group=16,
        passes=(Pass(weight=(1,)),),
        activation=(1,),
        stored=Stored(planes=32, scales=32),
    )
    array = ArraySpec(pe=PE, rows=2, columns=2, activation_buffer_bits=224, weight_buffer_bits=200)
    flowing = run.simulate(product, array)
    staying = run.simulate(product, replace(array, dataflow="weight-stationary"))
    assert len(plan(product, array).chunks) == 2
    assert flowing.moved["weight_buffer_reads"] == 2 * (32 + 32) * 6
    assert staying.moved["weight_buffer_reads"] == 2 * (32 + 32)
    assert flowing.moved["dram_weights"] == staying.moved["dram_weights"] * 6
    assert staying.moved["result_buffer_writes"] == 24 * PE.acc_width * 2
    assert staying.moved["result_buffer_reads"] == 24 * (PE.acc_width + 32)


def test_a_run_says_what_bounds_it():
    product = Product(
        tokens=8,
        rows=64,
        columns=64,
        group=64,
        passes=(Pass(weight=(1,)),),
        activation=places(4),
        stored=Stored(planes=64),
    )
    array = ArraySpec(pe=PE, rows=4, columns=4)
    assert run.simulate(product, array).bound == "compute"
    assert run.simulate(product, replace(array, scale_clocks=20)).bound == "scale unit"
    slow = run.simulate(product, replace(array, dram_bits_per_cycle=4))
    assert slow.bound == "memory"
    assert slow.balance == 2 * 128 * 8 / 4
    assert slow.intensity == pytest.approx(2 * 8 * 64 * 64 * 4 * 8 / slow.dram_bits)
    assert slow.utilisation == pytest.approx(8 * 64 * 64 * 4 / (slow.clocks * 128))
    assert slow.seconds == slow.clocks / array.clock_hz
    assert sum(slow.stalls.values()) + slow.counters["busy"] == slow.clocks
    assert slow.figures()["clocks"] == slow.clocks
    nothing = run.simulate(product.with_tokens(0), array)
    assert (nothing.clocks, nothing.utilisation, nothing.intensity, nothing.dram_bits) == (0, 0.0, 0.0, 0)


def test_runs_add_up_and_multiply():
    product = Product(
        tokens=3,
        rows=5,
        columns=9,
        group=9,
        passes=(Pass(weight=(1,)),),
        activation=(1,),
        stored=Stored(planes=9),
    )
    one = run.simulate(product, ArraySpec(pe=PE, rows=2, columns=2))
    assert one + one + one == one * 3
    assert (one * 3).clocks == 3 * one.clocks
    assert (one * 3).dram_bits == 3 * one.dram_bits


def test_a_hundred_thousand_rows_make_no_large_plan():
    product = Product(
        tokens=1,
        rows=100_000,
        columns=4096,
        group=128,
        passes=(Pass(weight=(1,)),),
        activation=places(8),
        stored=Stored(planes=4096, scales=512),
    )
    array = ArraySpec(pe=BitSerial())
    made = plan(product, array)
    assert made.work.nbytes + made.weight_bits.nbytes + made.activation_bits.nbytes < 10_000
    assert run.simulate(product, array).counters["busy"] == array.cycles(product.shape()) - array.latency()


ONE = Product(
    tokens=2,
    rows=3,
    columns=16,
    group=16,
    passes=(Pass(weight=(1,)),),
    activation=(1,),
    stored=Stored(planes=16),
)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Pass(weight=(3,)), ValueError, "weight must hold signed powers of two, not 3"),
        (lambda: Pass(weight=(1,), keep=3, of=2), ValueError, "keep must be at most 2, not 3"),
        (lambda: Stored(planes=-1), ValueError, "planes must be at least 0, not -1"),
        (lambda: replace(ONE, passes=()), ValueError, "passes must hold at least one pass, not ()"),
        (lambda: replace(ONE, columns=0), ValueError, "columns must be at least 1, not 0"),
        (
            lambda: replace(ONE, activation=(0,)),
            ValueError,
            "activation must hold signed powers of two, not 0",
        ),
        (lambda: places(0), ValueError, "bits must be at least 1, not 0"),
        (lambda: run.total([]), ValueError, "runs must hold at least one run, not []"),
        (
            lambda: plan(ONE, ArraySpec(pe=PE, rows=2, weight_buffer_bits=31)),
            ValueError,
            "weight_buffer_bits must be at least 32 for 2 times 2 x 8 columns, not 31",
        ),
        (
            lambda: plan(ONE, ArraySpec(pe=PE, columns=2, activation_buffer_bits=79, buffers=1)),
            ValueError,
            "activation_buffer_bits must be at least 80 for 1 times 2 x 8 columns, not 79",
        ),
        (
            lambda: plan(
                ONE, ArraySpec(pe=PE, rows=2, columns=2, dataflow="weight-stationary", result_buffer_bits=127)
            ),
            ValueError,
            "result_buffer_bits must be at least 128 for 2 times the partial sums of a tile, not 127",
        ),
    ],
)
def test_bad_input_is_refused_with_the_numbers(make, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        make()


def test_a_stored_pattern_is_packed_into_half_the_lanes():
    rng = np.random.default_rng(0)
    kept = np.tile([True, False, True, False], (6, 16))
    planes = {
        "nm": Pattern.of_bits(kept, 2, 4),
        "sign": gather(rng.random((6, 64)) < 0.5, kept, "nm"),
    }
    matrix = PackedMatrix(
        rows=6,
        columns=64,
        group=32,
        terms=(Term(planes=("sign",), coefs=(1,), digit=Digit.BIPOLAR, scale="s", mask="nm"),),
        planes=planes,
        ints={"s": Ints(np.ones((6, 2), np.int64), 16, signed=True)},
        exponent=Ints(np.zeros((6, 1), np.int64), 8, signed=True),
    )
    product = of_matrix(matrix, 8, tokens=1)
    array = ArraySpec(pe=PE, rows=6, columns=1)
    whole, packed_lanes = (run.simulate(product, replace(array, pack_kept=p)) for p in (False, True))
    assert whole.counters["busy"] == array.cycles(schedule.shape(matrix, 8, 1)) - PE.latency() == 2 * 8 * 4
    assert packed_lanes.counters["busy"] == 2 * 8 * 2
    # Signs of the kept half; 3 bits for each of the 6 patterns of a group of four.
    assert (product.stored.planes, product.stored.masks) == (32, 16 * 3)


def test_runs_of_other_arrays_do_not_add():
    one, two = (run.simulate(ONE, ArraySpec(pe=PE, rows=rows)) for rows in (1, 2))
    with pytest.raises(ValueError, match=r"^array must be that of the other runs, ArraySpec\(.*\)$"):
        _ = one + two


@given(st.integers(0, 40), st.integers(1, 8), st.integers(1, 8))
def test_packed_lanes_hold_the_kept_columns_alone(columns, keep, of):
    from sim.cycles.product import kept

    keep = min(keep, of)
    assert kept(columns, Pass(weight=(1,), keep=keep, of=of)) == sum(
        1 for c in range(columns) if c % of < keep
    )
