"""What a manifest says of each quantized layer, and of all together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from algo.driver import LayerResult
    from algo.plan import Choice

Record = dict[str, Any]


def record(name: str, result: LayerResult) -> Record:
    """A layer as a JSON object: how it was made, its bits by role, its errors; nothing that time changes."""
    from algo.formats import stages

    quantized = result.quantized
    inner, outer = quantized.stages[0], quantized.stages[-1]
    weights = outer.rows * inner.columns
    return {
        "method": result.choice.method,
        "config": asdict(result.choice.config) | rotation_of(result.choice),
        "shape": [outer.rows, inner.columns],
        "matrices": list(stages.named(name, quantized)),
        "bits_per_weight": 8 * quantized.stored_bytes() / weights,
        "bits_per_weight_published": quantized.published_bits,
        "stored_bytes": quantized.stored_bytes(),
        "breakdown": stages.breakdown(quantized.stages),
        "weight_error": result.weight_error,
        "output_error": result.output_error,
        "salient_columns": sum(quantized.salient_columns),
        "notes": dict(quantized.notes),
        "source": result.source,
    }


def rotation_of(choice: Choice) -> dict[str, int]:
    """What stands beside a choice's settings where its layer is rotated first."""
    return {} if choice.rotate is None else {"rotate": choice.rotate}


def totals(records: Mapping[str, Record]) -> Record:
    """Bits and errors of all layers together; errors are means over weights."""
    sizes = {name: math.prod(made["shape"]) for name, made in records.items()}
    weights = sum(sizes.values())
    roles: dict[str, float] = {}
    for name, made in records.items():
        for role, bits in made["breakdown"].items():
            roles[role] = roles.get(role, 0.0) + bits * sizes[name] / weights

    def mean(key: str) -> float | None:
        values = {name: made[key] for name, made in records.items()}
        if any(value is None for value in values.values()):
            return None
        return sum(value * sizes[name] for name, value in values.items()) / weights

    return {
        "layers": len(records),
        "weights": weights,
        "bits_per_weight": 8 * sum(made["stored_bytes"] for made in records.values()) / weights,
        "bits_per_weight_published": mean("bits_per_weight_published"),
        "breakdown": roles,
        "weight_error": mean("weight_error"),
        "output_error": mean("output_error"),
    }
