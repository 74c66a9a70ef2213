"""``planeforge workload`` as a user meets it: table, JSON, files, bad input; arrays as text."""

import csv
import json
import re

import pytest

from planeforge import hardware, workload
from planeforge.cli import main

SMALL = {
    "model_type": "llama",
    "hidden_size": 96,
    "intermediate_size": 160,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 2,
    "vocab_size": 300,
}


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    """Call the command line in a folder that holds a small model; returns status, output, error text."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps(SMALL))

    def call(*words):
        status = main(["workload", *map(str, words)])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


def test_help_has_an_example(run):
    status, out, _ = run("--help")
    assert status == 0
    assert "Example: planeforge workload" in " ".join(out.split())


def test_without_a_model_models_and_peers_are_listed(run):
    status, out, _ = run("--json")
    found = json.loads(out)
    assert status == 0
    assert "llama-2-7b" in [m["model"] for m in found["models"]]
    assert "int8-2:4" in [p["peer"] for p in found["peers"]]
    assert "llama-2-7b" in run()[1]


def test_a_config_is_run_in_both_phases_and_figures_are_consistent(run, tmp_path):
    status, out, err = run(
        "model", "--format", "sign-g128", "--format", "mxfp4", "--prefill", 20, "-o", "t.csv", "--json"
    )
    assert (status, err) == (0, "")
    found = json.loads(out)
    rows = found["rows"]
    assert [(r["format"], r["phase"]) for r in rows] == [
        (f, p) for f in ("sign-g128", "mxfp4") for p in ("prefill", "decode")
    ]
    assert (found["model"], found["context"], found["closed_form"]) == ("model", 21, {})
    for row in rows:
        assert row["seconds"] == pytest.approx(row["clocks"] / found["clock_hz"])
        shares = sum(v for k, v in row.items() if k.endswith("_share"))
        assert 0 < shares < 1
        moved = [row[f"dram_{kind}_bytes"] for kind in ("weights", "activations", "results")]
        assert row["dram_bytes"] == pytest.approx(sum(moved))
    with (tmp_path / "t.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [int(r["clocks"]) for r in table] == [r["clocks"] for r in rows]


def test_a_table_is_printed_for_people(run):
    status, out, _ = run("model/config.json", "--prefill", 0, "--context", 9, "--format", "int4-g128")
    assert status == 0
    assert "int4-g128" in out
    assert "decode" in out
    assert "prefill" not in out.replace("prefill_", "")


def test_array_and_dataflow_reach_the_schedule(run):
    def row(*words):
        return json.loads(run("model", "--prefill", 40, "--no-decode", "--json", *words)[1])["rows"][0]

    narrow, wide = (row("--array", f"4x4:dram_bits_per_cycle={bits}") for bits in (1, 256))
    assert narrow["clocks"] > 5 * wide["clocks"]
    staying = row("--array", "4x4:dram_bits_per_cycle=256", "--dataflow", "weight-stationary")
    assert 3 * staying["weight_buffer_reads_bytes"] < wide["weight_buffer_reads_bytes"]


def test_a_trace_is_written_whole(run, tmp_path):
    status, _, _ = run(
        "model", "--prefill", 40, "--trace", "t.json", "--trace-product", "up", "--trace-jobs", 5
    )
    assert status == 0
    made = json.loads((tmp_path / "t.json").read_text())
    spans = [e for e in made["traceEvents"] if e["ph"] == "X"]
    assert sum(e["name"].startswith("job ") for e in spans) == 5
    assert [p.name for p in tmp_path.iterdir() if p.suffix == ".part"] == []


def test_a_peer_prints_its_own_formula_beside_the_schedule(run):
    status, out, _ = run("model", "--peer", "bitmod-lossy", "--prefill", 16, "--json")
    found = json.loads(out)
    assert status == 0
    assert set(found["closed_form"]) == {"prefill", "generation"}
    assert found["closed_form"]["prefill"]["compute"] > 0
    assert found["act_bits"] == 16
    status, out, _ = run("model", "--peer", "bismo-8x256x8", "--prefill", 16)
    assert status == 0
    assert "6553.6" in out


def test_formats_are_those_of_the_catalog_the_described_and_the_methods_own():
    from algo.formats import catalog

    names = workload.format_names()
    assert set(catalog.ALL) < set(names)
    assert {"mxfp4", "billm", "xnor"} < set(names)
    assert "rtn" not in names
    made = workload.formats(["xnor"])["xnor"]
    assert made.group is not None or made.row_bits > 0
    assert made.name == "xnor"


def test_a_product_of_two_matrices_is_left_out_of_all_and_refused_by_name(run):
    status, out, err = run("model", "--format", "nanoquant")
    assert (status, out) == (2, "")
    assert err == "error: format must be of one matrix, not 'nanoquant', which holds a product of two\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model", "--format", "int9"], "error: format must be one of all, int8-g128"),
        (["modell"], "error: model must be a config.json, its directory, or one of llama-2-7b"),
        (["model", "--peer", "tpu"], "error: peer must be one of fp16"),
        (["model", "--prefill", "0", "--no-decode"], "error: prefill must be at least 1 where nothing is"),
        (["model", "--batch", "0"], "error: batch must be at least 1, not 0"),
        (["model", "--dataflow", "sideways"], "error: dataflow must be one of output-stationary"),
        (
            ["model", "--trace", "t.json", "--trace-product", "z"],
            "error: trace-product must be one of q, k, v",
        ),
        (["model", "--array", "8x8:weight_buffer_bits=9"], "error: weight_buffer_bits must be at least"),
        (["bad.json"], "error: bad.json must hold JSON:"),
        (["list.json"], "error: list.json must hold a JSON object, not [1]"),
    ],
)
def test_bad_input_is_one_line_and_status_two(run, tmp_path, words, message):
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "list.json").write_text("[1]")
    status, out, err = run(*words)
    assert (status, out) == (2, "")
    assert err.startswith(message)
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("8", "array must be ROWSxCOLUMNS such as 8x8, not '8'"),
        ("8x8:buffers=two", "buffers must be an integer, not 'two'"),
        ("8x8:clock_hz=fast", "clock_hz must be a number, not 'fast'"),
        ("8x8:pack_kept=1", "pack_kept must be true or false, not '1'"),
    ],
)
def test_arrays_are_refused_by_the_field_that_is_wrong(text, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        hardware.array(text)


def test_an_unknown_field_of_an_array_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match=r"^array parameter must be one of clock_hz, .*, not 'rows'$"):
        hardware.array("8x8:rows=3")


def test_an_array_takes_every_field_as_text():
    text = "4x2:clock_hz=1e9,dataflow=weight-stationary,scale_clocks=8,pack_kept=true,buffers=1"
    spec = hardware.array(text)
    assert (spec.rows, spec.columns, spec.clock_hz, spec.scale_clocks) == (4, 2, 1e9, 8)
    assert (spec.dataflow, spec.pack_kept, spec.buffers) == ("weight-stationary", True, 1)
