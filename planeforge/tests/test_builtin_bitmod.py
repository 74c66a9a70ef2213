"""The built-in BitMoD study: cycles of the closed form, energies by hand, what the command prints."""

import csv
import json
import re

import pytest

from cost_models import bitmod as costs
from planeforge import builtin
from planeforge.builtin import bitmod as study
from planeforge.cli import main
from sim import decoders
from sim.peers import bitmod
from sim.tests.test_cycles_peers import MACHINES, MODELS, by_formula


@pytest.fixture(scope="module")
def found():
    return builtin.run("bitmod")


def test_all_sixty_rows_have_the_cycles_of_the_published_formulas(found):
    rows = {(r["model"], r["accelerator"], r["phase"]): r for r in found["rows"]}
    assert len(rows) == len(found["rows"]) == 60
    for model in MODELS:
        for name in MACHINES:
            for phase in ("prefill", "generation"):
                row = rows[model, name, phase]
                cycles = (row["compute_cycles"], row["dram_cycles"], row["cycles"])
                assert cycles == by_formula(name, model, phase == "generation")


def test_energy_is_that_of_the_released_formulas_by_hand(found):
    (row,) = (
        r
        for r in found["rows"]
        if (r["model"], r["accelerator"], r["phase"]) == ("opt-1.3b", "fp16", "generation")
    )
    layers = [(2048, 2048)] * 4 * 24 + [(8192, 2048), (2048, 8192)] * 24 + [(50272, 2048)]
    attention = [(256, 64), (64, 256)] * 24 * 32
    steps = bits = outputs = 0
    for out, cin in layers + attention:
        steps += cin * -(-out // 64)
        bits += 16 * cin * out
        outputs += 16 * (out + cin)
    assert row["compute_cycles"] == steps  # one token is one tile of tokens
    assert row["energy_compute_pj"] == pytest.approx(768 * steps * 0.77 * 1.5)
    assert row["energy_dram_pj"] == pytest.approx((bits + outputs) * 1200 / 64)
    # 64 rows of 16 bits are a word of 1024 bits, 12 columns one of 192, between 128 and 256.
    weight, narrow = 138.4, 60.1 * (70.1 / 60.1) ** 0.5849625007211562
    assert row["energy_buffer_reads_pj"] == pytest.approx(steps * (weight + narrow))
    written = 18.6 * (12.9 / 18.6) ** 0.5849625007211562
    assert row["energy_buffer_writes_pj"] == pytest.approx((bits * 9.76 + outputs * written) / 64)
    parts = [
        v for k, v in row.items() if re.fullmatch("energy_(compute|buffer_reads|buffer_writes|dram)_pj", k)
    ]
    assert row["energy_pj"] == pytest.approx(sum(parts))
    assert row["power_w"] == pytest.approx(row["energy_pj"] * 1e-12 / (row["cycles"] * 1e-9))


def test_a_fetch_is_what_the_memory_cycles_count():
    for model in MODELS:
        for name in MACHINES:
            for phase in bitmod.PHASES:
                moved = bitmod.traffic(decoders.get(model), name, phase)
                cycles = bitmod.cycles(decoders.get(model), name, phase).dram
                # A layer's last cycle need not be full.
                layers = 9 * decoders.get(model).layers + 1
                assert cycles <= moved.dram_bits / 256 <= cycles + layers


def test_words_are_what_a_step_takes():
    serial = bitmod.traffic(decoders.get("phi-2"), "bitmod-lossless", "generation")
    assert (serial.weight_word, serial.input_word) == (4 * 8 * 64 // 2, 4 * 16 * 16 // 2)
    parallel = bitmod.traffic(decoders.get("llama-3-8b"), "olive", "prefill")
    assert (parallel.weight_word, parallel.input_word) == (8 * 36, 16 * 32)


def test_every_energy_stands_in_its_range_and_what_is_shared_cancels(found):
    for row in found["rows"]:
        assert row["energy_low_pj"] < row["energy_pj"] < row["energy_high_pj"]
        assert row["energy_over_fp16_low"] <= row["energy_over_fp16"] <= row["energy_over_fp16_high"]
        absolute = row["energy_high_pj"] / row["energy_low_pj"]
        assert row["energy_over_fp16_high"] / row["energy_over_fp16_low"] < absolute / 2


def test_means_are_near_the_published_ones(found):
    means = {(m["work"], m["accelerator"], m["over"]): m for m in found["means"]}
    for over, speed, energy in (("ant", 1.69, 1.48), ("olive", 1.48, 1.31)):
        both = [means[work, "bitmod-lossy", over] for work in ("prefill", "both")]
        assert sum(m["speedup"] for m in both) / 2 == pytest.approx(speed, rel=0.05)
        assert sum(m["energy_ratio"] for m in both) / 2 == pytest.approx(energy, rel=0.05)


def test_energy_saved_on_prompt_and_tokens_is_of_their_sum():
    model, name = "yi-6b", "ant"
    whole = study.spent(model, name, "both").total
    each = [study.energy(model, name, phase).total for phase in bitmod.PHASES]
    assert whole == pytest.approx(each[0] + 20 * each[1])


def test_the_command_prints_the_study_and_writes_its_table(capsys, tmp_path):
    assert main(["compare", "--builtin", "bitmod", "--json", "-o", str(tmp_path / "new")]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert {"model", "accelerator", "phase", "cycles", "energy_pj"} <= set(printed["rows"][0])
    with (tmp_path / "new" / "bitmod.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [int(r["cycles"]) for r in table] == [r["cycles"] for r in printed["rows"]]
    assert main(["compare", "--builtin", "bitmod"]) == 0
    out = capsys.readouterr().out
    assert "bitmod-lossy" in out
    assert "bitmod.system.dram = 18.75 [4, 40] pJ/bit" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--builtin", "ant"], "error: builtin must be one of bitmod, not 'ant'"),
        (["x.toml", "--builtin", "bitmod"], "error: study must not be given with --builtin, not 'x.toml'"),
        ([], "error: study must be a STUDY.toml, or --builtin name one that ships; neither is given"),
        (["x.toml"], "error: output must be a folder of results (-o), not None"),
    ],
)
def test_bad_input_is_one_line(capsys, words, message):
    assert main(["compare", *words]) == 2
    assert capsys.readouterr().err.strip() == message


def test_constants_and_buffers_out_of_the_table_are_refused():
    with pytest.raises(ValueError, match=r"^pe must be one of fp16, ant, olive, bitmod, not 'tpu'$"):
        costs.constant("pe", "tpu")
    with pytest.raises(ValueError, match=r"^width must be from 128 to 4096, not 96$"):
        costs.buffer("read_word_pj", 96)
    assert costs.buffer("area_mm2", 4096).value == pytest.approx(1.502)
    assert costs.buffer("read_word_pj", 128).value == pytest.approx(60.1)
