"""A method for tests that shares its configuration out over the decoder blocks."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from algo.formats.quantized import Quantized
from algo.methods import sign


class Sharing(ModuleType):
    """A method that shares its configuration out: the method sign, wide groups where weights are large."""

    Config = sign.Config
    FORMATS = ()

    def __init__(self, count: int | None = None) -> None:
        super().__init__("sharing")
        self.seen: list[dict[str, Any]] = []
        self.count = count

    def needs_calibration(self, config: Any) -> bool:
        return False

    def wants_allocation(self, config: Any) -> bool:
        return bool(config.group == 24)

    def block_fact(self, layers: Any, config: Any) -> float:
        self.seen.append({name: (weight, known.hessian) for name, (weight, known) in layers.items()})
        return float(sum(np.abs(weight).sum() for weight, _ in layers.values()))

    def allocate(self, facts: Any, config: Any) -> list[Any]:
        self.facts = list(facts)
        groups = [8 if fact == max(facts) else 40 for fact in facts]
        return [sign.Config(group=group) for group in groups][: self.count]

    def quantize(self, weight: Any, calibration: Any, config: Any) -> Quantized:
        return sign.quantize(weight, calibration, config)
