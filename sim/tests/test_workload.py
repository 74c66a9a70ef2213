"""Whole decoders: their shapes, their weight formats, and the products of either phase."""

import re
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from algo.bitplane.build import from_digits
from algo.bitplane.storage import stored_bytes
from algo.formats import catalog
from hw.pe.bitserial import BitSerial
from hw.spec import ArraySpec
from sim import decoders, schedule, weight_formats, workload
from sim.cycles import run

ARRAY = ArraySpec(pe=BitSerial())
INT4 = weight_formats.of_format(catalog.INT4_G128)

LLAMA = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "vocab_size": 32000,
}


def test_a_config_gives_the_shapes_of_the_library():
    made = decoders.from_config(LLAMA, "llama-2-7b")
    known = decoders.get("llama-2-7b")
    assert replace(made, source=known.source) == known
    grouped = decoders.from_config(LLAMA | {"num_key_value_heads": 8, "head_dim": 64})
    assert grouped.linear()["q"] == (2048, 4096)
    assert grouped.linear()["k"] == (512, 4096)
    assert grouped.linear()["o"] == (4096, 2048)
    opt = decoders.from_config(
        {
            "model_type": "opt",
            "hidden_size": 2048,
            "ffn_dim": 8192,
            "num_attention_heads": 32,
            "num_hidden_layers": 24,
            "vocab_size": 50272,
        },
        "opt-1.3b",
    )
    assert replace(opt, source="") == replace(decoders.get("opt-1.3b"), source="")


#: Parameters that the models' makers print, without embeddings that are not the head's and without norms.
@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("llama-2-7b", 6.6),
        ("llama-3-8b", 7.5),
        ("mistral-7b", 7.1),
        ("qwen2.5-0.5b", 0.49),
        ("opt-1.3b", 1.3),
    ],
)
def test_library_models_have_their_published_size(name, billions):
    assert decoders.get(name).weights() / 1e9 == pytest.approx(billions, rel=0.02)
    assert all(model.source for model in decoders.LIBRARY.values())


@pytest.mark.parametrize("name", catalog.ALL)
def test_a_catalog_format_occupies_what_a_packed_matrix_of_it_does(name):
    fmt = catalog.ALL[name]
    rng = np.random.default_rng(1)
    rows, columns = 24, 5 * fmt.group
    zero = np.zeros((rows, 5), np.int64) if fmt.zero else None
    matrix = from_digits(fmt, rng.choice(fmt.values(), (rows, columns)), rng.uniform(1, 2, (rows, 5)), zero)
    product = weight_formats.of_format(fmt).product("w", 3, rows, columns, 8)
    assert product.shape() == schedule.shape(matrix, 8, 3)
    slack = rows * product.stored.row + product.stored.shared - 8 * sum(stored_bytes(matrix).values())
    assert 0 <= slack < 3 * rows
    found = weight_formats.of_format(fmt).bits_per_weight(columns, rows)
    assert found == pytest.approx(8 * sum(stored_bytes(matrix).values()) / (rows * columns), abs=3 / columns)


@pytest.mark.parametrize(
    ("name", "bits"), [("mxfp4", 4.25), ("nvfp4", 4.5), ("mxint8", 8.25), ("int4-2:4", 2 + 1 + 16 / 128)]
)
def test_described_formats_store_what_their_definitions_say(name, bits):
    assert weight_formats.PUBLISHED[name].bits_per_weight() == bits


def test_a_short_row_is_one_group():
    product = INT4.product("w", 1, 4, 96, 8)
    assert product.group == 96
    whole_row = replace(INT4, group=None)
    assert whole_row.product("w", 1, 4, 300, 8).group == 300
    assert whole_row.product("w", 1, 4, 300, 8).stored.scales == INT4.group_bits + INT4.row_bits


def test_fractions_of_a_bit_round_up_to_whole_ones():
    odd = replace(INT4, planes=Fraction(1, 3))
    assert odd.product("w", 1, 1, 100, 8).stored.planes == 34


def by_name(works):
    return {work.product.name: work for work in works}


