"""Peers by their closed forms: published figures, the same sums written another way, our schedule."""

import re
from dataclasses import replace
from math import ceil

import pytest

from hw.spec import Beat
from sim import decoders, workload
from sim.cycles import run
from sim.cycles.product import Pass, Product, Stored, places
from sim.peers import bismo, bitmod, scheduled

MODELS = ("opt-1.3b", "phi-2", "yi-6b", "llama-2-7b", "llama-2-13b", "llama-3-8b")

#: What the formulas below take: rows and columns of the array in both phases, lanes, weight bits in both
#: phases (a dict by model where they differ), cache bits, whether weights are serial.
MACHINES = {
    "fp16": ((32, 24), (64, 12), 1, 16, 16, 16, False),
    "ant": ((32, 32), (64, 16), 1, *[dict(zip(MODELS, (5, 5, 5.25, 5, 4, 5), strict=True))] * 2, 16, False),
    "olive": ((36, 32), (72, 16), 1, *[dict(zip(MODELS, (4, 4, 4, 4, 4, 4.5), strict=True))] * 2, 16, False),
    "bitmod-lossless": ((32, 32), (64, 16), 4, 6.0625, 6.0625, 8, True),
    "bitmod-lossy": ((32, 32), (64, 16), 4, 4.0625, 3.0625, 8, True),
}
#: (layers, hidden, feed-forward, matrices of it, heads, key-value heads, vocabulary) of the configs.
SHAPES = {
    "opt-1.3b": (24, 2048, 8192, 2, 32, 32, 50272),
    "phi-2": (32, 2560, 10240, 2, 32, 32, 51200),
    "yi-6b": (32, 4096, 11008, 3, 32, 4, 64000),
    "llama-2-7b": (32, 4096, 11008, 3, 32, 32, 32000),
    "llama-2-13b": (40, 5120, 13824, 3, 40, 40, 32000),
    "llama-3-8b": (32, 4096, 14336, 3, 32, 8, 128256),
}


def by_formula(name, model, generation, context=256):
    """Compute, memory and total cycles from the published formulas, in floats, layer by layer."""
    prefill, generating, lanes, first, second, cache, serial = MACHINES[name]
    height, width = generating if generation else prefill
    bits = second if generation else first
    bits = bits[model] if isinstance(bits, dict) else bits
    layers, hidden, inner, count, heads, shared, vocabulary = SHAPES[model]
    size, tokens = hidden // heads, 1 if generation else context
    narrow = size * shared
    linear = [(hidden, hidden), (narrow, hidden), (narrow, hidden), (hidden, hidden)]
    linear += [(inner, hidden)] * (count - 1) + [(hidden, inner)]
    each = [(1, out, cin, tokens, bits) for out, cin in linear]
    queries = heads // shared * tokens
    each += [(shared, context, size, queries, cache), (shared, size, context, queries, cache)]
    work = each * layers + [(1, vocabulary, hidden, tokens, bits)]
    compute = dram = total = 0
    for batch, out, cin, rows, precision in work:
        passes = ceil(int(precision) / 2) if serial else 1
        busy = ceil(cin / lanes) * ceil(out / height) * ceil(rows / width) * batch * passes
        weight, inputs = ceil(cin * precision / 8) * out * batch, cin * 2 * rows * batch
        fetch = weight + inputs
        if weight > 2**19 and inputs > 2**19:
            fetch = min(ceil(inputs / 2**19) * weight + inputs, ceil(weight / 2**19) * inputs + weight)
        moved = int((fetch + out * 2 * rows * batch) * 8 / 256)
        compute, dram, total = compute + busy, dram + moved, total + max(busy, moved)
    return compute, dram, total


@pytest.mark.parametrize("name", bitmod.ACCELERATORS)
@pytest.mark.parametrize("phase", bitmod.PHASES)
def test_bitmod_cycles_are_those_of_the_published_formulas(name, phase):
    for model in MODELS:
        found = bitmod.cycles(decoders.get(model), name, phase)
        assert (found.compute, found.dram, found.total) == by_formula(name, model, phase == "generation")


#: Mean speed-ups over fp16 on the six models that the released simulator gives when it is run.
RUN = {
    "prefill": {"bitmod-lossless": 2.08, "ant": 1.72, "olive": 1.93, "bitmod-lossy": 3.07},
    "generation": {"bitmod-lossless": 2.63, "ant": 3.23, "olive": 3.81, "bitmod-lossy": 5.13},
    "both": {"bitmod-lossless": 2.46, "ant": 2.63, "olive": 3.04, "bitmod-lossy": 4.37},
}


@pytest.mark.parametrize("phase", RUN)
def test_bitmod_speedups_are_those_of_a_run_of_the_released_simulator(phase):
    def taken(name, model):
        prefill, each = (bitmod.cycles(decoders.get(model), name, p).total for p in bitmod.PHASES)
        return {"prefill": prefill, "generation": each, "both": prefill + 20 * each}[phase]

    for name, wanted in RUN[phase].items():
        mean = sum(taken("fp16", model) / taken(name, model) for model in MODELS) / len(MODELS)
        assert round(mean, 2) == wanted


def test_bitmod_batch_shares_weights_but_not_the_cache():
    model = decoders.get("llama-2-7b")
    one, four = (bitmod.cycles(model, "bitmod-lossy", "generation", batch=n) for n in (1, 4))
    assert one.dram < four.dram < 2 * one.dram
    attention = 32 * 2 * 3 * 32 * 256 * 128 * 8 // 256
    assert four.dram - one.dram > attention


