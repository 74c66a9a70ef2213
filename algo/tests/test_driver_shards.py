"""Checkpoints quantized from their shards, block by block: the same bits as the model in memory gives."""

from __future__ import annotations

import copy
import json
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from algo import checkpoint, driver, feed
from algo.bitplane import store
from algo.block_source import MemoryBlocks, ShardedBlocks
from algo.driver import LayerResult, quantize_model
from algo.errors import output_error
from algo.feed import Feed, FileStates
from algo.formats import stages
from algo.formats.quantized import Quantized
from algo.methods import billm, rtn, sign
from algo.plan import Choice, Plan
from algo.tests import tiny_model
from algo.tests.sharing_method import Sharing
from algo.tests.test_driver import inputs_of

SIGN = Choice(method="sign", config=sign.Config())
LENGTH = 13  #: beyond the sliding windows, no multiple of anything


@pytest.fixture(scope="module")
def ids() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 2 + len(tiny_model.LETTERS), (11, LENGTH))


@pytest.fixture(scope="module", params=tiny_model.FAMILIES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model.write_family(tmp_path_factory.mktemp(request.param), request.param, shard="4KB")


def from_shards(directory: Path, work: Path, chosen: Any, ids: np.ndarray, start: int = 0) -> dict[str, Any]:
    """Results by layer of a checkpoint quantized block by block, hidden states in files."""
    outlined = checkpoint.outline(directory)
    source = ShardedBlocks(outlined)
    width = driver.hidden_width(outlined.model)
    shape = (*ids.shape, width)
    tokens = Feed(torch.from_numpy(ids), width, "cpu", lambda index: FileStates(work / f"{index}.f32", shape))
    results: dict[str, LayerResult] = {}
    sink = lambda index, layers: results.update(layers)  # noqa: E731
    driver.quantize_blocks(source, driver.choices(source.names, chosen), tokens, sink, start=start)
    assert all(tensor.is_meta for tensor in outlined.model.parameters() if tensor.ndim == 2)
    return results


def stored(made: Quantized) -> bytes:
    """All bytes that are stored of a layer, and what describes them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m"
        store.save(path, stages.named("layer", made), store.Provenance(method="m"))
        return path.read_bytes()


def check_same(found: dict[str, Any], expected: Any) -> None:
    assert list(found) == list(expected)
    for name, made in found.items():
        assert stored(made.quantized) == stored(expected[name].quantized), name
        assert made.weight_error == expected[name].weight_error
        assert made.output_error == expected[name].output_error
        assert made.source == expected[name].source
        assert made.choice == expected[name].choice


def test_every_family_gives_the_bits_of_the_model_in_memory(
    family: Path, tmp_path: Path, ids: np.ndarray
) -> None:
    assert len(checkpoint.weight_files(family)) > 2
    whole = quantize_model(checkpoint.load(family), "billm", billm.Config(group=16), ids)
    chosen = Choice(method="billm", config=billm.Config(group=16))
    check_same(from_shards(family, tmp_path, chosen, ids), whole.layers)


def test_every_family_hands_its_blocks_what_a_plain_run_does(family: Path, ids: np.ndarray) -> None:
    model = checkpoint.load(family).model
    result = quantize_model(model, "sign", None, ids)
    blocks = driver.decoder_blocks(model)
    half = copy.deepcopy(model)  # the last block still whole
    for (block, _), (quantized, _) in zip(
        driver.decoder_blocks(half)[:-1], driver.decoder_blocks(result.model)[:-1], strict=True
    ):
        block.load_state_dict(quantized.state_dict())
    seen = inputs_of(half, ids)
    for name, layer in blocks[-1][1]:
        made = result.layers[name]
        expected = output_error(seen[name], layer.weight.double().numpy(), made.quantized.dequantize())
        assert made.output_error == pytest.approx(expected, rel=1e-4), name


def test_going_on_from_a_block_gives_the_rest_of_the_same_results(tmp_path: Path, ids: np.ndarray) -> None:
    source = tiny_model.write_family(tmp_path / "qwen2", "qwen2")
    states = tmp_path / "states"
    states.mkdir()
    whole = from_shards(source, states, SIGN, ids)
    rest = from_shards(source, states, SIGN, ids, start=2)
    check_same(rest, {name: made for name, made in whole.items() if ".2." in name})


def test_bfloat16_shards_and_a_bare_decoders_names_are_read_as_the_whole_model_reads_them(
    tmp_path: Path, ids: np.ndarray
) -> None:
    source = tiny_model.write_family(tmp_path / "mistral", "mistral")
    path = source / "model.safetensors"
    tensors = safetensors.torch.load_file(path)
    bare = {name.removeprefix("model."): tensor.bfloat16() for name, tensor in tensors.items()}
    safetensors.torch.save_file(bare, path, metadata={"format": "pt"})
    whole = quantize_model(checkpoint.load(source), "sign", None, ids)
    check_same(from_shards(source, tmp_path, SIGN, ids), whole.layers)


def test_the_source_in_memory_stays_on_no_hook_and_keeps_its_forward(ids: np.ndarray) -> None:
    model = tiny_model.model(0).requires_grad_(False)
    quantize_model(model, "sign", None, ids)
    assert all("forward" not in vars(module) for module in model.modules())


def test_a_plan_gives_each_layer_its_own_method(ids: np.ndarray) -> None:
    model = tiny_model.model(0).requires_grad_(False)
    names = [name for name, _ in checkpoint.linear_layers(model)]
    fine = Choice(method="rtn", config=rtn.Config(format="int8-g128"))
    plan = Plan(layers={name: fine if name.endswith("down_proj") else SIGN for name in names})
    result = quantize_model(model, plan, None, ids)
    for name, made in result.layers.items():
        assert made.choice == plan.layers[name]
        assert (made.weight_error < 1e-3) == name.endswith("down_proj")
    with pytest.raises(ValueError, match=rf"^plan must name layer {re.escape(names[1])}, and does not$"):
        quantize_model(model, Plan(layers={names[0]: SIGN}), None, ids)
    with pytest.raises(ValueError, match=r"^config must be left out with a plan, not 'fine'$"):
        quantize_model(model, plan, "fine", ids)


@pytest.fixture
def sharing(monkeypatch: pytest.MonkeyPatch) -> Sharing:
    module = Sharing()
    real = driver.family.load
    monkeypatch.setattr(
        driver.family, "load", lambda package, name: module if name == "sharing" else real(package, name)
    )
    return module


def test_a_method_shares_its_configuration_out_by_facts_of_the_full_precision_model(
    sharing: Sharing, ids: np.ndarray
) -> None:
    model = tiny_model.model(0).requires_grad_(False)
    result = quantize_model(model, "sharing", sign.Config(group=24), ids)
    inputs = inputs_of(model, ids)
    assert len(sharing.seen) == 2
    for index, block in enumerate(sharing.seen):
        layers = driver.decoder_blocks(model)[index][1]
        assert list(block) == [name for name, _ in layers]
        for name, layer in layers:
            weight, hessian = block[name]
            np.testing.assert_array_equal(weight, layer.weight.double().numpy())
            np.testing.assert_allclose(
                hessian, 2 / len(ids) * inputs[name].T @ inputs[name], rtol=1e-4, atol=1e-4
            )
    widest = int(np.argmax(sharing.facts))
    for name, made in result.layers.items():
        assert made.choice.config.group == (8 if f".{widest}." in name else 40)


def test_allocation_that_is_not_wanted_or_cannot_be_is_left_or_refused(
    sharing: Sharing, ids: np.ndarray
) -> None:
    model = tiny_model.model(0).requires_grad_(False)
    result = quantize_model(model, "sharing", sign.Config(group=16), ids)
    assert not sharing.seen
    assert {made.choice.config.group for made in result.layers.values()} == {16}
    with pytest.raises(ValueError, match=r"^calibration_ids must be given for sharing, not None$"):
        quantize_model(model, "sharing", sign.Config(group=24))
    sharing.count = 1
    with pytest.raises(ValueError, match=r"^allocate of sharing must give 2 configs, not 1$"):
        quantize_model(model, "sharing", sign.Config(group=24), ids)


def test_states_in_a_file_are_read_back_and_another_size_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.f32"
    states = FileStates(path, (5, 3, 2))
    part = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    states.write(3, part)
    np.testing.assert_array_equal(FileStates(path, (5, 3, 2)).read(3, 5), part)
    assert not states.read(0, 3).any()
    with pytest.raises(
        ValueError, match=rf"^{re.escape(str(path))} must be 160 bytes for \[5, 4, 2\], not 120$"
    ):
        FileStates(path, (5, 4, 2))


def test_calls_are_kept_once_for_all_batches_of_a_length(ids: np.ndarray) -> None:
    tokens = Feed(torch.from_numpy(np.concatenate([ids, ids])), 24, "cpu")
    tokens.enter(MemoryBlocks(tiny_model.model(0).requires_grad_(False)))
    first, second, last = tokens._calls
    assert first is second is last  # 22 sequences: 8, 8 and 6; nothing here depends on how many
    with pytest.raises(RuntimeError, match=r"^tokens must have entered before they pass a block$"):
        next(Feed(torch.from_numpy(ids), 24, "cpu")._outputs(0, None))


def test_what_differs_in_a_bit_is_not_the_same_call() -> None:
    x = torch.arange(4.0)
    assert feed._same(((x, None), {"a": [x, 1]}), ((x.clone(), None), {"a": [x.clone(), 1]}))
    for other in (x + 1, x.double(), x[:2], None, 4):
        assert not feed._same(x, other)
    assert not feed._same({"a": x}, {"b": x})
    assert not feed._same((x,), (x, x))
    assert not feed._same(object(), object())


def test_a_model_that_skips_a_block_is_refused(ids: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model.model(0).requires_grad_(False)
    model.config.num_hidden_layers = 1  # the model runs so many of its two blocks
    with pytest.raises(ValueError, match=r"^model must call each of its 2 blocks once, not 1 in all$"):
        quantize_model(model, "sign", None, ids)


def test_shards_that_do_not_hold_the_model_are_refused_before_any_work(tmp_path: Path) -> None:
    source = tiny_model.write_family(tmp_path / "llama", "llama")
    path = source / "model.safetensors"
    tensors = safetensors.torch.load_file(path)
    name = "model.layers.1.mlp.up_proj.weight"
    cut = tmp_path / "cut"
    shutil.copytree(source, cut)
    safetensors.torch.save_file(
        {key: value for key, value in tensors.items() if key != name}, cut / "model.safetensors"
    )
    message = rf"^{re.escape(str(cut))} must hold all of LlamaForCausalLM, and lacks {re.escape(name)}$"
    with pytest.raises(ValueError, match=message):
        ShardedBlocks(checkpoint.outline(cut))
    safetensors.torch.save_file({**tensors, name: tensors[name][:7]}, cut / "model.safetensors")
    message = (
        rf"^{re.escape(str(cut))} must load as a causal language model, and does not: tensor "
        rf"{re.escape(name)} has shape \[7, 24\], not \[40, 24\]$"
    )
    with pytest.raises(ValueError, match=message):
        ShardedBlocks(checkpoint.outline(cut))


def test_an_outline_is_the_checkpoint_without_its_weights(tmp_path: Path) -> None:
    source = tiny_model.write_family(tmp_path / "qwen3", "qwen3")
    outlined, loaded = checkpoint.outline(source), checkpoint.load(source)
    assert (outlined.sha256, outlined.context) == (loaded.sha256, loaded.context)
    assert type(outlined.model) is type(loaded.model)
    theirs = dict(loaded.model.named_buffers())
    assert theirs
    for name, buffer in outlined.model.named_buffers():
        assert torch.equal(buffer, theirs[name]), name
    assert all(p.is_meta for name, p in outlined.model.named_parameters() if p.ndim == 2)
    content = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(content | {"hidden_size": "wide"}))
    with pytest.raises(ValueError, match=r" must load as a causal language model, and does not: "):
        checkpoint.outline(source)


def test_a_tensor_that_no_shard_and_no_constructor_gives_is_refused(
    tmp_path: Path, ids: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tiny_model.write_family(tmp_path / "llama", "llama")
    outlined = checkpoint.outline(source)
    block = outlined.model.model.layers[0]
    block.register_buffer("table", torch.empty(3, device="meta"), persistent=False)
    message = rf"^{re.escape(str(source))} must load shard by shard, and tensor table is in no shard$"
    with pytest.raises(ValueError, match=message), ShardedBlocks(outlined).block(0):
        pass
    rotary = outlined.model.model.rotary_emb
    rotary.inv_freq = rotary.inv_freq.to("meta")
    message = r" must load shard by shard, and tensor rotary_emb\.inv_freq is in no shard$"
    with pytest.raises(ValueError, match=message), ShardedBlocks(outlined).backbone():
        pass
