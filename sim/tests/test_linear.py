"""Packed layers inside torch models."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from algo.bitplane import activation_formats, decode
from algo.bitplane.activations import quantize_activations
from algo.bitplane.build import from_digits
from algo.formats.stages import Stages
from sim.linear import ENGINES, PREPARE, LastRead, PlaneLinear, ProductLinear, swap
from sim.tests.test_activity import INT2, layer


def model():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(70, 10), torch.nn.ReLU(), torch.nn.Linear(10, 5, bias=False))


@pytest.mark.parametrize("engine", [name for name in ENGINES if name != "float"])
def test_integer_engines_give_the_definitions_float_bits_plus_the_bias(engine):
    matrix, _ = layer()
    x = torch.randn(2, 3, 70, generator=torch.Generator().manual_seed(1))
    bias = torch.arange(10.0)
    got = PlaneLinear(matrix, engine, 6, bias)(x).numpy()
    acts = [quantize_activations(x.reshape(-1, 70).numpy(), 6)]
    expected = decode.outputs(matrix, acts, decode.integer_sums(matrix, acts)).reshape(2, 3, 10)
    np.testing.assert_array_equal(got, expected + bias.numpy())


@pytest.mark.parametrize("engine", [name for name in ENGINES if name != "float"])
def test_a_column_factor_scales_the_activations_before_they_are_quantized(engine):
    matrix, _ = layer()
    factor = np.linspace(0.5, 4, 70, dtype=np.float32)
    scaled = replace(matrix, terms=(replace(matrix.terms[0], col="f"),), factors={"f": factor})
    x = torch.randn(3, 70, generator=torch.Generator().manual_seed(1))
    acts = [quantize_activations(x.numpy() * factor, 8)]
    expected = decode.outputs(scaled, acts, decode.integer_sums(scaled, acts))
    np.testing.assert_array_equal(PlaneLinear(scaled, engine)(x).numpy(), expected)


def test_the_float_engine_multiplies_by_the_dequantized_matrix():
    matrix, _ = layer()
    x = torch.randn(4, 70, generator=torch.Generator().manual_seed(1))
    expected = x.numpy() @ decode.dequantize(matrix).astype(np.float32).T
    np.testing.assert_allclose(PlaneLinear(matrix, "float")(x).numpy(), expected, rtol=1e-4, atol=1e-4)


def test_swap_replaces_named_layers_in_a_copy_and_keeps_their_bias():
    source, (matrix, _) = model(), layer()
    swapped = swap(source, {"0": matrix}, "integer")
    assert isinstance(swapped[0], PlaneLinear)
    assert isinstance(source[0], torch.nn.Linear)
    np.testing.assert_array_equal(swapped[0].bias.numpy(), source[0].bias.detach().numpy())
    assert swapped(torch.zeros(1, 70)).shape == (1, 5)


def product():
    """Outer [10, 4] and inner [4, 70] factors."""
    rng = np.random.default_rng(2)
    inner = from_digits(
        INT2, rng.integers(0, 4, (4, 70)), rng.uniform(0.1, 1, (4, 3)), rng.integers(0, 4, (4, 3))
    )
    outer = from_digits(
        INT2, rng.integers(0, 4, (10, 4)), rng.uniform(0.1, 1, (10, 1)), rng.integers(0, 4, (10, 1))
    )
    return Stages(outer=outer, inner=inner)


@pytest.mark.parametrize("act_bits", [4, 8, 16])
@pytest.mark.parametrize("engine", [name for name in ENGINES if name != "float"])
def test_a_product_quantizes_what_stands_between_its_factors_to_16_bits(engine, act_bits):
    stages, bias = product(), torch.arange(10.0)
    x = torch.randn(2, 3, 70, generator=torch.Generator().manual_seed(1))
    got = ProductLinear(stages, engine, act_bits, bias)(x).numpy()
    between = x.reshape(-1, 70).numpy()
    for matrix, bits in ((stages.inner, act_bits), (stages.outer, 16)):
        acts = [quantize_activations(between, bits)]
        between = decode.outputs(matrix, acts, decode.integer_sums(matrix, acts))
    np.testing.assert_array_equal(got, between.reshape(2, 3, 10) + bias.numpy())


def test_a_swapped_product_comes_near_its_dequantized_weight():
    source, stages = model(), product()
    named = {"0@inner": stages.inner, "0": stages.outer}
    x = torch.randn(3, 70, generator=torch.Generator().manual_seed(1))
    weight = decode.dequantize(stages.outer) @ decode.dequantize(stages.inner)
    expected = x.double().numpy() @ weight.T + source[0].bias.detach().double().numpy()
    for engine, bits, within in (("float", 8, 1e-4), ("integer", 16, 1e-2)):
        swapped = swap(source, named, engine, bits)
        assert isinstance(swapped[0], ProductLinear)
        assert (swapped[0].in_features, swapped[0].out_features) == (70, 10)
        np.testing.assert_allclose(swapped[0](x).numpy(), expected, atol=within)
    with pytest.raises(ValueError, match=r"^matrix 0 must have shape \[10, 70\], not \[10, 4\]$"):
        swap(source, {"0": stages.outer}, "integer")
    with pytest.raises(ValueError, match=r"^stages must hold an inner factor, not the outer alone$"):
        ProductLinear(Stages(outer=stages.outer), "integer")


def test_layers_that_do_not_fit_are_refused():
    matrix = from_digits(INT2, np.zeros((4, 70), np.int64), np.ones((4, 3)), np.zeros((4, 3), np.int64))
    for name, message in (
        ("1", "layer must be a linear layer of the model, not '1'"),
        ("9", "layer must be a linear layer of the model, not '9'"),
        ("0", "matrix 0 must have shape [10, 70], not [4, 70]"),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            swap(model(), {name: matrix}, "integer")
    with pytest.raises(ValueError, match=r"^engine must be one of float, integer, numba, torch, not 'x'$"):
        PlaneLinear(matrix, "x")


class Counted(LastRead):
    """Says how often activations were quantized."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def quantized(self, x, bits, factor, matrix):
        found = super().quantized(x, bits, factor, matrix)
        self.seen.append(found)
        return found


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_layers_that_read_one_tensor_share_its_integers_until_it_changes(mode):
    matrix, _ = layer()
    last = Counted()
    first, second = (PlaneLinear(matrix, "integer", 6, last=last) for _ in range(2))
    wider = PlaneLinear(matrix, "integer", 7, last=last)
    with mode():
        x = torch.randn(2, 3, 70, generator=torch.Generator().manual_seed(1))
        np.testing.assert_array_equal(first(x).numpy(), second(x).numpy())
        assert (last.seen[0] is last.seen[1]) == (mode is torch.no_grad)
        wider(x)
        assert last.seen[2].bits == 7
        x += 1
        changed = second(x).numpy()
        np.testing.assert_array_equal(changed, PlaneLinear(matrix, "integer", 6)(x.clone()).numpy())


