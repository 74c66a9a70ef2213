"""Closed forms of an array's clocks against the event loop where they hold, and against sums by hand."""

from dataclasses import replace

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from hw.pe.bitserial import BitSerial
from hw.spec import ArraySpec
from sim.cycles import closed, events
from sim.cycles.plan import plan
from sim.cycles.product import Pass, Product, Stored

PE = BitSerial(lanes=4, acc_width=16, levels=0)


@st.composite
def long_jobs(draw):
    columns = draw(st.integers(20, 60))
    product = Product(
        tokens=draw(st.integers(1, 9)),
        rows=draw(st.integers(1, 9)),
        columns=columns,
        group=draw(st.integers(5, columns)),
        passes=(Pass(weight=draw(st.sampled_from([(1,), (1, 2, -4)]))), Pass(weight=(1,), sums=True)),
        activation=draw(st.sampled_from([(1,), (1, 2, -4)])),
        stored=Stored(planes=columns, scales=16, shared=draw(st.sampled_from([0, 50]))),
    )
    array = ArraySpec(
        pe=PE,
        rows=draw(st.integers(1, 3)),
        columns=draw(st.integers(1, 3)),
        weight_buffer_bits=draw(st.integers(200, 4000)),
        activation_buffer_bits=draw(st.integers(200, 4000)),
        dataflow=draw(st.sampled_from(["output-stationary", "weight-stationary"])),
        outer=draw(st.sampled_from(["rows", "tokens"])),
        dram_bits_per_cycle=draw(st.sampled_from([32, 200])),
        dram_latency=draw(st.integers(0, 3)),
        scale_clocks=draw(st.integers(0, 9)),
    )
    return product, array


@given(long_jobs())
def test_compute_bound_form_equals_the_event_loop(case):
    try:
        made = plan(*case)
    except ValueError:
        reject()
    found = closed.compute_bound(made)
    if found is None:
        reject()
    assert found == events.run(made)[0]["clocks"]
    assert closed.clocks(made) == found


@st.composite
def long_fetches(draw):
    columns = draw(st.integers(8, 40))
    product = Product(
        tokens=draw(st.integers(1, 3)),
        rows=draw(st.integers(4, 20)),
        columns=columns,
        group=draw(st.integers(4, columns)),
        passes=(Pass(weight=(1,)),),
        activation=(1,),
        stored=Stored(planes=8 * columns, scales=draw(st.integers(0, 99)), shared=draw(st.integers(0, 9))),
        result_bits=draw(st.integers(1, 9)),
    )
    array = ArraySpec(
        pe=PE,
        rows=draw(st.integers(1, 3)),
        columns=3,
        dram_bits_per_cycle=draw(st.integers(1, 8)),
        dram_latency=draw(st.integers(0, 30)),
        scale_clocks=draw(st.integers(0, 3)),
    )
    return product, array


@given(long_fetches())
def test_memory_bound_form_equals_the_event_loop(case):
    made = plan(*case)
    found = closed.memory_bound(made)
    if found is None:
        reject()
    assert found == events.run(made)[0]["clocks"]


PRODUCT = Product(
    tokens=4,
    rows=6,
    columns=40,
    group=20,
    passes=(Pass(weight=(1,)),),
    activation=(1, -2),
    stored=Stored(planes=40, scales=24),
    token_bits=0,
)


def test_compute_bound_form_is_the_sum_by_hand():
    # Six tiles of 20 beats a row tile and token pair; 2 groups x 2 planes x 5 words; 1 clock each fetch.
    array = ArraySpec(pe=PE, rows=2, columns=2, dram_bits_per_cycle=1000)
    made = plan(PRODUCT, array)
    assert closed.clocks(made) == 1 + 1 + 6 * 20 + PE.latency() + 1
    assert events.run(made)[0]["clocks"] == 1 + 1 + 6 * 20 + PE.latency() + 1


def test_memory_bound_form_is_the_sum_by_hand():
    # 4 bits a clock: 32 clocks for the weights of two rows (128 bits), 80 for four tokens (320), 16 for eight
    # results of 8 bits. Three row tiles of 20 beats: the fetch is the longest, so the array waits for it.
    product = replace(PRODUCT, result_bits=8)
    array = ArraySpec(pe=PE, rows=2, columns=4, dram_bits_per_cycle=4)
    made = plan(product, array)
    assert closed.clocks(made) == 3 * 32 + 80 + 16 + (20 + PE.latency()) + 16
    assert events.run(made)[0]["clocks"] == closed.clocks(made)
    assert closed.memory_bound(plan(product, replace(array, dram_bits_per_cycle=8))) is None
    assert closed.memory_bound(plan(PRODUCT, array)) is None


@pytest.mark.parametrize("change", [{"buffers": 1}, {"rows": 4, "scale_clocks": 1}])
def test_no_form_claims_what_it_does_not_cover(change):
    array = ArraySpec(pe=PE, rows=2, columns=2, dram_bits_per_cycle=1000)
    assert closed.clocks(plan(PRODUCT, replace(array, **change))) is None
    assert closed.clocks(plan(PRODUCT.with_tokens(0), array)) is None
