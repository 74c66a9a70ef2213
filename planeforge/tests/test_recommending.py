"""``planeforge recommend``: the published verdicts come out, predicted and measured."""

import json

import numpy as np
import pytest

from planeforge import recommending
from planeforge.cli import main
from planeforge.demo import assets


def tensor(kind: str) -> np.ndarray:
    rng = np.random.default_rng(0)
    made = {"normal": rng.normal, "laplace": rng.laplace, "t": lambda size: rng.standard_t(3, size)}
    return made[kind](size=(64, 2048))


#: Signal to noise [dB] of pairs of integers and floats, measured once by another program: the verdicts of
#: Chen et al., arXiv:2510.25602, on synthetic tensors.
MEASURED = {
    ("normal", 0): [(41.62, 31.53), (29.40, 30.95), (16.80, 18.71), (21.27, 20.41)],
    ("laplace", 0): [(39.95, 31.55), (27.72, 30.25), (14.93, 17.59), (19.79, 20.66)],
    ("laplace", 32): [(42.36, 31.54), (30.04, 31.04), (16.95, 18.69), (21.59, 20.35)],
}


@pytest.mark.parametrize(("kind", "rotate"), MEASURED)
def test_noise_and_winners_are_the_published_ones(kind, rotate):
    found = recommending.of_tensor("w", tensor(kind), rotate)
    for one, wanted in zip(found, MEASURED[kind, rotate], strict=True):
        # Rotation blocks of 16 would suit the fine scales better; the direction is the same.
        assert one.measured == pytest.approx(wanted, abs=0.35)
        assert one.measured[0] - one.measured[1] == pytest.approx(wanted[0] - wanted[1], abs=0.35)
        assert (one.predicted[0] > one.predicted[1]) == (one.measured[0] > one.measured[1])
        assert one.predicted == pytest.approx(one.measured, abs=1.6)


def test_rotation_turns_the_verdict_at_four_bits_with_fine_scales():
    heavy = tensor("t")
    raw, turned = recommending.of_tensor("w", heavy), recommending.of_tensor("w", heavy, 32)
    assert raw[3].row["winner"] == "nvfp4"
    assert turned[3].row["winner"] == "nvint4"
    assert raw[0].row["winner"] == turned[0].row["winner"] == "mxint8-ceil"


def test_a_checkpoint_is_gone_through_layer_by_layer(capsys):
    model = str(assets.model(assets.UNIT_TEST_MODEL))
    assert main(["recommend", model, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["tensors"]) == 4 * len({one["tensor"] for one in found["tensors"]}) > 4
    assert sum(one["tensors"] for one in found["wins"]) == len(found["tensors"])


def test_a_tensor_is_shown_for_people(tmp_path, capsys):
    np.save(tmp_path / "w.npy", tensor("normal")[:8, :200])
    assert main(["recommend", str(tmp_path / "w.npy")]) == 0
    assert "mxint8-ceil" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--rotate", "48"), "rotate must be a power of two above 1, not 48"),
        (("--rotate", "64"), "rotate must divide the 200 columns, not 64"),
    ],
)
def test_a_rotation_that_does_not_fit_is_refused(tmp_path, capsys, words, message):
    np.save(tmp_path / "w.npy", np.ones((2, 200)))
    assert main(["recommend", str(tmp_path / "w.npy"), *words]) == 2
    assert capsys.readouterr().err == f"error: {message}\n"


def test_a_layer_that_is_not_there_is_refused(capsys):
    assert main(["recommend", str(assets.model(assets.UNIT_TEST_MODEL)), "--tensor", "none"]) == 2
    assert "tensor must be a linear layer of" in capsys.readouterr().err
