"""Whole models: quantized into a folder, read back, scored, verified on their own activations."""

import hashlib
import json
import re
import shutil

import numpy as np
import pytest
import safetensors.torch
import torch
from safetensors import safe_open

import planeforge
from algo import checkpoint as door
from algo import driver, evaluation, plan
from algo.bitplane import decode, family, storage
from algo.formats.quantized import Quantized
from algo.methods import rtn, sign
from algo.plan import Choice
from algo.tests import tiny_model
from planeforge import model_quantizing, packed_model, windows
from planeforge.cli import main
from planeforge.demo import assets
from planeforge.packed import read
from planeforge.quantizing import overall_bits
from sim.linear import swap

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
    assert {"packed-00000-of-00001.safetensors", "rest.safetensors", "manifest.json"} <= names
    assert {"config.json", "tokenizer.json"} <= names
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
    digests = {
        name: hashlib.sha256(linear.weight.detach().numpy().tobytes()).hexdigest()
        for name, linear in door.linear_layers(source.model)
    }
    assert provenance.sources == digests
    assert set(matrices) == set(digests)


def test_the_manifest_says_of_each_layer_what_was_measured_and_no_time(packed):
    manifest = json.loads((packed / "manifest.json").read_text())
    matrices, _ = read(packed)
    assert list(manifest["layers"]) == list(matrices)
    for name, made in manifest["layers"].items():
        matrix = matrices[name]
        assert made["shape"] == [matrix.rows, matrix.columns]
        assert made["bits_per_weight"] == storage.bits_per_weight(matrix)
        assert made["breakdown"] == pytest.approx(storage.breakdown(matrix))
        assert (made["method"], made["config"]["format"]) == ("rtn", "int4-g128")
        assert made["bits_per_weight_published"] == 4
        assert 0 < made["output_error"] < 0.02
        assert 0 < made["weight_error"] < 0.02
    sizes = [m.rows * m.columns for m in matrices.values()]
    errors = [made["output_error"] for made in manifest["layers"].values()]
    total = manifest["totals"]
    assert total["bits_per_weight"] == overall_bits(list(matrices.values())) == overall_bits(matrices)
    assert total["output_error"] == pytest.approx(np.average(errors, weights=sizes))
    text = hashlib.sha256(assets.calibration_text().encode()).hexdigest()
    assert manifest["calibration"]["text_sha256"] == text
    assert manifest["calibration"]["length"] == 128
    assert manifest["checkpoint"] == door.load(SMALL).sha256
    assert manifest["versions"]["planeforge"] == planeforge.__version__
    assert "seconds" not in (packed / "manifest.json").read_text()


@pytest.mark.parametrize("family", tiny_model.FAMILIES)
def test_every_family_comes_back_as_the_driver_left_it_in_memory(family, tmp_path, capsys):
    source = tiny_model.write_family(tmp_path / "model", family, shard="4KB")
    text = tmp_path / "calib.txt"
    text.write_text("the quick brown fox jumps over the lazy dog.\n" * 6)
    words = ("--calib", text, "--sequences", "5", "--length", "13", "--seed", "4", "-o", tmp_path / "out")
    figures = printed(capsys, "quantize", source, "--method", "sign", *words)
    checkpoint = door.load(source)
    ids = windows.cut(checkpoint, text, 5, 13, 4).ids
    expected = driver.quantize_model(checkpoint, "sign", None, ids)
    loaded, matrices, _ = packed_model.load(tmp_path / "out")
    theirs = expected.model.state_dict()
    assert type(loaded.model) is type(expected.model)
    for name, tensor in loaded.model.state_dict().items():
        assert torch.equal(tensor, theirs[name]), name
    for (name, one), (_, other) in zip(
        loaded.model.named_buffers(), expected.model.named_buffers(), strict=True
    ):
        assert torch.equal(one, other), name
    assert figures["output_error"] == model_quantizing.totals(expected.layers)["output_error"]
    # The linear layers compute from the planes: 16-bit activations come near the float product.
    packed = swap(loaded.model, matrices, "numba", 16)
    tokens = torch.from_numpy(ids[:2])
    with torch.no_grad():
        near, exact = packed(tokens).logits, loaded.model(tokens).logits
    assert float((near - exact).abs().max()) < 2e-2 * float(exact.abs().max())
    assert not torch.equal(near, exact)