def test_products_of_a_decoder_have_its_sizes():
    model = decoders.get("llama-3-8b")
    setting = workload.Setting(batch=3, act_bits=6, kv_bits=4)
    prefill = by_name(workload.prefill(model, INT4, 100, setting))
    q, scores, values, head = (prefill[n] for n in ("q", "scores", "values", "head"))
    assert (q.product.tokens, q.product.rows, q.product.columns, q.copies) == (300, 4096, 4096, 32)
    assert (prefill["k"].product.rows, prefill["k"].product.result_bits) == (1024, 4)
    assert prefill["k"].cache_bits == 300 * 1024 * 4
    # Four query heads share a key head, in every one of 8 groups, 3 sequences and 32 layers.
    assert (scores.product.tokens, scores.product.rows, scores.product.columns) == (400, 100, 128)
    assert (values.product.tokens, values.product.rows, values.product.columns) == (400, 128, 100)
    assert scores.copies == values.copies == 8 * 3 * 32
    assert len(scores.product.passes[0].weight) == 4
    assert len(scores.product.activation) == 6
    assert scores.product.stored.planes * 100 == values.product.stored.planes * 128 == 100 * 128 * 4
    assert (head.product.tokens, head.product.rows, head.copies) == (3, 128256, 1)
    decode = by_name(workload.decode(model, INT4, 77, setting))
    assert (decode["q"].product.tokens, decode["scores"].product.tokens) == (3, 4)
    assert (decode["scores"].product.rows, decode["values"].product.columns) == (77, 77)


def test_a_phase_is_the_sum_of_its_products():
    model = decoders.get("opt-125m")
    works = workload.decode(model, INT4, 65, workload.Setting())
    phase = workload.simulate("decode", 1, works, ARRAY)
    each = [(work, run.simulate(work.product, ARRAY)) for work in works]
    assert phase.total.clocks == sum(work.copies * done.clocks for work, done in each)
    assert phase.total.dram_bits == sum(work.copies * done.dram_bits for work, done in each)
    assert set(phase.parts) == {"linear", "attention", "head"}
    # Two matrices of 64 x 65 cells of 8 bits and 65 scales a head, and a new key and value.
    assert phase.cache_bits == 12 * (2 * 12 * 65 * (64 * 8 + 16) + 2 * 768 * 8)
    figures = phase.figures()
    assert figures["tokens_per_second"] == pytest.approx(ARRAY.clock_hz / phase.total.clocks)
    assert sum(figures["stall_shares"].values()) < 1
    assert figures["dram_bytes"] * 8 == phase.total.dram_bits


def test_one_bit_work_of_a_decoder_is_its_weights_times_bits():
    model = decoders.get("opt-125m")
    sign = weight_formats.of_format(catalog.SIGN_G128)
    works = workload.decode(model, sign, 10, workload.Setting())
    phase = workload.simulate("decode", 1, works, ARRAY)
    attention = 12 * 12 * 2 * 10 * 64 * 8 * 8
    assert phase.total.macs == model.weights() * 8 + attention


def test_a_batch_shares_the_weights_of_a_decoded_token():
    model = decoders.get("opt-125m")
    one, eight = (
        workload.simulate("decode", n, workload.decode(model, INT4, 64, workload.Setting(batch=n)), ARRAY)
        for n in (1, 8)
    )
    assert eight.parts["linear"].moved["dram_weights"] == one.parts["linear"].moved["dram_weights"]
    assert eight.parts["attention"].moved["dram_weights"] == 8 * one.parts["attention"].moved["dram_weights"]
    assert eight.cache_bits == 8 * one.cache_bits


def test_an_accumulator_too_narrow_for_an_item_is_refused_with_both_widths():
    # 128 columns of codes to 15 times activations to -128: 245,760, which takes 19 bits.
    model = decoders.get("opt-125m")
    works = workload.decode(model, INT4, 10, workload.Setting())[:1]
    wide, narrow = (replace(ARRAY, pe=BitSerial(lanes=64, acc_width=width)) for width in (19, 18))
    assert workload.simulate("decode", 1, works, wide).total.clocks > 0
    message = r"^acc_width must be at least 19 for 128 columns of 4 x 8 planes, not 18$"
    with pytest.raises(ValueError, match=message):
        workload.simulate("decode", 1, works, narrow)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: decoders.from_config(LLAMA | {"model_type": "bert"}),
            f"model_type must be one of {', '.join(sorted(decoders.GATED + decoders.PLAIN))}, not 'bert'",
        ),
        (
            lambda: decoders.from_config({k: v for k, v in LLAMA.items() if k != "vocab_size"}),
            "vocab_size must be a positive integer in the config, not None",
        ),
        (
            lambda: decoders.from_config(LLAMA | {"num_hidden_layers": 0}),
            "num_hidden_layers must be a positive integer in the config, not 0",
        ),
        (
            lambda: decoders.from_config(LLAMA | {"num_key_value_heads": 5}),
            "kv_heads must divide heads=32, not 5",
        ),
        (lambda: replace(decoders.get("phi-2"), layers=0), "layers must be at least 1, not 0"),
        (
            lambda: decoders.get("gpt-5"),
            f"model must be one of {', '.join(decoders.LIBRARY)}, not 'gpt-5'",
        ),
        (lambda: workload.Setting(kv_bits=0), "kv_bits must be at least 1, not 0"),
    ],
)
def test_bad_input_is_refused_by_name(make, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make()