def test_a_tensor_in_the_place_of_one_that_is_gone_is_read_anew():
    matrix, _ = layer()
    one = PlaneLinear(matrix, "integer", 6)
    for seed in range(5):
        x = torch.randn(3, 70, generator=torch.Generator().manual_seed(seed))
        np.testing.assert_array_equal(one(x).numpy(), PlaneLinear(matrix, "integer", 6)(x).numpy())
        del x


@pytest.mark.parametrize("name", ["mxfp4", "nvint4", "int6-g24", "mxfp8-e4m3"])
def test_activations_of_a_format_give_the_judges_output_under_every_engine(name):
    act = activation_formats.get(name)
    rng = np.random.default_rng(0)
    matrix, _ = layer()
    x = rng.normal(size=(2, 3, 70)).astype(np.float32)
    wide = act.regrouped(matrix)
    streams = act.streams(wide, x.reshape(6, 70))
    wanted = decode.outputs(wide, streams, decode.integer_sums(wide, streams)).reshape(2, 3, 10)
    for engine in PREPARE:
        found = PlaneLinear(matrix, engine, act=act)(torch.from_numpy(x))
        np.testing.assert_array_equal(found.numpy(), wanted)
    real = x @ decode.dequantize(matrix).T
    assert np.linalg.norm(wanted - real) < 0.15 * np.linalg.norm(real)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_rotated_layer_reads_what_is_rotated_and_shares_it_with_no_other(engine):
    matrix, _ = layer()
    turned = replace(matrix, rotate=2)
    x = torch.randn(3, 70, generator=torch.Generator().manual_seed(1))
    pairs = x.numpy().reshape(3, 35, 2)
    sums = np.stack([pairs[:, :, 0] + pairs[:, :, 1], pairs[:, :, 0] - pairs[:, :, 1]], axis=2)
    by_hand = torch.from_numpy(sums.reshape(3, 70) / np.float32(2))
    last = LastRead()
    plain = PlaneLinear(matrix, engine, last=last)
    found = [one(x).numpy() for one in (PlaneLinear(turned, engine, last=last), plain)]
    np.testing.assert_allclose(found[0], plain(by_hand).numpy(), rtol=1e-5 if engine == "float" else 0)
    np.testing.assert_array_equal(found[1], PlaneLinear(matrix, engine)(x.clone()).numpy())
