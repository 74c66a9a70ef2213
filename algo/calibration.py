"""What the calibration tokens say of a layer: the Hessian of its squared output error, ``(2/N) sum X^T X``.

N counts sequences, not tokens, as in GPTQ and BiLLM; nothing that reads a Hessian here depends on its scale.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    import torch


def hessian(activations: ArrayLike, columns: int | None = None) -> NDArray[np.float64]:
    """``2 X^T X`` of activations [tokens, columns], taken as one sequence; float64 [columns, columns].

    Parameters: columns, width the activations must have; None: any.
    Raises ValueError if they are not finite, not of two axes, without a token, or of another width.
    """
    x = np.asarray(activations, np.float64)
    if x.ndim != 2 or len(x) == 0:
        raise ValueError(f"calibration must have shape [tokens, columns], not {list(x.shape)}")
    if columns is not None and x.shape[1] != columns:
        raise ValueError(f"calibration must have {columns} columns, not {x.shape[1]}")
    if not np.all(np.isfinite(x)):
        raise ValueError("calibration must be finite, not NaN or infinity")
    return 2 * (x.T @ x)


def layer_hessians(
    layers: Sequence[tuple[str, torch.nn.Linear]], forward: Callable[[], None], sequences: int
) -> dict[str, NDArray[np.float64]]:
    """Hessians of linear layers, by name, over all tokens that reach them while ``forward`` runs.

    Parameters: layers, (name, layer); forward, runs the model on all calibration sequences; sequences, how
    many those are. Returns float64 [columns, columns] each, summed in float64.
    Raises ValueError if a layer sees no token, or one that is not finite.
    """
    grams = _Grams()
    handles = [layer.register_forward_pre_hook(grams.hook(name)) for name, layer in layers]
    try:
        forward()
    finally:
        for handle in handles:
            handle.remove()
    for name, _ in layers:
        if name not in grams.sums:
            raise ValueError(f"layer {name} must see calibration tokens, not none")
        if not np.all(np.isfinite(grams.sums[name])):
            raise ValueError(f"activations of layer {name} must be finite, not NaN or infinity")
    return {name: (2 / sequences) * grams.sums[name] for name, _ in layers}


class _Grams:
    """Running sums of ``X^T X`` by layer."""

    def __init__(self) -> None:
        self.sums: dict[str, NDArray[np.float64]] = {}
        self._seen: Any = None
        self._gram: NDArray[np.float64] = np.zeros((0, 0))

    def hook(self, name: str) -> Callable[[Any, tuple[Any, ...]], None]:
        """A forward pre-hook that adds its layer's input to the sum ``name``."""

        def add(layer: Any, args: tuple[Any, ...]) -> None:
            x = args[0]
            # Query, key and value read one tensor, gate and up another: its product is made once.
            if x is not self._seen:
                tokens = x.detach().reshape(-1, x.shape[-1]).double()
                self._seen, self._gram = x, (tokens.T @ tokens).cpu().numpy()
            self.sums[name] = self.sums[name] + self._gram if name in self.sums else self._gram

        return add
