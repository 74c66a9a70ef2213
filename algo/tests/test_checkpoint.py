"""Hugging Face directories: what is sound loads unchanged, what is not is refused in one line."""

import hashlib
import json
import re
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import safetensors.torch
import torch
import transformers

from algo import checkpoint
from algo.tests import tiny_model


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model.write(tmp_path_factory.mktemp("source"))


@pytest.fixture
def copy(source: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(source, tmp_path / "model"))


def refused(directory: Path) -> str:
    """Returns the refusal's message, which is one line."""
    with pytest.raises(ValueError, match=r"^.+$") as caught:
        checkpoint.load(directory)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_load_gives_the_file_in_float32_ready_to_run(source: Path) -> None:
    loaded = checkpoint.load(str(source))
    assert loaded.directory == source
    assert loaded.context == tiny_model.CONTEXT
    assert loaded.sha256 == hashlib.sha256((source / "model.safetensors").read_bytes()).hexdigest()
    assert not loaded.model.training
    assert {p.dtype for p in loaded.model.parameters()} == {torch.float32}
    assert not any(p.requires_grad for p in loaded.model.parameters())
    assert loaded.tokenizer("ab", add_special_tokens=False)["input_ids"] == [2, 3]
    stored = safetensors.torch.load_file(source / "model.safetensors")
    assert stored
    for name, tensor in loaded.model.state_dict().items():
        if name in stored:  # the tied head is not
            assert torch.equal(tensor, stored[name]), name


def test_bfloat16_weights_load_as_the_same_values_in_float32(copy: Path) -> None:
    rounded = {k: v.bfloat16() for k, v in safetensors.torch.load_file(copy / "model.safetensors").items()}
    safetensors.torch.save_file(rounded, copy / "model.safetensors", metadata={"format": "pt"})
    change_config(copy, dtype="bfloat16")  # what transformers would load it as, left to itself
    model = checkpoint.load(copy).model
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    layer = "model.layers.1.mlp.down_proj"
    assert torch.equal(model.get_submodule(layer).weight, rounded[f"{layer}.weight"].float())


