"""Whole models through a method: order of work, Hessians, errors, and the source left as it was."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from algo.bitplane.decode import dequantize
from algo.calibration import calibrate
from algo.checkpoint import Checkpoint, linear_layers
from algo.driver import decoder_blocks, quantize_model
from algo.errors import output_error, weight_error
from algo.formats.quantized import Calibration
from algo.methods import billm, rtn, sign

VOCABULARY, LENGTH = 50, 17


def tiny_llama(layers: int = 2) -> Any:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=40,
        intermediate_size=72,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=32,
        initializer_range=0.2,
    )
    return transformers.LlamaForCausalLM(config).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_llama()


@pytest.fixture(scope="module")
def ids() -> np.ndarray:
    # More sequences than run side by side, and not a multiple.
    return np.random.default_rng(0).integers(0, VOCABULARY, (11, LENGTH))


def inputs_of(model: Any, ids: np.ndarray) -> dict[str, np.ndarray]:
    """Inputs of every linear layer over one plain forward pass a sequence, [tokens, columns], float64."""
    seen: dict[str, list[np.ndarray]] = {}

    def keep(name: str, x: torch.Tensor) -> None:
        seen.setdefault(name, []).append(x.double().reshape(-1, x.shape[-1]).numpy())

    handles = [
        layer.register_forward_hook(lambda _, args, __, name=name: keep(name, args[0]))
        for name, layer in linear_layers(model)
    ]
    with torch.no_grad():
        for sequence in ids:
            model(torch.tensor(sequence)[None], use_cache=False)
    for handle in handles:
        handle.remove()
    return {name: np.concatenate(parts) for name, parts in seen.items()}


def test_every_layer_of_every_block_is_replaced_and_nothing_else(model: Any, ids: np.ndarray) -> None:
    before = copy.deepcopy(model.state_dict())
    result = quantize_model(model, "rtn", rtn.Config(format="int3-g128"), ids)
    names = [name for name, _ in linear_layers(model)]
    assert list(result.layers) == names
    assert len(names) == 14
    after, changed = model.state_dict(), result.model.state_dict()
    for key, value in before.items():
        assert torch.equal(after[key], value), f"the source's {key} has changed"
        name = key.removesuffix(".weight")
        if name in names:
            stored = dequantize(result.layers[name].quantized.matrix)
            np.testing.assert_array_equal(changed[key].numpy(), stored.astype(np.float32))
            assert not torch.equal(changed[key], value)
        else:
            assert torch.equal(changed[key], value), f"{key} is no layer to quantize"


def test_errors_are_measured_on_what_is_stored(model: Any, ids: np.ndarray) -> None:
    result = quantize_model(model, "sign", None, ids)
    inputs = inputs_of(model, ids)
    for name, layer in linear_layers(model)[:7]:  # the first block's inputs no quantized layer has touched
        weight = layer.weight.double().numpy()
        stored = dequantize(result.layers[name].quantized.matrix)
        assert result.layers[name].weight_error == pytest.approx(weight_error(weight, stored), rel=1e-12)
        assert result.layers[name].output_error == pytest.approx(
            output_error(inputs[name], weight, stored), rel=1e-4
        )


def test_a_blocks_inputs_come_from_the_quantized_blocks_before_it(model: Any, ids: np.ndarray) -> None:
    result = quantize_model(model, "sign", None, ids)
    half = copy.deepcopy(model)  # first block quantized, second still whole
    half.model.layers[0].load_state_dict(result.model.model.layers[0].state_dict())
    seen, untouched = inputs_of(half, ids), inputs_of(model, ids)
    for name, layer in linear_layers(model)[7:]:
        weight = layer.weight.double().numpy()
        stored = dequantize(result.layers[name].quantized.matrix)
        expected = output_error(seen[name], weight, stored)
        assert result.layers[name].output_error == pytest.approx(expected, rel=1e-4)
        assert abs(output_error(untouched[name], weight, stored) - expected) > 1e-3 * expected


def test_billm_is_given_the_hessian_of_its_own_layer(model: Any, ids: np.ndarray) -> None:
    result = quantize_model(model, "billm", billm.Config(group=32), ids)
    inputs = inputs_of(model, ids)
    for name, layer in linear_layers(model)[:7]:
        hessian = 2 / len(ids) * inputs[name].T @ inputs[name]
        known = Calibration(hessian, np.abs(inputs[name]).max(axis=0))
        alone = billm.quantize(layer.weight.double().numpy(), known, billm.Config(group=32))
        found = result.layers[name].quantized
        assert found.salient_columns == alone.salient_columns
        assert found.notes["loss"] == pytest.approx(alone.notes["loss"], rel=1e-4)
        np.testing.assert_allclose(dequantize(found.matrix), dequantize(alone.matrix), atol=2e-3)


def test_without_tokens_a_method_that_needs_none_measures_weights_alone(model: Any) -> None:
    result = quantize_model(model, "sign")
    for name, layer in linear_layers(model):
        found = result.layers[name]
        assert found.output_error is None
        alone = sign.quantize(layer.weight.double().numpy())
        np.testing.assert_array_equal(dequantize(found.quantized.matrix), dequantize(alone.matrix))
        assert found.seconds > 0


def test_quantizing_twice_gives_the_same_model(model: Any, ids: np.ndarray) -> None:
    first, second = (quantize_model(model, "billm", None, ids).model.state_dict() for _ in range(2))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_a_checkpoint_is_taken_as_well_as_its_model(model: Any, ids: np.ndarray) -> None:
    checkpoint = Checkpoint(model=model, tokenizer=None, context=32, directory=Path(), sha256="")
    from_checkpoint = quantize_model(checkpoint, "rtn", None, ids).model.state_dict()
    from_model = quantize_model(model, "rtn", None, ids).model.state_dict()
    assert all(torch.equal(from_checkpoint[key], from_model[key]) for key in from_model)


def test_progress_is_told_layer_by_layer(model: Any) -> None:
    told: list[tuple[int, int, str]] = []
    quantize_model(model, "sign", progress=lambda *call: told.append(call))
    assert told == [(i + 1, 14, name) for i, (name, _) in enumerate(linear_layers(model))]


def test_a_half_precision_model_comes_back_in_float32() -> None:
    result = quantize_model(tiny_llama(1).to(torch.bfloat16), "sign")
    assert {p.dtype for p in result.model.parameters()} == {torch.float32}


def test_hooks_are_gone_when_the_work_is_done(model: Any, ids: np.ndarray) -> None:
    result = quantize_model(model, "sign", None, ids)
    assert all(not m._forward_pre_hooks for m in [*model.modules(), *result.model.modules()])


@pytest.mark.parametrize(
    ("method", "ids", "message"),
    [
        ("billm", None, "calibration_ids must be given for billm, not None"),
        ("rtn", [[0.5]], "calibration_ids must be integers [sequences, length], not float64 [1, 1]"),
        ("rtn", [1, 2], "calibration_ids must be integers [sequences, length], not int64 [2]"),
        (
            "rtn",
            np.zeros((0, 4), int),
            "calibration_ids must be integers [sequences, length], not int64 [0, 4]",
        ),
        ("rtn", [[1, 50]], "calibration_ids must lie in [0, 49], not 50"),
        ("rtn", [[1, -1]], "calibration_ids must lie in [0, 49], not -1"),
        ("gptq9", None, "method must be one of billm, rtn, sign, ternary, not 'gptq9'"),
    ],
)
def test_what_the_driver_cannot_use_is_refused(model: Any, method: str, ids: Any, message: str) -> None:
    pattern = re.escape(message).replace("billm,\\ rtn,\\ sign,\\ ternary", r"[\w, +-]+")
    with pytest.raises(ValueError, match=f"^{pattern}$"):
        quantize_model(model, method, None, ids)


def test_a_model_of_two_lists_of_blocks_is_refused() -> None:
    model = torch.nn.Module()
    model.decoder = torch.nn.ModuleList([torch.nn.Sequential(torch.nn.Linear(3, 3))])
    model.encoder = torch.nn.ModuleList([torch.nn.Sequential(torch.nn.Linear(3, 3))])
    message = r"^model must have one list of decoder blocks, decoder, not encoder\.0\.0 outside it$"
    with pytest.raises(ValueError, match=message):
        decoder_blocks(model)


def test_blocks_are_found_in_order_with_their_layers(model: Any) -> None:
    blocks = decoder_blocks(model)
    assert [block for block, _ in blocks] == list(model.model.layers)
    assert [name for _, layers in blocks for name, _ in layers] == [name for name, _ in linear_layers(model)]


def test_calibrations_count_sequences_not_tokens_and_share_no_sum_by_accident() -> None:
    first, second, third = (torch.nn.Linear(3, 2) for _ in range(3))
    xs = [torch.randn(1, 5, 3, generator=torch.Generator().manual_seed(i)) for i in range(4)]

    def forward() -> None:
        for x in xs:
            first(x)
            second(x)  # the same tensor
            second(2 * x)  # and another
            third(3 * x)
            first(x)  # the first again, by itself

    found = calibrate([("a", first), ("b", second), ("c", third)], forward, len(xs))
    gram = sum(x[0].double().numpy().T @ x[0].double().numpy() for x in xs)
    peak = np.max([x[0].abs().double().numpy().max(axis=0) for x in xs], axis=0)
    for name, times in (("a", 2), ("b", 5), ("c", 9)):
        np.testing.assert_allclose(found[name].hessian, 2 / 4 * times * gram, rtol=1e-6)
        assert found[name].hessian.dtype == np.float64
    np.testing.assert_array_equal(found["a"].peak, peak)
    np.testing.assert_allclose(found["b"].peak, 2 * peak)


def test_a_hessian_is_the_same_whether_its_layer_reads_alone_or_with_others() -> None:
    first, second = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    x = torch.randn(1500, 3, generator=torch.Generator().manual_seed(0))  # more than are summed at a time
    both = calibrate([("a", first), ("b", second)], lambda: (first(x), second(x)), 1)
    alone = calibrate([("a", first)], lambda: first(x), 1)
    assert both["a"].hessian is both["b"].hessian
    np.testing.assert_array_equal(both["a"].hessian, alone["a"].hessian)
    np.testing.assert_allclose(alone["a"].hessian, 2 * x.double().numpy().T @ x.double().numpy())


def test_a_layer_that_sees_no_token_or_no_number_is_refused() -> None:
    layer = torch.nn.Linear(3, 2)
    with pytest.raises(ValueError, match=r"^layer up must see calibration tokens, not none$"):
        calibrate([("up", layer)], lambda: None, 1)
    with pytest.raises(ValueError, match=r"^activations of layer up must be finite, not NaN or infinity$"):
        calibrate([("up", layer)], lambda: layer(torch.full((1, 3), torch.nan)), 1)


def test_an_input_that_is_changed_before_it_is_summed_is_refused() -> None:
    layer, x = torch.nn.Linear(3, 2).requires_grad_(False), torch.ones(1, 3)
    with pytest.raises(ValueError, match=r"^input of layer up must stay as it is, not be changed in place$"):
        calibrate([("up", layer)], lambda: (layer(x), x.add_(1)), 1)