def test_term_serial_compute_is_the_closed_form_where_nothing_else_shows():
    # Whole tiles and a wide port: what is left of the schedule is the closed form's compute and the pipeline.
    peer = scheduled.get("bitmod-lossy")
    model = decoders.get("llama-2-7b")
    works = peer.adapted(workload.prefill(model, peer.weights, 256, peer.setting))
    array = replace(peer.array, dram_bits_per_cycle=10**6)
    busy = sum(run.simulate(w.product, array).counters["busy"] * w.copies for w in works if w.kind != "head")
    closed = bitmod.cycles(model, "bitmod-lossy", "prefill").compute
    head = 1024 * 1000 * 8 * 2  # here the head sees the last position only
    assert busy == closed - head


@pytest.mark.parametrize(
    ("rows", "lanes", "columns", "hz", "gops", "v1", "v2"),
    [
        (8, 256, 8, 200e6, 6553.6, 48112, 29678),
        (10, 256, 10, 300e6, 15360.0, 75175, 46372),
        (2, 64, 2, 200e6, 102.4, 1440, 956),
        (8, 64, 8, 200e6, 1638.4, 23044, 15301),
        (8, 128, 8, 200e6, 3276.8, 31400, 20093),
        (4, 256, 4, 200e6, 1638.4, 12028, 7420),
    ],
)
def test_bismo_peak_and_luts_are_the_published_ones(rows, lanes, columns, hz, gops, v1, v2):
    dpa = bismo.Dpa(rows=rows, lanes=lanes, columns=columns, clock_hz=hz)
    assert dpa.peak_gops == pytest.approx(gops, rel=1e-12)
    assert round(dpa.lut("v1")) == v1
    assert round(dpa.lut("v2")) == v2


def test_bismo_block_rams_round_every_buffer_up():
    dpa = bismo.Dpa(rows=8, lanes=48, columns=4)
    assert dpa.bram(1024, 1025) == 2 * (8 * 1 + 4 * 2)


@pytest.mark.parametrize(("m", "k", "n", "w", "a"), [(8, 256, 8, 1, 1), (17, 700, 9, 4, 3), (1, 1, 1, 8, 8)])
def test_bismo_cycles_are_this_arrays_compute_clocks(m, k, n, w, a):
    dpa = bismo.Dpa(rows=8, lanes=64, columns=4)
    product = Product(
        tokens=n,
        rows=m,
        columns=k,
        group=k,
        passes=(Pass(weight=places(w)),),
        activation=places(a),
        stored=Stored(planes=k * w),
    )
    array = dpa.array()
    assert dpa.cycles(m, k, n, w, a) == array.cycles(product.shape()) - array.latency()
    assert dpa.cycles(m, k, n, w, a) == run.simulate(product, array).counters["busy"]


def test_bismo_fetches_the_left_matrix_again_for_every_tile_of_columns():
    dpa = bismo.Dpa(rows=8, lanes=64, columns=4)
    assert dpa.fetch_bytes(8, 64, 8, 2, 3) == (8 * 3 * 64 + 8 * 2 * 64 * 2) // 8


def test_half_the_beats_are_left_of_a_packed_two_of_four_pattern():
    dense, sparse = scheduled.get("int8"), scheduled.get("int8-2:4")
    counts = []
    for peer in (dense, sparse):
        work = peer.adapted(workload.prefill(decoders.get("llama-2-7b"), peer.weights, 64, peer.setting))[0]
        counts.append(run.simulate(work.product, peer.array))
    assert counts[0].counters["busy"] == 512 * 8 * 4096 // 16
    assert counts[1].counters["busy"] * 2 == counts[0].counters["busy"]
    # Half the weights, a 2-bit index each, and a 16-bit scale for 128 columns.
    assert counts[1].moved["weight_buffer_writes"] == 4096 * (4096 // 2 * 10 + 32 * 16)


@pytest.mark.parametrize("name", scheduled.PEERS)
def test_every_peer_runs_a_decoder(name):
    peer = scheduled.get(name)
    works = peer.adapted(workload.decode(decoders.get("opt-125m"), peer.weights, 33, peer.setting))
    phase = workload.simulate("decode", 1, works, peer.array)
    assert phase.total.clocks > phase.total.counters["busy"] > 0


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: bitmod.cycles(decoders.get("yi-6b"), "tpu", "prefill"),
            ValueError,
            "accelerator must be one of fp16, ant, olive, bitmod-lossless, bitmod-lossy, not 'tpu'",
        ),
        (
            lambda: bitmod.cycles(decoders.get("yi-6b"), "ant", "decode"),
            ValueError,
            "phase must be one of prefill, generation, not 'decode'",
        ),
        (
            lambda: bitmod.cycles(decoders.get("opt-125m"), "ant", "prefill"),
            ValueError,
            f"model must be one of {', '.join(MODELS)} on ant, not 'opt-125m'",
        ),
        (lambda: bismo.Dpa(rows=0, lanes=1, columns=1), ValueError, "rows must be at least 1, not 0"),
        (
            lambda: bismo.Dpa(rows=1, lanes=1, columns=1).lut("v3"),
            ValueError,
            "generation must be one of v1, v2, not 'v3'",
        ),
        (
            lambda: scheduled.get("tpu"),
            ValueError,
            f"peer must be one of {', '.join(scheduled.PEERS)}, not 'tpu'",
        ),
        (lambda: scheduled.TimedPe(depth=0), ValueError, "depth must be at least 1, not 0"),
        (
            lambda: scheduled.TimedPe().golden(0, Beat(w=0, x=0, mask=0)),
            NotImplementedError,
            "a peer's PE is timed, not computed with",
        ),
        (
            lambda: scheduled.TimedPe().resources(),
            NotImplementedError,
            "a peer's PE is timed, its cells are not counted",
        ),
        (lambda: scheduled.TimedPe().create(), NotImplementedError, "a peer's PE is timed, not built"),
    ],
)
def test_bad_input_is_refused_by_name(make, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        make()
