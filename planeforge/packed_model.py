"""A whole model in packed form: a folder with its planes, the tensors left alone, configuration, tokenizer.

``packed-00000-of-000NN.safetensors`` holds the layers of a decoder block, ``rest.safetensors`` every other
tensor as it was, ``manifest.json`` how each layer was made and what it costs; configuration and tokenizer
files lie beside them as in the source. No dequantized copy is stored, and nothing that time changes.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from planeforge.packed import PACKED, SCHEMA, is_packed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from algo.bitplane.matrix import PackedMatrix
    from algo.bitplane.store import Provenance
    from algo.checkpoint import Checkpoint
    from algo.driver import LayerResult

REST = "rest.safetensors"
WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".index.json")


def check_place(directory: Path) -> None:
    """Raises ValueError if ``directory`` exists and is no packed model, which is never overwritten."""
    if directory.exists() and not is_packed(directory):
        raise ValueError(f"output must be new or a packed model to replace, not {str(directory)!r}")
    if not directory.parent.is_dir():
        raise ValueError(f"output folder must exist, not {str(directory.parent)!r}")


def shard_name(index: int, count: int) -> str:
    """Name of a decoder block's packed file."""
    return f"packed-{index:05d}-of-{count:05d}.safetensors"


def write_shard(path: Path, layers: Mapping[str, LayerResult], seed: int) -> None:
    """Write a decoder block's layers; the file appears whole or not at all."""
    from dataclasses import asdict

    from algo.bitplane import store
    from algo.formats import stages

    choices = [made.choice for made in layers.values()]
    alike = all(choice == choices[0] for choice in choices)
    sizes = [made.quantized.matrix.rows * made.quantized.stages[0].columns for made in layers.values()]
    published = [made.quantized.published_bits for made in layers.values()]
    matrices: dict[str, PackedMatrix] = {}
    for name, made in layers.items():
        matrices |= stages.named(name, made.quantized)
    provenance = store.Provenance(
        method=choices[0].method if alike else "plan",
        config=asdict(choices[0].config) if alike else {},
        seed=seed,
        sources={name: made.source for name, made in layers.items()},
        published_bits=sum(p * s for p, s in zip(published, sizes, strict=True)) / sum(sizes),
    )
    store.save(path, matrices, provenance)


def complete(folder: Path, source: Path, replaced: set[str], manifest: Mapping[str, Any]) -> None:
    """Put beside the packed files whatever else makes the folder a packed model.

    Parameters: source, the Hugging Face directory; replaced, names in its files of the tensors that are
    packed.
    """
    from algo.bitplane.store import write_whole
    from algo.checkpoint import weight_files
    from algo.tensor_files import copy_tensors

    for path in sorted(source.iterdir()):
        if path.is_file() and not path.name.endswith(WEIGHT_SUFFIXES) and path.name != PACKED:
            shutil.copyfile(path, folder / path.name)
    copy_tensors(weight_files(source), replaced, folder / REST)
    text = json.dumps(_finite({"schema": SCHEMA, **manifest}), indent=1, allow_nan=False)
    write_whole(folder / PACKED, (text + "\n").encode())


def _finite(value: Any) -> Any:
    """``value`` with null for a number that JSON has no word for (the error of an output of zeros)."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def load(directory: Path) -> tuple[Checkpoint, dict[str, PackedMatrix], Provenance]:
    """A packed model as a float32 checkpoint with its dequantized layers, the matrices, and how they came.

    `sim.linear.swap` makes its layers compute from the matrices.

    Raises ValueError naming the file if one is missing, damaged, or does not fit the model.
    """
    import torch
    from safetensors.torch import load_file

    from algo import checkpoint as door
    from algo.formats import stages
    from planeforge.packed import provenance, read, read_manifest

    matrices, _ = read(directory)
    manifest = read_manifest(directory)
    rest = directory / REST
    if not rest.is_file():
        raise ValueError(f"packed model must hold {REST}, and {str(directory)!r} does not")
    door.check_finite(rest)
    weights: dict[str, Any] = load_file(rest)
    for name, stage in stages.by_layer(matrices).items():
        tensor = manifest["layers"][name].get("tensor", f"{name}.weight")
        weights[tensor] = torch.from_numpy(stage.dequantize()).float()
    return door.filled(directory, weights, manifest["checkpoint"]), matrices, provenance(manifest)


def record(
    directory: Path, layers: Sequence[str], text: Path | None, tokens: int
) -> dict[str, NDArray[np.float32]]:
    """Inputs [tokens, columns] of each matrix, from the packed model's own forward pass on a text."""
    from algo import evaluation
    from algo.formats.stages import INNER
    from planeforge.texts import held_out
    from sim.linear import swap

    checkpoint, matrices, _ = load(directory)
    ids = evaluation.tokens(checkpoint, held_out(text)).ids[: min(tokens, checkpoint.context)]
    # A layer that is a product of two has no input of its outer factor until it is computed as such.
    products = {n: m for n, m in matrices.items() if n.removesuffix(INNER) + INNER in matrices}
    model = swap(checkpoint.model, products, "float") if products else checkpoint.model
    return record_inputs(model, layers, ids)


def record_inputs(
    model: Any, layers: Sequence[str], ids: NDArray[np.int64]
) -> dict[str, NDArray[np.float32]]:
    """Inputs [tokens, columns] of named linear layers of a model reading ``ids`` [tokens].

    The factors of a layer held as a product of two, in a swapped model, have the names of their matrices.
    """
    import torch

    inputs: dict[str, Any] = {}

    def hook(name: str) -> Any:
        def keep(module: Any, arguments: Any) -> None:
            inputs[name] = arguments[0].detach().reshape(-1, arguments[0].shape[-1]).float().numpy()

        return keep

    handles = [_module(model, name).register_forward_pre_hook(hook(name)) for name in layers]
    try:
        with torch.no_grad():
            model(input_ids=torch.from_numpy(ids)[None])
    finally:
        for handle in handles:
            handle.remove()
    return inputs


def _module(model: Any, name: str) -> Any:
    """The module that computes with the matrix ``name``."""
    from algo.formats.stages import INNER

    layer = model.get_submodule(name.removesuffix(INNER))
    if name.endswith(INNER):
        return layer.inner
    return getattr(layer, "outer", layer)