def test_load_opens_no_connection_and_prints_nothing(
    source: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(*arguments: object) -> NoReturn:
        raise AssertionError(f"the network was asked for: {arguments}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    checkpoint.load(source)
    assert capfd.readouterr() == ("", "")


def test_shards_load_as_one_model(source: Path, tmp_path: Path) -> None:
    sharded = tiny_model.write(tmp_path, shard="8KB")
    files = sorted(sharded.glob("model-*.safetensors"))
    assert len(files) > 2
    assert checkpoint.weight_files(sharded) == files
    loaded = checkpoint.load(sharded)
    digests = "".join(hashlib.sha256(path.read_bytes()).hexdigest() for path in files)
    assert loaded.sha256 == hashlib.sha256(digests.encode()).hexdigest()
    whole = checkpoint.load(source).model.state_dict()
    for name, tensor in loaded.model.state_dict().items():
        assert torch.equal(tensor, whole[name]), name
    files[1].unlink()
    assert refused(sharded) == f"{files[1]} must be a file, and there is none"


def test_a_directory_without_tokenizer_loads_without_one(copy: Path) -> None:
    (copy / "tokenizer.json").unlink()
    (copy / "tokenizer_config.json").unlink()
    assert checkpoint.load(copy).tokenizer is None


def test_context_falls_back_to_what_the_tokenizer_was_cut_to(copy: Path) -> None:
    model = transformers.MambaForCausalLM(
        transformers.MambaConfig(vocab_size=31, hidden_size=8, num_hidden_layers=1, state_size=4)
    )
    model.save_pretrained(copy)
    assert checkpoint.load(copy).context == tiny_model.CONTEXT
    path = copy / "tokenizer_config.json"
    content = json.loads(path.read_text())
    del content["model_max_length"]
    path.write_text(json.dumps(content))
    assert refused(copy) == (
        f"{copy / 'config.json'} must give the trained context [tokens] as 'max_position_embeddings'"
    )


LLAMA_BLOCK = [
    *(f"self_attn.{name}_proj" for name in "qkvo"),
    *(f"mlp.{name}_proj" for name in ("gate", "up", "down")),
]


def test_linear_layers_are_the_blocks_own_in_model_order() -> None:
    model = tiny_model.model(0, tied=False)  # an untied head is an nn.Linear too
    found = checkpoint.linear_layers(model)
    assert [name for name, _ in found] == [
        f"model.layers.{at}.{name}" for at in (0, 1) for name in LLAMA_BLOCK
    ]
    assert all(layer is model.get_submodule(name) for name, layer in found)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (
            lambda: transformers.OPTForCausalLM(
                transformers.OPTConfig(
                    vocab_size=31, hidden_size=8, ffn_dim=12, num_hidden_layers=2, num_attention_heads=2,
                    max_position_embeddings=16, word_embed_proj_dim=4,
                )
            ),
            [
                f"model.decoder.layers.{at}.{name}"
                for at in (0, 1)
                for name in (*(f"self_attn.{part}_proj" for part in ("k", "v", "q", "out")), "fc1", "fc2")
            ],
        ),
        (
            lambda: transformers.GPTNeoXForCausalLM(
                transformers.GPTNeoXConfig(
                    vocab_size=31, hidden_size=8, intermediate_size=12, num_hidden_layers=1,
                    num_attention_heads=2, max_position_embeddings=16,
                )
            ),
            [
                f"gpt_neox.layers.0.{name}"
                for name in (
                    "attention.query_key_value", "attention.dense", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h",
                )
            ],
        ),
    ],
    ids=["OPT with projections around its blocks", "GPT-NeoX"],
)  # fmt: skip
def test_linear_layers_of_other_architectures_are_found(
    model: Callable[[], Any], expected: list[str]
) -> None:
    assert [name for name, _ in checkpoint.linear_layers(model())] == expected


def test_a_model_without_linear_layers_is_refused() -> None:
    config = transformers.GPT2Config(vocab_size=31, n_embd=8, n_layer=1, n_head=2, n_positions=16)
    message = r"^model must have nn\.Linear layers inside its decoder blocks, and GPT2LMHeadModel has none$"
    with pytest.raises(ValueError, match=message):
        checkpoint.linear_layers(transformers.GPT2LMHeadModel(config))


def test_a_missing_directory_is_refused(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    assert refused(gone) == f"model directory must exist, and '{gone}' does not"


def test_a_file_in_place_of_the_directory_is_refused(copy: Path) -> None:
    path = copy / "model.safetensors"
    assert refused(path) == f"model must be a Hugging Face directory, not the file '{path}'"


def test_a_directory_without_config_is_refused(copy: Path) -> None:
    (copy / "config.json").unlink()
    assert refused(copy) == f"{copy} must be a Hugging Face directory, and has no config.json"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", r"must be JSON \(Expecting property name .*\): fetch it again"),
        (b"\xff\xfe{}", r"must be JSON \('utf-8' codec can't decode .*\): fetch it again"),
        (b"[1]", "must hold a JSON object, not list"),
        (b"{}", "must name its architecture under 'model_type'"),
        (
            b'{"model_type": "llama", "quantization_config": {"quant_method": "gptq"}}',
            "must describe float weights, not quantized ones: give the original model",
        ),
    ],
)
def test_an_unusable_config_is_refused(copy: Path, content: bytes, reason: str) -> None:
    path = copy / "config.json"
    path.write_bytes(content)
    assert re.fullmatch(f"{re.escape(str(path))} {reason}", refused(copy))


