"""Layers measured one by one, held against plain forward passes of the untouched model."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from algo import checkpoint, sensitivity
from algo.allocation import importance
from algo.block_source import ShardedBlocks
from algo.checkpoint import Checkpoint, linear_layers
from algo.formats.quantized import Quantized
from algo.methods import rtn
from algo.plan import Choice
from algo.tests import tiny_model

OPTIONS = [
    Choice(method="rtn", config=rtn.Config(format="int2-g128")),
    Choice(method="rtn", config=rtn.Config(format="int4-g128", group=12)),
]
CLUSTERS = 7


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_model.model(0)


@pytest.fixture(scope="module")
def ids() -> np.ndarray:
    # More sequences than run side by side, and not a multiple.
    return np.random.default_rng(0).integers(0, 30, (11, 13))


@pytest.fixture(scope="module")
def measured(model: Any, ids: np.ndarray) -> Any:
    return sensitivity.measure(model, OPTIONS, ids, clusters=CLUSTERS)


@pytest.fixture(scope="module")
def seen(model: Any, ids: np.ndarray) -> Any:
    """By module name: inputs and outputs [tokens, width], one whole forward pass a sequence."""
    found: dict[str, tuple[list[np.ndarray], list[np.ndarray]]] = {}

    def hook(name: str) -> Any:
        def note(module: Any, args: Any, output: Any) -> None:
            ins, outs = found.setdefault(name, ([], []))
            ins.append(args[0][0].double().numpy())
            outs.append((output[0] if isinstance(output, tuple) else output)[0].double().numpy())

        return note

    blocks = [(f"block {at}", block) for at, block in enumerate(model.model.layers)]
    handles = [m.register_forward_hook(hook(name)) for name, m in [*linear_layers(model), *blocks]]
    with torch.no_grad():
        for row in ids:
            model(torch.tensor(row)[None], use_cache=False)
    for handle in handles:
        handle.remove()
    return {name: tuple(map(np.concatenate, parts)) for name, parts in found.items()}


def test_every_layer_is_measured_in_model_order(measured: Any, model: Any) -> None:
    layers = linear_layers(model)
    assert list(measured) == [name for name, _ in layers]
    assert [m.weights for m in measured.values()] == [layer.weight.numel() for _, layer in layers]
    assert [m.block for m in measured.values()] == [0] * 7 + [1] * 7


def test_loss_is_the_squared_output_error_of_the_layer_alone(
    measured: Any, model: Any, seen: Any, ids: np.ndarray
) -> None:
    for name, layer in linear_layers(model):
        weight = layer.weight.detach().double().numpy()
        for option, result in zip(OPTIONS, measured[name].options, strict=True):
            stored = rtn.quantize(weight, None, option.config).dequantize()
            squared = np.sum((seen[name][0] @ (weight - stored).T) ** 2)
            assert result.loss == pytest.approx(2 * squared / len(ids), rel=1e-4), name


def test_bits_are_those_stored(measured: Any, model: Any) -> None:
    for name, layer in linear_layers(model):
        made = rtn.quantize(layer.weight.detach().double().numpy(), None, OPTIONS[1].config)
        assert measured[name].options[1].bits == 8 * made.stored_bytes() > 4 * layer.weight.numel()
        assert measured[name].options[0].cycles is None


def test_scores_are_those_of_the_models_own_blocks_weights_and_outputs(
    measured: Any, model: Any, seen: Any
) -> None:
    for name, layer in linear_layers(model):
        found = measured[name]
        lim = importance.modification(*seen[f"block {found.block}"])
        assert found.lim == pytest.approx(lim, abs=1e-6)
        assert found.zd == importance.outlier_share(layer.weight.detach().numpy())
        assert found.luq == pytest.approx(importance.cluster_entropy(seen[name][1], CLUSTERS), abs=0.05)
    lims = {found.lim for found in measured.values()}
    assert len(lims) == 2


def test_few_of_many_outputs_are_clustered_evenly(
    model: Any, ids: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[int] = []
    monkeypatch.setattr(sensitivity, "_CLUSTERED_TOKENS", 40)
    monkeypatch.setattr(
        sensitivity.importance, "cluster_entropy", lambda x, clusters, seed: counts.append(len(x)) or 0.0
    )
    sensitivity.measure(model, OPTIONS[:1], ids, clusters=3)
    # 143 tokens, one in four: 26 of the first eight sequences' 104, 10 of the other three's 39.
    assert counts == [36] * 14


def test_cycles_are_the_callers_and_progress_is_told(model: Any, ids: np.ndarray) -> None:
    steps: list[tuple[int, int, str]] = []

    def cycles(quantized: Quantized) -> int:
        return quantized.matrix.rows

    found = sensitivity.measure(model, OPTIONS, ids, cycles=cycles, progress=lambda *step: steps.append(step))
    for name, layer in linear_layers(model):
        assert [o.cycles for o in found[name].options] == [layer.out_features] * 2
        assert found[name].luq is None
    assert steps == [(at + 1, 14, name) for at, (name, _) in enumerate(linear_layers(model))]


def test_a_method_gets_each_layers_own_calibration(
    model: Any, ids: np.ndarray, seen: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []
    plain = rtn.quantize
    monkeypatch.setattr(rtn, "quantize", lambda w, c, config: given.append(c) or plain(w, c, config))
    sensitivity.measure(model, OPTIONS[:1], ids)
    for (name, _), calibration in zip(linear_layers(model), given, strict=True):
        x = seen[name][0]
        np.testing.assert_allclose(calibration.hessian, 2 / len(ids) * x.T @ x, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(calibration.peak, np.abs(x).max(axis=0), rtol=1e-4)


def test_the_model_stays_as_it_is(ids: np.ndarray) -> None:
    model = tiny_model.model(3).train()
    before = copy.deepcopy(model.state_dict())
    sensitivity.measure(model, OPTIONS[:1], ids[:2])
    assert model.training
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_opt_blocks_which_return_tuples_are_walked_too(ids: np.ndarray) -> None:
    torch.manual_seed(0)
    config = transformers.OPTConfig(
        vocab_size=31, hidden_size=24, ffn_dim=40, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=32, word_embed_proj_dim=24, init_std=0.2,
    )  # fmt: skip
    found = sensitivity.measure(transformers.OPTForCausalLM(config).eval(), OPTIONS[:1], ids[:3])
    assert len(found) == 12
    assert all(m.options[0].loss > 0 for m in found.values())


@pytest.mark.parametrize(
    ("options", "ids", "message"),
    [
        ([], [[1]], "options must hold at least one choice, not none"),
        (OPTIONS, [1], "calibration_ids must be integers [sequences, length], not int64 [1]"),
        (OPTIONS, [[0.5]], "calibration_ids must be integers [sequences, length], not float64 [1, 1]"),
        (OPTIONS, [[3, 31]], "calibration_ids must lie in [0, 30], not 31"),
        (OPTIONS, [[3, -1]], "calibration_ids must lie in [0, 30], not -1"),
    ],
)
def test_what_does_not_fit_is_refused(model: Any, options: Any, ids: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        sensitivity.measure(model, options, ids)


def test_a_checkpoint_is_measured_as_its_model(model: Any, ids: np.ndarray, measured: Any) -> None:
    loaded = Checkpoint(model=model, tokenizer=None, context=16, directory=SimpleNamespace(), sha256="")
    again = sensitivity.measure(loaded, OPTIONS, ids, clusters=CLUSTERS)
    assert again == measured


def test_a_checkpoint_read_block_by_block_is_measured_as_one_in_memory(
    tmp_path: Path, ids: np.ndarray, measured: Any
) -> None:
    outline = checkpoint.outline(tiny_model.write(tmp_path))
    again = sensitivity.measure(ShardedBlocks(outline), OPTIONS, ids, clusters=CLUSTERS)
    assert again == measured
