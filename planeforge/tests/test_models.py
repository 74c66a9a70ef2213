"""Whole models: quantized into a folder, read back, scored, verified on their own activations."""

import json
import re
import shutil

import numpy as np
import pytest
from safetensors import safe_open

from algo import checkpoint as door
from algo.bitplane import decode
from planeforge import packed_model
from planeforge.cli import main
from planeforge.demo import assets

SMALL = str(assets.model(assets.UNIT_TEST_MODEL))


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """The small model in int4, packed once."""
    folder = tmp_path_factory.mktemp("models")
    out = folder / "int4"
    assert main(["quantize", SMALL, "--method", "rtn", "--format", "int4-g128", "-o", str(out)]) == 0
    return out


def printed(capsys, *words):
    capsys.readouterr()
    assert main([*map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_folder_holds_planes_and_the_rest_and_no_dequantized_copy(packed):
    names = {path.name for path in packed.iterdir()}
    assert {"packed.safetensors", "rest.safetensors", "config.json", "tokenizer.json"} <= names
    assert "model.safetensors" not in names
    source = door.load(SMALL)
    layers = {name for name, _ in door.linear_layers(source.model)}
    with safe_open(packed / "rest.safetensors", framework="numpy") as rest:
        assert not {f"{name}.weight" for name in layers} & set(rest.keys())
    with safe_open(assets.model(assets.UNIT_TEST_MODEL) / "model.safetensors", framework="numpy") as whole:
        assert len(list(whole.keys())) > len(layers)


def test_reading_it_back_gives_the_dequantized_weights_and_the_rest_untouched(packed):
    source = door.load(SMALL)
    loaded, matrices, provenance = packed_model.load(packed)
    theirs = dict(loaded.model.named_parameters())
    for name, parameter in source.model.named_parameters():
        layer = name.removesuffix(".weight")
        if layer in matrices:
            expected = decode.dequantize(matrices[layer]).astype(np.float32)
        else:
            expected = parameter.detach().numpy()
        np.testing.assert_array_equal(theirs[name].detach().numpy(), expected, err_msg=name)
    assert provenance.method == "rtn"
    assert set(provenance.sources) == set(matrices)


def test_eval_scores_the_folder_as_it_scores_the_method_on_the_source(packed, capsys):
    few = ["--characters", "3000"]
    plain = printed(capsys, "eval", SMALL, *few)
    method = printed(capsys, "eval", SMALL, "--method", "rtn", "--format", "int4-g128", *few)
    folder = printed(capsys, "eval", packed, *few)
    assert folder["nats_per_token"] == pytest.approx(method["nats_per_token"], abs=1e-6)
    assert folder["bits_per_weight"] == method["bits_per_weight"] > 4
    assert 0 < method["kl_nats"] < 0.2
    assert abs(method["perplexity"] - plain["perplexity"]) < 0.1 * plain["perplexity"]


@pytest.mark.parametrize("engine", ["integer", "numba"])
def test_exact_integers_at_8_bits_score_like_float_activations(packed, capsys, engine):
    few = ["--characters", "600"]
    folder = printed(capsys, "eval", packed, *few)
    exact = printed(capsys, "eval", packed, "--engine", engine, *few)
    assert exact["nats_per_token"] == pytest.approx(folder["nats_per_token"], abs=0.02)
    assert exact["nats_per_token"] != folder["nats_per_token"]


def test_verify_runs_on_the_models_own_activations(packed, capsys):
    pe = "bitserial:lanes=64,acc_width=32"
    words = ("verify", packed, "--engines", "torch,numba,integer,cxxrtl", "--tokens", "3", "--pe", pe)
    rows = printed(capsys, *words, "--inject", "8")
    layers = len(door.linear_layers(door.load(SMALL).model))
    assert [row["layers"] for row in rows["engines"]] == [layers] * 4
    assert all(row["result"] == "agrees" for row in rows["engines"])
    assert all(fault["caught"] and fault["explained"] for fault in rows["faults"])


def test_recorded_inputs_are_what_the_layers_saw():
    loaded = door.load(SMALL)
    (name, linear), *_ = door.linear_layers(loaded.model)
    ids = np.arange(1, 9)
    seen = packed_model.record_inputs(loaded.model, [name], ids)[name]
    assert seen.shape == (8, linear.in_features)
    again = packed_model.record_inputs(loaded.model, [name], ids[:4])[name]
    np.testing.assert_allclose(again, seen[:4], rtol=1e-4, atol=1e-5)  # a causal model


def test_a_damaged_folder_is_refused_in_one_line(packed, tmp_path, capsys):
    for victim, message in (
        ("rest.safetensors", r"must hold rest\.safetensors"),
        ("config.json", r"config\.json"),
    ):
        spoilt = tmp_path / victim
        shutil.copytree(packed, spoilt)
        (spoilt / victim).unlink()
        assert main(["eval", str(spoilt)]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert re.search(message, error)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("eval {packed} --method rtn", "method must be left out for a packed model, not 'rtn'"),
        ("eval {small} --engine integer", "engine must be float for a model without --method, not "),
        ("eval {small} --engine abacus", "engine must be one of float, integer, numba, not 'abacus'"),
        ("eval {small} --text no.txt", "text must be an existing text file, not 'no.txt'"),
        ("quantize {small} --method rtn --holdout x.npy -o out", "holdout must be left out for a model"),
        ("quantize {small} --method rtn -o {small}", "output must be new or a packed model to replace"),
        (
            "quantize {small} --method billm --calib {tiny} -o out",
            "calib must hold at least 128 tokens, not ",
        ),
        ("inspect {packed} --layer nope", "layer must be one of model.layers.0.self_attn.q_proj, "),
        ("verify {packed} --tokens 0", "tokens must be at least 1, not 0"),
    ],
)
def test_requests_that_do_not_fit_are_refused(packed, tmp_path, capsys, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.txt").write_text("too little")
    capsys.readouterr()
    filled = words.format(packed=packed, small=SMALL, tiny="tiny.txt")
    assert main(filled.split()) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_quantizing_again_replaces_the_folder_whole(packed, capsys):
    before = sorted(path.name for path in packed.iterdir())
    made = printed(capsys, "quantize", SMALL, "--method", "rtn", "--format", "int4-g128", "-o", packed)
    assert made["layers"] == 7
    assert sorted(path.name for path in packed.iterdir()) == before
    assert [path.name for path in packed.parent.iterdir()] == [packed.name]
