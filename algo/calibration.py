"""What the calibration tokens say of a model's layers: a Hessian and a peak per input channel, each layer.

The Hessian ``(2/N) sum X^T X`` is that of the squared output error. N counts sequences, not tokens, as in
GPTQ and BiLLM; nothing that reads a Hessian here depends on its scale.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from algo.formats.quantized import Calibration

if TYPE_CHECKING:
    import torch


def calibrate(
    layers: Sequence[tuple[str, torch.nn.Linear]], forward: Callable[[], None], sequences: int
) -> dict[str, Calibration]:
    """Calibration of linear layers, by name, over all tokens that reach them while ``forward`` runs.

    Parameters: layers, (name, layer); forward, runs the model on all calibration sequences; sequences, how
    many those are. Products are formed and summed in float64.
    Raises ValueError if a layer sees no token, or one that is not finite.
    """
    inputs = _Inputs()
    handles = [layer.register_forward_pre_hook(inputs.hook(name)) for name, layer in layers]
    try:
        forward()
    finally:
        for handle in handles:
            handle.remove()
    for name, _ in layers:
        if name not in inputs.grams:
            raise ValueError(f"layer {name} must see calibration tokens, not none")
        if not np.all(np.isfinite(inputs.grams[name])):
            raise ValueError(f"activations of layer {name} must be finite, not NaN or infinity")
    return {name: Calibration((2 / sequences) * inputs.grams[name], inputs.peaks[name]) for name, _ in layers}


class _Inputs:
    """Running sums of ``X^T X``, and running peaks of ``|x|``, by layer."""

    def __init__(self) -> None:
        self.grams: dict[str, NDArray[np.float64]] = {}
        self.peaks: dict[str, NDArray[np.float64]] = {}
        self._seen: Any = None
        self._now: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None

    def hook(self, name: str) -> Callable[[Any, tuple[Any, ...]], None]:
        """A forward pre-hook that adds its layer's input to what is known of ``name``."""

        def add(layer: Any, args: tuple[Any, ...]) -> None:
            x = args[0]
            # Query, key and value read one tensor, gate and up another: its product is made once.
            if x is not self._seen or self._now is None:
                tokens = x.detach().reshape(-1, x.shape[-1]).double()
                self._seen = x
                self._now = (tokens.T @ tokens).cpu().numpy(), tokens.abs().amax(dim=0).cpu().numpy()
            gram, peak = self._now
            first = name not in self.grams
            self.grams[name] = gram if first else self.grams[name] + gram
            self.peaks[name] = peak if first else np.maximum(self.peaks[name], peak)

        return add
