"""A whole model through a method: its packed layers, its dequantized self, the bill."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from planeforge import settings, texts

if TYPE_CHECKING:
    from algo.bitplane.matrix import PackedMatrix
    from algo.bitplane.store import Provenance
    from algo.checkpoint import Checkpoint

Moved = Callable[[float, str], None]


@dataclass(frozen=True, kw_only=True)
class QuantizedModel:
    """What the driver made of a checkpoint."""

    model: Any  #: transformers model with dequantized float32 weights
    layers: Mapping[str, Any]  #: `algo.driver.LayerResult` by layer
    provenance: Provenance

    @property
    def matrices(self) -> dict[str, PackedMatrix]:
        """Packed matrices by layer."""
        return {name: layer.quantized.matrix for name, layer in self.layers.items()}


def run(
    checkpoint: Checkpoint,
    method: str,
    format_name: str | None,
    given: Mapping[str, Any],
    calib: Path | None,
    progress: Moved = lambda share, doing: None,
) -> QuantizedModel:
    """Quantize every linear layer of the decoder blocks.

    Raises ValueError for an unknown method, format or setting, or a calibration text too short for a window.
    """
    from algo import driver, evaluation

    module = settings.method(method)
    config = settings.configure(module, format_name, given)
    tokens = evaluation.tokens(checkpoint, texts.calibration(calib)).ids
    length = checkpoint.context
    sequences = tokens[: len(tokens) // length * length].reshape(-1, length)
    if not len(sequences):
        raise ValueError(f"calib must hold at least {length} tokens, not {len(tokens)}")
    result = driver.quantize_model(
        checkpoint,
        method,
        config,
        sequences,
        progress=lambda done, total, layer: progress(done / total, layer),
    )
    return QuantizedModel(
        model=result.model,
        layers=result.layers,
        provenance=_provenance(method, config, checkpoint, result.layers),
    )


def quantize(
    source: Path,
    method: str,
    format_name: str | None,
    given: Mapping[str, Any],
    calib: Path | None,
    output: Path,
    *,
    progress: Moved = lambda share, doing: None,
) -> dict[str, Any]:
    """Quantize a Hugging Face directory into a packed model folder; returns the figures of the whole."""
    from algo import checkpoint as door
    from planeforge import packed_model

    checkpoint = door.load(source)
    began = time.perf_counter()
    made = run(checkpoint, method, format_name, given, calib, progress)
    seconds = time.perf_counter() - began
    packed_model.save(output, checkpoint, made.matrices, made.provenance)
    return {"method": method, **totals(made.layers), "seconds": seconds, "output": str(output)}


def totals(layers: Mapping[str, Any]) -> dict[str, Any]:
    """Bits and errors of all layers together; errors are means over weights."""
    from algo.bitplane import storage
    from planeforge.quantizing import overall_bits

    matrices = [layer.quantized.matrix for layer in layers.values()]
    sizes = [m.rows * m.columns for m in matrices]
    roles: dict[str, float] = {}
    for matrix, size in zip(matrices, sizes, strict=True):
        for role, bits in storage.breakdown(matrix).items():
            roles[role] = roles.get(role, 0.0) + bits * size / sum(sizes)

    def mean(values: list[float]) -> float:
        return sum(v * s for v, s in zip(values, sizes, strict=True)) / sum(sizes)

    return {
        "layers": len(matrices),
        "weights": sum(sizes),
        "bits_per_weight": overall_bits(matrices),
        "bits_per_weight_published": mean([la.quantized.published_bits for la in layers.values()]),
        "breakdown": roles,
        "weight_error": mean([layer.weight_error for layer in layers.values()]),
        "output_error": mean([layer.output_error for layer in layers.values()]),
    }


def _provenance(method: str, config: Any, checkpoint: Checkpoint, layers: Mapping[str, Any]) -> Provenance:
    import numpy as np

    from algo.bitplane.store import Provenance
    from algo.checkpoint import linear_layers

    digests = {
        name: hashlib.sha256(np.ascontiguousarray(linear.weight.detach().numpy()).tobytes()).hexdigest()
        for name, linear in linear_layers(checkpoint.model)
    }
    return Provenance(
        method=method,
        config=asdict(config),
        sources={name: digests[name] for name in layers},
        published_bits=totals(layers)["bits_per_weight_published"],
    )
