"""What papers' headlines say of formats, in direction: on weights, on a model's outputs, on modelled area.

Synthetic weights are seeded; real ones are those of two small trained models, where they are at hand.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from algo import rotation
from algo.bitplane import activation_formats, decode
from algo.guidance.qsnr import measured
from algo.methods import ptqtp, rtn
from cost_models.area import pe_area
from cost_models.uncertain import ratio
from hw.pe.mac import Mac
from hw.pe.minifloat import Minifloat
from hw.spec import PeSpec, signed_bits
from planeforge import evaluating
from planeforge.demo import assets
from sim import integer

DATA = Path(os.environ.get("PLANEFORGE_DATA", Path(__file__).parents[2] / "../shared/data")).resolve()
SYNTHETIC = ("normal", "laplace", "t")
CHECKPOINTS = ("tinydocs-1.4M", "tinytopics-1.4M")
#: Of each checkpoint: the widest layer, the narrowest, and one that reads the residual stream.
LAYERS = ("0.mlp.down_proj", "1.self_attn.o_proj", "1.mlp.gate_proj")
EVERY = [*SYNTHETIC, *(f"{model}/{layer}" for model in CHECKPOINTS for layer in LAYERS)]
TECHS = ("generic_ge", "asap7", "sg13g2", "sky130hd")
REDUCED = 4096  #: columns of a sum, all of which an accumulator holds exactly


@cache
def weight_of(name: str) -> np.ndarray:
    """A matrix, float64 [rows, columns]."""
    if name in SYNTHETIC:
        rng = np.random.default_rng(0)
        draw = {"normal": rng.normal, "laplace": rng.laplace, "t": lambda size: rng.standard_t(3, size)}
        return np.asarray(draw[name](size=(64, 1024)))
    from safetensors import safe_open

    model, _, layer = name.partition("/")
    path = DATA / "models" / model / "model.safetensors"
    if not path.is_file():
        pytest.skip(f"no {model} under PLANEFORGE_DATA")
    with safe_open(path, framework="numpy") as file:
        return file.get_tensor(f"model.layers.{layer}.weight").astype(np.float64)


@cache
def decibels(weight: str, name: str, block: int | None = None) -> float:
    """Signal to noise [dB] of a format, rotated by blocks of so many columns first."""
    w = weight_of(weight)
    return measured(w, rotation.quantize(rtn, w, None, rtn.Config(format=name), block).dequantize())


@pytest.mark.parametrize("weight", EVERY)
def test_mxint8_keeps_more_of_weights_than_mxfp8(weight):
    # Chen et al., arXiv:2510.25602: at eight bits integers win on any block that is not mostly one outlier.
    for rule in ("", "-ceil"):
        assert decibels(weight, f"mxint8{rule}") > decibels(weight, f"mxfp8-e4m3{rule}") + 3


@pytest.mark.parametrize("weight", EVERY)
def test_nvint4_passes_nvfp4_once_weights_are_rotated(weight):
    for block in (16, 64):
        assert decibels(weight, "nvint4", block) > decibels(weight, "nvfp4", block)


@pytest.mark.parametrize("weight", ["laplace", "t"])
def test_before_the_rotation_nvfp4_is_ahead_on_heavy_tails(weight):
    assert decibels(weight, "nvfp4") > decibels(weight, "nvint4")


@pytest.mark.parametrize("weight", ["laplace", "t"])
def test_a_rotation_lifts_mxfp4_and_lowers_nvfp4_on_heavy_tails(weight):
    # Egiazarian et al., arXiv:2509.23202: groups of 16 under fine scales follow outliers by themselves.
    assert decibels(weight, "mxfp4", 32) > decibels(weight, "mxfp4") + 0.5
    assert decibels(weight, "nvfp4", 32) < decibels(weight, "nvfp4")


@pytest.mark.parametrize("weight", EVERY)
@pytest.mark.parametrize("bits", [3, 4])
def test_bitmod_keeps_more_than_small_floats_and_than_integers(weight, bits):
    # Chen et al., arXiv:2411.11745: one special value a group beats FP4 (FP3), and integers of either kind.
    ours = decibels(weight, f"bitmod{bits}-g128")
    rivals = {name: decibels(weight, f"{name}{bits}-g128") for name in ("fp", "sint", "int")}
    assert ours > max(rivals.values())
    assert rivals["fp"] > rivals["sint"]


@pytest.mark.parametrize("weight", EVERY)
def test_two_trit_planes_stand_between_three_and_four_bits(weight):
    # PTQTP, arXiv:2509.16989, against integers with zero points in the same groups of 128.
    w = weight_of(weight)
    trits = measured(w, ptqtp.quantize(w).dequantize())
    assert decibels(weight, "int3-g128") + 1 < trits < decibels(weight, "int4-g128") - 1


def exact(pe: type[PeSpec], lanes: int, columns: int, **given: object) -> PeSpec:
    """A PE whose accumulator holds every sum of ``columns`` products and no bit more; all are cut alike."""
    low, high = pe(lanes=lanes, acc_width=120, levels=2, **given).beat_range()  # type: ignore[call-arg]
    beats = columns // lanes
    return pe(lanes=lanes, acc_width=signed_bits(low * beats, high * beats), levels=2, **given)  # type: ignore[call-arg]


def multiplier(lanes: int, bits: int, columns: int, tech: str) -> PeSpec:
    """The smaller of the two multipliers there are."""
    both = [exact(Mac, lanes, columns, w_bits=bits, act_bits=bits, booth=booth) for booth in (False, True)]
    return min(both, key=lambda pe: pe_area(pe, tech).total)


def small_float(lanes: int, layout: tuple[int, int], columns: int) -> PeSpec:
    e, m = layout
    return exact(Minifloat, lanes, columns, exponent=e, mantissa=m, x_exponent=e, x_mantissa=m)


@pytest.mark.parametrize("tech", TECHS)
@pytest.mark.parametrize("lanes", [4, 16, 32])
def test_exact_fp8_macs_cost_more_than_int8_macs(tech, lanes):
    # van Baalen et al., arXiv:2303.17951. Both multiply in parallel, add up in one tree with the same cuts
    # and hold exact sums of 4096 products; each is mapped as suits it best. What the fits' errors leave:
    int8 = pe_area(multiplier(lanes, 8, REDUCED, tech), tech)
    e4m3 = ratio(pe_area(small_float(lanes, (4, 3), REDUCED), tech), int8)
    e5m2 = ratio(pe_area(small_float(lanes, (5, 2), REDUCED), tech), int8)
    assert 1.1 < e4m3.low < e4m3.value < 1.6
    assert 1.6 < e5m2.low < e5m2.value < 2.3


@pytest.mark.parametrize("tech", TECHS)
def test_an_mxint8_block_costs_less_area_than_an_mxfp8_block(tech):
    # A block of 32 is one beat; its power-of-two scale stands outside either.
    int8, e4m3 = multiplier(32, 8, 32, tech), small_float(32, (4, 3), 32)
    assert ratio(pe_area(int8, tech), pe_area(e4m3, tech)).high < 0.95


@pytest.mark.parametrize("tech", TECHS)
def test_at_four_bits_a_float_mac_costs_little_more_than_an_integer(tech):
    int4 = pe_area(multiplier(16, 4, REDUCED, tech), tech)
    e2m1 = ratio(pe_area(small_float(16, (2, 1), REDUCED), tech), int4)
    e4m3 = ratio(
        pe_area(small_float(16, (4, 3), REDUCED), tech), pe_area(multiplier(16, 8, REDUCED, tech), tech)
    )
    assert 1 < e2m1.value < e4m3.value


@pytest.mark.parametrize("weight", EVERY)
def test_outputs_of_a_layer_are_nearer_in_mxint8_than_in_mxfp8_on_both_sides(weight):
    w = weight_of(weight)
    x = np.random.default_rng(1).standard_t(5, (16, w.shape[1])).astype(np.float32)
    lost = {}
    for name in ("mxint8-ceil", "mxfp8-e4m3-ceil"):
        act = activation_formats.get(name)
        matrix = act.regrouped(rtn.quantize(w, None, rtn.Config(format=name)).matrix)
        read = act.streams(matrix, x)
        y = decode.outputs(matrix, read, integer.integer_sums(matrix, read))
        lost[name] = np.linalg.norm(y - x @ w.T)
    assert lost["mxint8-ceil"] < 0.6 * lost["mxfp8-e4m3-ceil"]


@pytest.mark.slow
def test_a_model_in_mxint8_is_nearer_to_itself_than_in_mxfp8():
    # Weights and activations of every linear layer; Kullback-Leibler divergence from the model as it is.
    divergence = {}
    for name in ("mxint8-ceil", "mxfp8-e4m3-ceil"):
        score = evaluating.evaluate(
            assets.model(assets.UNIT_TEST_MODEL),
            "rtn",
            name,
            characters=600,
            engine="integer",
            act_format=name,
        )
        divergence[name] = score["kl_nats"]
    assert 0 < divergence["mxint8-ceil"] < 0.5 * divergence["mxfp8-e4m3-ceil"]


@pytest.mark.slow
def test_a_rotated_model_is_nearer_to_itself_in_nvint4_and_mxfp4_and_farther_in_nvfp4():
    divergence = {}
    for name, block in (("nvint4", 16), ("nvfp4", 16), ("mxfp4", 32)):
        for rotate in (None, block):
            score = evaluating.evaluate(
                assets.model(),
                "rtn",
                name,
                characters=6000,
                engine="integer",
                act_format=name,
                rotate=rotate,
            )
            divergence[name, rotate is not None] = score["kl_nats"]
    assert divergence["nvint4", True] < 0.9 * divergence["nvint4", False]
    assert divergence["mxfp4", True] < 0.95 * divergence["mxfp4", False]
    assert divergence["nvfp4", True] > divergence["nvfp4", False]
    assert divergence["nvint4", True] < 0.8 * divergence["nvfp4", True]
