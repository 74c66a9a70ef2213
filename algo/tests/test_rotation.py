"""Rotated layers: any method sees the rotated problem, and what is stored decodes to the one given."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.linalg import hadamard

from algo import plan, rotation
from algo.bitplane.decode import dequantize
from algo.calibration import calibrate
from algo.driver import quantize_model, wants_allocation
from algo.errors import output_error, weight_error
from algo.formats.quantized import Calibration
from algo.methods import gptq, ptq161, rtn, stbllm
from algo.plan import Choice
from algo.sensitivity import measure
from algo.tests.test_driver import inputs_of, tiny_llama

BLOCK = 8


def written_out(columns: int, block: int) -> np.ndarray:
    """The orthogonal rotation of all columns as a matrix."""
    return np.kron(np.eye(columns // block), hadamard(block) / block**0.5)


def heavy(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_t(3, shape)


@pytest.mark.parametrize("name", ["int4-g128", "mxfp4", "nvfp4", "mxint8"])
def test_nearest_values_are_those_of_the_rotated_matrix(name):
    # A block of 16 is orthogonal and without rounding of its own: sums are divided by four.
    w = heavy((6, 96))
    config = rtn.Config(format=name)
    made = rotation.quantize(rtn, w, None, config, 16)
    turn = written_out(96, 16)
    plain = rtn.quantize(w @ turn, None, config).dequantize()
    np.testing.assert_allclose(made.dequantize(), plain @ turn.T, atol=1e-12)
    assert weight_error(w, made.dequantize()) == pytest.approx(weight_error(w @ turn, plain))


def test_gptq_minimizes_the_same_error_in_either_domain():
    rng = np.random.default_rng(1)
    w, x = heavy((12, 64)), rng.normal(size=(300, 64)) @ rng.normal(size=(64, 64))
    config = gptq.Config(format="mxfp4", damping=1e-9)
    turned = Calibration.of(x @ written_out(64, 16))
    made = rotation.quantize(gptq, w, turned, config, 16)
    lost = np.sum((x @ (w - made.dequantize()).T) ** 2)
    # The Hessian is twice the second moment of one sequence.
    assert made.notes["loss"] == pytest.approx(2 * lost, rel=1e-6)
    nearest = rotation.quantize(rtn, w, None, rtn.Config(format="mxfp4"), 16)
    assert output_error(x, w, made.dequantize()) < 0.85 * output_error(x, w, nearest.dequantize())


def test_a_rotated_hessian_is_that_of_rotated_activations():
    x = np.random.default_rng(2).normal(size=(50, 32))
    turned = x @ written_out(32, 16)
    np.testing.assert_allclose(
        rotation.rotated_hessian(Calibration.of(x).hessian, 16), Calibration.of(turned).hessian
    )


def test_layers_see_hessian_and_peaks_of_what_their_planes_will_read():
    torch.manual_seed(0)
    one, two, plain = (torch.nn.Linear(32, 3) for _ in range(3))
    x = torch.randn(40, 32)
    layers = [("one", one), ("two", two), ("plain", plain)]

    def forward() -> None:
        for part in torch.split(x, 15):
            for _, layer in layers:
                layer(part)

    found = calibrate(layers, forward, 1, {"one": 16, "two": 16})
    wanted = Calibration.of(x.double().numpy() @ written_out(32, 16))
    np.testing.assert_allclose(found["one"].hessian, wanted.hessian, atol=1e-9)
    np.testing.assert_allclose(found["one"].peak, wanted.peak)
    np.testing.assert_allclose(found["plain"].peak, Calibration.of(x.numpy()).peak)
    assert found["one"].hessian is found["two"].hessian
    assert found["plain"].hessian is not found["one"].hessian


@pytest.mark.parametrize("method", [rtn, gptq, ptq161])
def test_every_layer_of_a_model_is_rotated_and_measured_as_it_was(method):
    model = tiny_llama(1)
    ids = np.random.default_rng(0).integers(0, 50, (3, 17))
    name = method.__name__.rpartition(".")[2]
    made = quantize_model(model, name, None, ids, rotate=BLOCK)
    seen = inputs_of(model, ids)
    weights = dict(model.named_modules())
    for layer, result in made.layers.items():
        weight = weights[layer].weight.double().numpy()
        stored = result.quantized.dequantize()
        assert (result.quantized.inner or result.quantized.matrix).rotate == BLOCK
        assert result.weight_error == pytest.approx(weight_error(weight, stored))
        assert result.output_error == pytest.approx(output_error(seen[layer], weight, stored), rel=1e-5)
        np.testing.assert_allclose(
            dict(made.model.named_modules())[layer].weight, stored, rtol=1e-6, atol=1e-8
        )


def test_a_plan_keeps_the_rotation_of_a_layer(tmp_path):
    layers = {
        "a": Choice(method="rtn", config=rtn.Config(), rotate=16),
        "b": Choice(method="rtn", config=rtn.Config()),
    }
    plan.write(tmp_path / "plan", plan.Plan(layers=layers))
    assert plan.read(tmp_path / "plan").layers == layers
    assert '"rotate": 16' in (tmp_path / "plan").read_text()


def test_what_does_not_go_with_a_rotation_is_refused():
    model = tiny_llama(1)
    ids = np.zeros((1, 17), np.int64)
    with pytest.raises(ValueError, match=r"^layer \S+: rotate must divide the 40 columns, not 16$"):
        quantize_model(model, "rtn", None, ids, rotate=16)
    with pytest.raises(ValueError, match=r"^rotate must be a power of two above 1, not 12$"):
        Choice(method="rtn", config=rtn.Config(), rotate=12)
    with pytest.raises(ValueError, match=r"^rotate must divide the 40 columns, not 16$"):
        rotation.quantize(rtn, np.ones((2, 40)), None, rtn.Config(), 16)
    shared = Choice(method="stbllm", config=stbllm.Config(), rotate=BLOCK)
    message = f"rotate must be left out where stbllm is shared out over blocks, not {BLOCK}"
    assert wants_allocation(replace(shared, rotate=None))
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        wants_allocation(shared)
    option = Choice(method="rtn", config=rtn.Config(), rotate=BLOCK)
    with pytest.raises(ValueError, match=r"^options must be without rotation, not 8 of rtn$"):
        measure(model, [option], ids)
    with pytest.raises(ValueError, match=r"^rotate must be left out with a plan, not 8$"):
        quantize_model(model, plan.Plan(layers={"a": option}), rotate=BLOCK)


def test_a_matrix_given_unrotated_is_what_the_method_makes_of_it():
    w = heavy((4, 64))
    made = rotation.quantize(rtn, w, None, rtn.Config(), None)
    np.testing.assert_array_equal(dequantize(made.matrix), rtn.quantize(w).dequantize())
    assert made.matrix.rotate is None


def test_a_plan_with_a_rotation_that_is_none_is_refused(tmp_path):
    path = tmp_path / "plan"
    plan.write(path, plan.Plan(layers={"a": Choice(method="rtn", config=rtn.Config(), rotate=16)}))
    for bad in ("12", '"x"', "true"):
        path.write_text(path.read_text().replace('"rotate": 16', f'"rotate": {bad}'))
        with pytest.raises(ValueError, match=r"layer a: rotate must be a power of two above 1, not "):
            plan.read(path)
        path.write_text(path.read_text().replace(f'"rotate": {bad}', '"rotate": 16'))