def change_config(directory: Path, **changes: Any) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_weights(directory: Path, **changes: torch.Tensor | None) -> None:
    path = directory / "model.safetensors"
    tensors: dict[str, Any] = safetensors.torch.load_file(path) | changes
    safetensors.torch.save_file(
        {k: v for k, v in tensors.items() if v is not None}, path, metadata={"format": "pt"}
    )


@pytest.mark.parametrize(
    "changes", [{"model_type": "no-such-thing"}, {"hidden_size": 48}, {"hidden_size": "wide"}]
)
def test_a_config_that_does_not_fit_the_weights_is_refused(copy: Path, changes: dict[str, Any]) -> None:
    change_config(copy, **changes)
    assert refused(copy).startswith(f"{copy} must load as a causal language model, and does not: ")


def test_code_in_a_checkpoint_is_never_run(copy: Path, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    (copy / "modeling.py").write_text(f"open({str(mark)!r}, 'w')\n")
    change_config(
        copy, model_type="own", auto_map={"AutoConfig": "modeling.C", "AutoModelForCausalLM": "modeling.M"}
    )
    assert refused(copy) == f"{copy} must load without running the code it brings (auto_map)"
    assert not mark.exists()


def test_missing_tensors_are_refused_not_made_up(copy: Path) -> None:
    name = "model.layers.1.mlp.up_proj.weight"
    change_weights(copy, **{name: None})
    assert refused(copy) == f"{copy} must hold all of LlamaForCausalLM, and lacks {name}"


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_that_are_not_finite_are_refused_by_name(copy: Path, bad: float, dtype: torch.dtype) -> None:
    name = "model.layers.0.self_attn.k_proj.weight"
    weight = torch.ones(12, 24, dtype=dtype)
    weight[7, 5] = bad
    change_weights(copy, **{name: weight})
    path = copy / "model.safetensors"
    assert refused(copy) == f"{path}: tensor '{name}' must be finite, and holds NaN or infinity"


def test_text_in_place_of_weights_is_refused(copy: Path) -> None:
    path = copy / "model.safetensors"
    path.write_text("version https://git-lfs.github.com/spec/v1\n")
    expected = (
        rf"{re.escape(str(path))} must be a whole safetensors file \(.*header too large\): fetch it again"
    )
    assert re.fullmatch(expected, refused(copy))


@pytest.mark.parametrize("kept", [0, 7, 8, 100, -1])
def test_truncated_weights_are_refused(copy: Path, kept: int) -> None:
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    expected = rf"{re.escape(str(path))} must be a whole safetensors file \(.*\): fetch it again"
    assert re.fullmatch(expected, refused(copy))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "consolidated.00.pth"])
def test_pickled_weights_are_refused(copy: Path, name: str) -> None:
    (copy / "model.safetensors").rename(copy / name)
    assert refused(copy) == (
        f"{copy} must hold model.safetensors, not pickled weights ({name}), which can run code: "
        "convert them to safetensors"
    )


def test_a_directory_without_weights_is_refused(copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    assert refused(copy) == (
        f"{copy} must hold model.safetensors or model.safetensors.index.json, and has neither"
    )


@pytest.mark.parametrize(
    ("index", "reason"),
    [
        ({}, "must map tensor names to files under 'weight_map': fetch it again"),
        ({"weight_map": {"a": 1}}, "must map tensor names to files under 'weight_map': fetch it again"),
        ({"weight_map": {"a": "../a.safetensors"}}, "must name files beside it, not '../a.safetensors'"),
    ],
)
def test_an_unusable_index_is_refused(copy: Path, index: dict[str, Any], reason: str) -> None:
    (copy / "model.safetensors").unlink()
    path = copy / "model.safetensors.index.json"
    path.write_text(json.dumps(index))
    assert refused(copy) == f"{path} {reason}"


def test_a_damaged_tokenizer_is_refused(copy: Path) -> None:
    (copy / "tokenizer.json").write_text("{}")
    assert refused(copy).startswith(f"{copy} must hold a readable tokenizer: ")