def test_random_windows_are_drawn_by_the_seed_and_cut_from_the_text(tmp_path):
    checkpoint = door.load(SMALL)
    text = tmp_path / "calib.txt"
    text.write_text(assets.calibration_text()[:4000])
    tokens = evaluation.tokens(checkpoint, text.read_text()).ids
    ordered = windows.cut(checkpoint, text, None, 50).ids
    np.testing.assert_array_equal(ordered.ravel(), tokens[: len(tokens) // 50 * 50])
    assert windows.cut(checkpoint, text).ids.shape[1] == checkpoint.context
    drawn = windows.cut(checkpoint, text, 40, 9, 1).ids
    assert drawn.shape == (40, 9)
    every = np.lib.stride_tricks.sliding_window_view(tokens, 9)
    assert all(np.any(np.all(every == window, axis=1)) for window in drawn)
    np.testing.assert_array_equal(drawn, windows.cut(checkpoint, text, 40, 9, 1).ids)
    assert not np.array_equal(drawn, windows.cut(checkpoint, text, 40, 9, 2).ids)
    # The last place of all is drawn as well.
    short = tmp_path / "short.txt"
    short.write_text("import this and that")
    count = len(evaluation.tokens(checkpoint, short.read_text()).ids)
    two = windows.cut(checkpoint, short, 60, count - 1, 0).ids
    assert len({window.tobytes() for window in two}) == 2


def test_a_plan_gives_each_layer_its_method(tmp_path, capsys):
    names = [name for name, _ in door.linear_layers(door.load(SMALL).model)]
    fine = Choice(method="rtn", config=rtn.Config(format="int8-g128"))
    coarse = Choice(method="sign", config=sign.Config())
    layers = {name: fine if "mlp" in name else coarse for name in names}
    plan.write(tmp_path / "plan.json", plan.Plan(layers=layers, by="hand", budget=5.0))
    words = ("--plan", tmp_path / "plan.json", "--sequences", "4", "-o", tmp_path / "out")
    figures = printed(capsys, "quantize", SMALL, *words)
    assert figures["method"] == "plan"
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["config"] == {"by": "hand", "budget": 5.0}
    for name, made in manifest["layers"].items():
        assert made["method"] == layers[name].method
        assert (made["bits_per_weight"] > 8) == ("mlp" in name)
    shown = printed(capsys, "inspect", tmp_path / "out")
    assert (shown["method"], shown["bits_per_weight"]) == ("plan", figures["bits_per_weight"])
    short = dict.fromkeys(names[:2], coarse)
    plan.write(tmp_path / "short.json", plan.Plan(layers=short))
    assert main(["quantize", SMALL, "--plan", str(tmp_path / "short.json"), "-o", str(tmp_path / "no")]) == 2
    assert capsys.readouterr().err == f"error: plan must name layer {names[2]}, and does not\n"


class Halves:
    """A method for tests: the product of two sign matrices of half the columns' rank."""

    SOURCE, FORMATS, Config = "none", (), sign.Config

    @staticmethod
    def needs_calibration(config):
        return False

    @staticmethod
    def quantize(weight, calibration=None, config=None):
        u, s, v = np.linalg.svd(weight, full_matrices=False)
        rank = max(1, len(s) // 2)
        inner = sign.quantize(s[:rank, None] * v[:rank]).matrix
        outer = sign.quantize(u[:, :rank]).matrix
        return Quantized(matrix=outer, inner=inner, published_bits=1.0)


@pytest.fixture
def halves(monkeypatch):
    real = family.load
    monkeypatch.setattr(family, "load", lambda of, name: Halves if name == "halves" else real(of, name))


def test_layers_held_as_products_pass_through_every_verb(halves, tmp_path, capsys):
    out = tmp_path / "out"
    figures = printed(capsys, "quantize", SMALL, "--method", "halves", "--sequences", "3", "-o", out)
    shown = {made["name"]: made for made in printed(capsys, "inspect", out)["matrices"]}
    manifest = json.loads((out / "manifest.json").read_text())
    name, *_ = manifest["layers"]
    assert list(shown)[:2] == [f"{name}@inner", name]
    assert shown[name]["shape"][1] == shown[f"{name}@inner"]["shape"][0]
    both = sum(sum(shown[n]["bytes"].values()) for n in (name, f"{name}@inner"))
    rows, columns = manifest["layers"][name]["shape"]
    assert manifest["layers"][name]["bits_per_weight"] == 8 * both / (rows * columns)
    loaded, matrices, _ = packed_model.load(out)
    assert figures["bits_per_weight"] == overall_bits(matrices)
    expected = decode.dequantize(matrices[name]) @ decode.dequantize(matrices[f"{name}@inner"])
    np.testing.assert_array_equal(
        loaded.model.get_submodule(name).weight.numpy(), expected.astype(np.float32)
    )
    rows = printed(capsys, "verify", out, "--engines", "torch,numba,integer", "--tokens", "3")["engines"]
    assert [(row["layers"], row["result"]) for row in rows] == [(14, "agrees")] * 3
    float_score = printed(capsys, "eval", out, "--characters", "400")
    exact_score = printed(capsys, "eval", out, "--characters", "400", "--engine", "numba")
    assert exact_score["nats_per_token"] == pytest.approx(float_score["nats_per_token"], rel=0.02)
    assert exact_score["nats_per_token"] != float_score["nats_per_token"]
    np.save(tmp_path / "x.npy", np.ones((2, columns), np.float32))
    words = ("--layer", f"{name}@inner", "--activations", tmp_path / "x.npy")
    assert printed(capsys, "simulate", out, *words)["tokens"] == 2
    assert printed(capsys, "cost", out, "--layer", name)["tokens"] == 16


def test_a_product_of_one_tensor_is_two_matrices_in_its_file(halves, tmp_path, capsys):
    np.save(tmp_path / "w.npy", np.random.default_rng(0).normal(size=(20, 70)).astype(np.float32))
    np.save(tmp_path / "x.npy", np.random.default_rng(1).normal(size=(30, 70)).astype(np.float32))
    words = ("--method", "halves", "--calib", tmp_path / "x.npy", "-o", tmp_path / "w.packed")
    figures = printed(capsys, "quantize", tmp_path / "w.npy", *words)
    matrices, _ = read(tmp_path / "w.packed")
    assert list(matrices) == ["weight@inner", "weight"]
    w, x = np.load(tmp_path / "w.npy"), np.load(tmp_path / "x.npy").astype(np.float64)
    q = decode.dequantize(matrices["weight"]) @ decode.dequantize(matrices["weight@inner"])
    assert figures["weight_error"] == pytest.approx(np.sum((w - q) ** 2) / np.sum(w.astype(float) ** 2))
    assert figures["output_error"] == pytest.approx(np.sum((x @ (w - q).T) ** 2) / np.sum((x @ w.T) ** 2))
    stored = sum(sum(storage.stored_bytes(m).values()) for m in matrices.values())
    assert figures["bits_per_weight"] == 8 * stored / w.size
    assert sum(figures["breakdown"].values()) == pytest.approx(figures["bits_per_weight"])


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
        ("quantize {small} -o out", "method or plan must be given for a model, one of them, not neither"),
        ("quantize {small} --method rtn --plan p -o out", "method or plan must be given for a model, one "),
        ("quantize {small} --plan p --set group=8 -o out", "format, rotate and settings must be left out "),
        ("quantize {small} --plan p -o out", "plan must be an existing file, not 'p'"),
        ("quantize {small} --method rtn --device tpu -o out", "device must be one of cpu, cuda, auto, not "),
        ("quantize {small} --method rtn --length 129 -o out", "length must be at least 1 and at most 128, "),
        ("quantize {small} --method rtn --sequences 0 -o out", "sequences must be at least 1, not 0"),
        ("quantize {small} --method rtn --seed -1 -o out", "seed must be at least 0, not -1"),
        ("quantize {small} --method rtn -o no/out", "output folder must exist, not 'no'"),
        ("quantize w.npy -o out", "method must be given (planeforge methods lists them)"),
        ("quantize w.npy --plan p -o out", "plan must be left out for a single tensor, not 'p'"),
        ("quantize w.npy --method rtn --restart -o out", "restart must be left out for a single tensor: it"),
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
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.txt"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch sees a CUDA device")
def test_cuda_is_refused_where_torch_sees_none(tmp_path, capsys):
    assert main(["quantize", SMALL, "--method", "rtn", "--device", "cuda", "-o", str(tmp_path / "out")]) == 2
    message = "error: device must be cpu or auto where torch sees no CUDA device, not 'cuda'\n"
    assert capsys.readouterr().err == message
    assert model_quantizing.torch_device("auto") == "cpu"


def test_a_folder_that_only_looks_packed_is_never_replaced(tmp_path, capsys):
    for text in ("{}", "[", '{"schema": "other"}', "[1]"):
        (tmp_path / "manifest.json").write_text(text)
        assert main(["quantize", SMALL, "--method", "rtn", "-o", str(tmp_path)]) == 2
        message = "error: output must be new or a packed model to replace, not "
        assert capsys.readouterr().err.startswith(message)


def test_manifests_and_files_that_do_not_fit_are_refused(packed, tmp_path, capsys):
    spoilt = tmp_path / "spoilt"
    shutil.copytree(packed, spoilt)
    path = spoilt / "manifest.json"
    sound = json.loads(path.read_text())

    def refused(manifest):
        path.write_text(manifest if isinstance(manifest, str) else json.dumps(manifest))
        assert main(["inspect", str(spoilt)]) == 2
        return capsys.readouterr().err.removeprefix("error: ").strip()

    assert re.fullmatch(rf"{re.escape(str(path))} must be JSON, but Expecting .*", refused("{"))
    expected = f"{path} must have schema planeforge.model/1, not 'x'"
    assert refused({**sound, "schema": "x"}) == expected
    less = {key: value for key, value in sound.items() if key != "totals"}
    assert refused(less) == f"{path} must hold 'totals', and does not"
    name = next(iter(sound["layers"]))
    layers = {**sound["layers"], name: {}}
    expected = f"{path} must say where each layer is, but lacks 'file'"
    assert refused({**sound, "layers": layers}) == expected
    layers[name] = {**sound["layers"][name], "file": "../x"}
    assert refused({**sound, "layers": layers}) == f"{path} must name files beside it, not '../x'"
    layers = {key: value for key, value in sound["layers"].items() if key != name}
    shard = spoilt / "packed-00000-of-00001.safetensors"
    expected = f"{shard} must hold the matrices manifest.json names, not {name!r}"
    assert refused({**sound, "layers": layers}) == expected
    path.unlink()
    assert main(["inspect", str(spoilt)]) == 2
    expected = f"error: packed model must hold manifest.json, and '{spoilt}' does not\n"
    assert capsys.readouterr().err == expected


def test_a_rest_that_lacks_a_tensor_or_a_number_is_refused(packed, tmp_path):
    spoilt = tmp_path / "spoilt"
    shutil.copytree(packed, spoilt)
    path = spoilt / "rest.safetensors"
    tensors = safetensors.torch.load_file(path)
    norm = tensors.pop("model.norm.weight")
    safetensors.torch.save_file(tensors, path)
    message = "must hold all of LlamaForCausalLM, and lacks model.norm.weight"
    with pytest.raises(ValueError, match=f"^{re.escape(f'{spoilt} {message}')}$"):
        packed_model.load(spoilt)
    safetensors.torch.save_file({**tensors, "model.norm.weight": norm * torch.nan}, path)
    message = "tensor 'model.norm.weight' must be finite, and holds NaN or infinity"
    with pytest.raises(ValueError, match=f"^{re.escape(f'{path}: {message}')}$"):
        packed_model.load(spoilt)


def test_the_rest_is_the_source_byte_for_byte(tmp_path, capsys):
    source = tiny_model.write_family(tmp_path / "model", "llama")
    path = source / "model.safetensors"
    tensors = safetensors.torch.load_file(path)
    tensors["model.norm.weight"] = tensors["model.norm.weight"].double()
    tensors["model.embed_tokens.weight"] = tensors["model.embed_tokens.weight"].bfloat16()
    tensors["flags"] = torch.tensor([True, False, True])
    safetensors.torch.save_file(tensors, path, metadata={"format": "pt"})
    (tmp_path / "calib.txt").write_text("the quick brown fox " * 4)
    words = ("--method", "sign", "--calib", tmp_path / "calib.txt", "-o", tmp_path / "out")
    printed(capsys, "quantize", source, *words)
    rest = safetensors.torch.load_file(tmp_path / "out" / "rest.safetensors")
    layers = {f"{name}.weight" for name, _ in door.linear_layers(door.load(source).model)}
    assert set(rest) == set(tensors) - layers
    for name, tensor in rest.items():
        assert tensor.dtype == tensors[name].dtype
        assert torch.equal(tensor, tensors[name])
    kept = {p.name: p.read_bytes() for p in source.iterdir() if p.suffix != ".safetensors"}
    assert kept
    assert all((tmp_path / "out" / name).read_bytes() == text for name, text in kept.items())


def test_quantizing_again_replaces_the_folder_whole(packed, capsys):
    before = sorted(path.name for path in packed.iterdir())
    made = printed(capsys, "quantize", SMALL, "--method", "rtn", "--format", "int4-g128", "-o", packed)
    assert made["layers"] == 7
    assert sorted(path.name for path in packed.iterdir()) == before
    assert [path.name for path in packed.parent.iterdir()] == [packed.name]
