"""Single tensors out of shards, and many copied from shards into one file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from algo import skeleton
from algo.tensor_files import TensorFiles, copy_tensors

ONE = {
    "model.b": torch.arange(5, dtype=torch.bfloat16),
    "model.a": torch.arange(6, dtype=torch.float64).reshape(2, 3),
    "bits": torch.tensor([True, False, True]),
}
OTHER = {"c": torch.arange(7, dtype=torch.int16), "empty": torch.zeros(0, 3), "one": torch.tensor(2.5)}


@pytest.fixture
def shards(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "1.safetensors", tmp_path / "2.safetensors"]
    for path, tensors in zip(paths, (ONE, OTHER), strict=True):
        save_file(tensors, path)
    return paths


def test_a_tensor_is_read_as_float32_unless_it_counts(shards: list[Path]) -> None:
    files = TensorFiles.of(shards)
    assert files.read("model.b").dtype == files.read("model.a").dtype == torch.float32
    assert torch.equal(files.read("model.a"), ONE["model.a"].float())
    assert torch.equal(files.read("c"), OTHER["c"])
    assert files.shape("model.a") == [2, 3]
    with pytest.raises(ValueError, match=r"^tensor must be one of the checkpoint's, not 'a'$"):
        files.read("a")


def test_names_are_found_with_and_without_the_models_prefix(shards: list[Path]) -> None:
    files = TensorFiles.of(shards, "model.")
    assert files.find("a") == "model.a"
    assert files.find("model.c") == "c"
    assert files.find("model.model.c") is None


def test_copied_tensors_are_the_same_bytes_aligned_and_in_one_order(
    shards: list[Path], tmp_path: Path
) -> None:
    target, again = tmp_path / "all.safetensors", tmp_path / "again.safetensors"
    copy_tensors(shards, {"bits"}, target)
    copy_tensors(shards[::-1], {"bits"}, again)
    assert target.read_bytes() == again.read_bytes()
    expected = {name: tensor for name, tensor in {**ONE, **OTHER}.items() if name != "bits"}
    found = load_file(target)
    assert set(found) == set(expected)
    for name, tensor in found.items():
        assert tensor.dtype == expected[name].dtype
        assert torch.equal(tensor, expected[name])
        assert tensor.data_ptr() % tensor.element_size() == 0
    with safe_open(target, framework="pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_a_shard_that_is_cut_short_is_not_copied_in_part(shards: list[Path], tmp_path: Path) -> None:
    shards[0].write_bytes(shards[0].read_bytes()[:-1])
    message = rf"^{re.escape(str(shards[0]))} must be as long as its header says, and ends early$"
    with pytest.raises(ValueError, match=message):
        copy_tensors(shards, set(), tmp_path / "all.safetensors")


def test_a_tensor_of_another_shape_fills_no_place() -> None:
    layer = torch.nn.Linear(3, 2)
    with pytest.raises(ValueError, match=r"^tensor weight must have shape \[2, 3\], not \[3, 2\]$"):
        skeleton.fill(layer, {"weight": torch.zeros(3, 2)})
    skeleton.fill(layer, {"weight": torch.ones(2, 3)})
    assert layer.weight.sum() == 6
    assert not layer.weight.requires_grad
    skeleton.empty(layer, ["weight"])
    assert skeleton.without_storage(layer) == ["weight"]
