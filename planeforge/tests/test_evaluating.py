"""``planeforge eval --reference``: a packed model beside its original, and what passes for one."""

import json
import re
import shutil

import pytest
import torch
import transformers

from algo.tests import tiny_model
from planeforge.cli import main
from planeforge.demo import assets

SMALL = str(assets.model(assets.UNIT_TEST_MODEL))
FEW = ("--characters", "1500")


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    out = tmp_path_factory.mktemp("models") / "int3"
    assert main(["quantize", SMALL, "--method", "rtn", "--format", "int3-g128", "-o", str(out)]) == 0
    return out


def printed(capsys, *words):
    capsys.readouterr()
    assert main([*map(str, words), *FEW, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_packed_model_beside_its_original_scores_as_its_method_does(packed, capsys):
    method = printed(capsys, "eval", SMALL, "--method", "rtn", "--format", "int3-g128")
    folder = printed(capsys, "eval", packed, "--reference", SMALL)
    for key in ("kl_nats", "kl_nats_se", "flip_rate", "flip_rate_se", "nats_per_token_increase"):
        assert folder[key] == pytest.approx(method[key], abs=1e-6)
    assert folder["reference"] == SMALL
    assert 0.01 < folder["flip_rate"] < 0.5
    plain = printed(capsys, "eval", SMALL)
    difference = folder["nats_per_token"] - plain["nats_per_token"]
    assert folder["nats_per_token_increase"] == pytest.approx(difference, abs=1e-6)


def test_without_a_reference_its_figures_are_null_and_the_window_is_stated(packed, capsys):
    found = printed(capsys, "eval", packed)
    assert (found["kl_nats"], found["flip_rate"], found["nats_per_token_increase"]) == (None, None, None)
    assert "reference" not in found
    assert (found["window"], found["stride"]) == (128, 64)


def test_coarser_activations_of_a_format_cost_more_and_every_engine_agrees(packed, capsys):
    reads = ("--reference", SMALL, "--act-format")
    loss = {}
    for name in ("mxint8", "mxfp4", "int2"):
        found = printed(capsys, "eval", packed, "--engine", "numba", *reads, name)
        assert found["act_format"] == name
        loss[name] = found["kl_nats"]
    assert loss["mxint8"] < loss["mxfp4"] < loss["int2"]
    exact = printed(capsys, "eval", packed, "--engine", "integer", *reads, "mxfp4")
    assert exact["kl_nats"] == loss["mxfp4"]


def test_a_format_of_activations_needs_an_engine_that_rounds_them(packed, capsys):
    assert main(["eval", str(packed), "--act-format", "mxfp4"]) == 2
    assert "act-format must be left out with engine float, not 'mxfp4'" in capsys.readouterr().err


def test_a_model_beside_itself_does_not_flip(capsys):
    found = printed(capsys, "eval", SMALL, "--reference", SMALL)
    assert (found["kl_nats"], found["flip_rate"], found["nats_per_token_increase"]) == (0, 0, 0)


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """Directories that are no original of the small model."""
    folder = tmp_path_factory.mktemp("others")
    tiny_model.write(folder / "smaller")
    torch.manual_seed(0)
    config = transformers.OPTConfig(
        vocab_size=30, hidden_size=16, ffn_dim=16, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=16, word_embed_proj_dim=16,
    )  # fmt: skip
    transformers.OPTForCausalLM(config).save_pretrained(folder / "opt")
    tiny_model.tokenizer().save_pretrained(folder / "opt")
    swapped = shutil.copytree(SMALL, folder / "swapped")
    tokens = json.loads((swapped / "tokenizer.json").read_text(encoding="utf-8"))
    names = sorted(tokens["model"]["vocab"], key=tokens["model"]["vocab"].get)
    tokens["model"]["vocab"] |= {names[-1]: len(names) - 2, names[-2]: len(names) - 1}
    (swapped / "tokenizer.json").write_text(json.dumps(tokens), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "{packed} --reference {others}/opt",
            "reference must be of the model's architecture LlamaForCausalLM, not OPTForCausalLM",
        ),
        (
            "{packed} --reference {others}/smaller",
            "reference must hold model.embed_tokens.weight [",
        ),
        (
            "{packed} --reference {others}/swapped",
            "reference must have the model's vocabulary, not another tokenizer",
        ),
        (
            "{small} --method rtn --reference {small}",
            "reference must be left out with a method, not '",
        ),
        ("{packed} --reference {others}/none", "model directory must exist, and '{others}/none' does not"),
    ],
)
def test_what_is_no_original_is_refused_in_one_line(packed, others, capsys, words, message):
    names = {"packed": packed, "others": others, "small": SMALL}
    assert main(["eval", *words.format(**names).split(), *FEW]) == 2
    error = capsys.readouterr().err
    assert re.match(f"error: {re.escape(message.format(**names))}", error), error
    assert error.count("\n") == 1
