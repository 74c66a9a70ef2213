"""A whole model in packed form: a folder with its planes, the tensors left alone, configuration, tokenizer.

``packed.safetensors`` holds the quantized layers, ``rest.safetensors`` every other tensor as it was; the
configuration and tokenizer files lie beside them as in the source. No dequantized copy is stored.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from planeforge.packed import PACKED

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from algo.bitplane.matrix import PackedMatrix
    from algo.bitplane.store import Provenance
    from algo.checkpoint import Checkpoint

REST = "rest.safetensors"
WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".index.json")


def save(
    directory: Path, checkpoint: Checkpoint, matrices: Mapping[str, PackedMatrix], provenance: Provenance
) -> None:
    """Write the folder; it appears whole or not at all.

    Raises ValueError if ``directory`` exists and is no packed model, which is never overwritten.
    """
    from algo.bitplane import store

    if directory.exists() and not (directory / PACKED).is_file():
        raise ValueError(f"output must be new or a packed model to replace, not {str(directory)!r}")
    if not directory.parent.is_dir():
        raise ValueError(f"output folder must exist, not {str(directory.parent)!r}")
    work = Path(tempfile.mkdtemp(dir=directory.parent, prefix=f".{directory.name}."))
    try:
        work.chmod(0o755)
        for path in sorted(checkpoint.directory.iterdir()):
            if path.is_file() and not path.name.endswith(WEIGHT_SUFFIXES):
                shutil.copyfile(path, work / path.name)
        store.save(work / PACKED, matrices, provenance)
        store.write_whole(work / REST, _rest(checkpoint, matrices))
        if directory.exists():
            shutil.rmtree(directory)
        work.rename(directory)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise


def _rest(checkpoint: Checkpoint, matrices: Mapping[str, PackedMatrix]) -> bytes:
    """Every tensor of the source that no matrix replaces, in its own type."""
    from safetensors import safe_open
    from safetensors.numpy import save as to_bytes

    from algo.checkpoint import weight_files

    replaced = {f"{name}.weight" for name in matrices}
    kept: dict[str, Any] = {}
    for path in weight_files(checkpoint.directory):
        with safe_open(path, framework="numpy") as file:
            names = list(file.keys())
            kept |= {name: file.get_tensor(name) for name in names if name not in replaced}
    return to_bytes(kept, metadata={"format": "pt"})


def load(directory: Path) -> tuple[Checkpoint, dict[str, PackedMatrix], Provenance]:
    """A packed model as a float32 checkpoint with its dequantized layers, the matrices, and how they came.

    Raises ValueError naming the file if one is missing, damaged, or does not fit the model.
    """
    import numpy as np

    from algo import checkpoint as door
    from algo.bitplane import decode
    from planeforge.packed import read

    matrices, provenance = read(directory)
    weights = {
        f"{name}.weight": decode.dequantize(matrix).astype(np.float32) for name, matrix in matrices.items()
    }
    with tempfile.TemporaryDirectory() as name:
        # The one door for checkpoints checks this one too: a folder as any other, for the moment of loading.
        whole = Path(name)
        for path in directory.iterdir():
            if path.is_file() and path.suffix != ".safetensors":
                shutil.copyfile(path, whole / path.name)
        _write_whole_model(directory / REST, weights, whole / door.WEIGHTS)
        loaded = door.load(whole)
    return _relocated(loaded, directory), matrices, provenance


def _write_whole_model(rest: Path, weights: Mapping[str, NDArray[np.float32]], path: Path) -> None:
    from safetensors import SafetensorError, safe_open
    from safetensors.numpy import save_file

    if not rest.is_file():
        raise ValueError(f"packed model must hold {REST}, and {str(rest.parent)!r} does not")
    try:
        with safe_open(rest, framework="numpy") as file:
            names = list(file.keys())
            tensors = {name: file.get_tensor(name) for name in names}
    except SafetensorError as error:
        raise ValueError(f"{rest} must be a whole safetensors file, but {error}") from None
    save_file({**tensors, **weights}, path, metadata={"format": "pt"})


def _relocated(checkpoint: Checkpoint, directory: Path) -> Checkpoint:
    from dataclasses import replace

    return replace(checkpoint, directory=directory)


def record(
    directory: Path, layers: Sequence[str], text: Path | None, tokens: int
) -> dict[str, NDArray[np.float32]]:
    """Inputs [tokens, columns] of each layer, recorded from the packed model's own forward pass on a text."""
    from algo import evaluation
    from planeforge.texts import held_out

    checkpoint = load(directory)[0]
    ids = evaluation.tokens(checkpoint, held_out(text)).ids[: min(tokens, checkpoint.context)]
    return record_inputs(checkpoint.model, layers, ids)


def record_inputs(
    model: Any, layers: Sequence[str], ids: NDArray[np.int64]
) -> dict[str, NDArray[np.float32]]:
    """Inputs [tokens, columns] of named linear layers of a model reading ``ids`` [tokens]."""
    import torch

    inputs: dict[str, Any] = {}

    def hook(name: str) -> Any:
        def keep(module: Any, arguments: Any) -> None:
            inputs[name] = arguments[0].detach().reshape(-1, arguments[0].shape[-1]).float().numpy()

        return keep

    modules = dict(model.named_modules())
    handles = [modules[name].register_forward_pre_hook(hook(name)) for name in layers]
    try:
        with torch.no_grad():
            model(input_ids=torch.from_numpy(ids)[None])
    finally:
        for handle in handles:
            handle.remove()
    return inputs
