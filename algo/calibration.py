"""What the calibration tokens say of a model's layers: a Hessian and a peak per input channel, each layer.

The Hessian ``(2/N) sum X^T X`` is that of the squared output error. N counts sequences, not tokens, as in
GPTQ and BiLLM; nothing that reads a Hessian here depends on its scale.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from algo.bitplane.hadamard import rotated_activations
from algo.formats.quantized import Calibration
from algo.rotation import rotated_hessian

_TOKENS = 1024  #: made float64 at a time


def calibrate(
    layers: Sequence[tuple[str, torch.nn.Linear]],
    forward: Callable[[], None],
    sequences: int,
    rotations: Mapping[str, int] | None = None,
) -> dict[str, Calibration]:
    """Calibration of linear layers, by name, over all tokens that reach them while ``forward`` runs.

    Parameters: layers, (name, layer); forward, runs the model on all calibration sequences; sequences, how
    many those are; rotations, blocks by layer, of inputs that are rotated first (`algo.rotation`). Products
    are formed and summed in float64, on the device the activations are on.
    Returns calibrations whose Hessian is one array where layers read the same: not to be written to.
    Raises ValueError if a layer sees no token, or one that is not finite.
    """
    inputs = _Inputs(rotations or {})
    handles = [layer.register_forward_pre_hook(inputs.hook(name)) for name, layer in layers]
    try:
        forward()
    finally:
        for handle in handles:
            handle.remove()
    inputs.flush()
    for name, _ in layers:
        if name not in inputs.peaks:
            raise ValueError(f"layer {name} must see calibration tokens, not none")
        if not bool(inputs.peaks[name].isfinite().all()):
            raise ValueError(f"activations of layer {name} must be finite, not NaN or infinity")
    hessians = _turned(inputs.hessians(sequences), rotations or {})
    return {name: Calibration(hessians[name], inputs.peaks[name].cpu().numpy()) for name, _ in layers}


def _turned(
    hessians: dict[str, NDArray[np.float64]], rotations: Mapping[str, int]
) -> dict[str, NDArray[np.float64]]:
    """Hessians of rotated inputs where they are; layers that shared an array, and a block, share one."""
    made: dict[tuple[int, int], NDArray[np.float64]] = {}
    found = dict(hessians)
    for name, block in rotations.items():
        key = (id(hessians[name]), block)
        if key not in made:
            made[key] = rotated_hessian(hessians[name], block)
        found[name] = made[key]
    return found


class _Inputs:
    """Running sums of ``X^T X``, and running peaks of ``|x|``.

    Query, key and value read one tensor, gate and up another: such a tensor's product is formed once and
    summed once, under the names of all that read it. A name with sums of its own besides gets them added.
    """

    def __init__(self, rotations: Mapping[str, int]) -> None:
        self.rotations = rotations
        self.grams: dict[tuple[str, ...], torch.Tensor] = {}  #: float64 [columns, columns] by readers
        self.peaks: dict[str, torch.Tensor] = {}  #: float64 [columns] by layer
        self._tensor: torch.Tensor | None = None  #: whose readers are still being counted
        self._readers: tuple[str, ...] = ()
        self._version = 0  #: of the tensor when it was first read

    def hook(self, name: str) -> Callable[[Any, tuple[Any, ...]], None]:
        """A forward pre-hook that adds its layer's input to what is known of ``name``."""

        def add(layer: Any, args: tuple[Any, ...]) -> None:
            if args[0] is self._tensor and name not in self._readers:
                self._readers = (*self._readers, name)
                return
            self.flush()
            self._tensor, self._readers, self._version = args[0], (name,), args[0]._version

        return add

    def flush(self) -> None:
        """Add the tensor at hand to the sums of its readers."""
        if self._tensor is None:
            return
        if self._tensor._version != self._version:
            raise ValueError(f"input of layer {self._readers[0]} must stay as it is, not be changed in place")
        x = self._tensor.detach().reshape(-1, self._tensor.shape[-1])
        gram = self.grams.get(self._readers)
        if gram is None:
            gram = self.grams[self._readers] = x.new_zeros((x.shape[1], x.shape[1]), dtype=torch.float64)
        for part in torch.split(x, _TOKENS):
            tokens = part.double()
            gram.addmm_(tokens.T, tokens)
        peaks = {block: _peak(x, block) for block in {self.rotations.get(name) for name in self._readers}}
        for name in self._readers:
            peak = peaks[self.rotations.get(name)]
            known = self.peaks.get(name)
            self.peaks[name] = peak if known is None else torch.maximum(known, peak)
        self._tensor, self._readers = None, ()

    def hessians(self, sequences: int) -> dict[str, NDArray[np.float64]]:
        """Hessian by layer; layers of one sum share one array."""
        sums = {readers: gram.mul_(2 / sequences).cpu().numpy() for readers, gram in self._emptied()}
        names = dict.fromkeys(name for readers in sums for name in readers)
        found = {name: [h for readers, h in sums.items() if name in readers] for name in names}
        return {name: parts[0] if len(parts) == 1 else np.sum(parts, axis=0) for name, parts in found.items()}

    def _emptied(self) -> Iterator[tuple[tuple[str, ...], torch.Tensor]]:
        """The sums, each let go once it is taken."""
        for readers in list(self.grams):
            yield readers, self.grams.pop(readers)


def _peak(x: torch.Tensor, block: int | None) -> torch.Tensor:
    """Largest magnitude of each channel of inputs [tokens, columns], or of what a rotation makes of them."""
    if block is None:
        return x.abs().amax(dim=0).double()
    parts = (rotated_activations(part.double().cpu().numpy(), block) for part in torch.split(x, _TOKENS))
    peak = np.max([np.abs(part).max(axis=0) for part in parts], axis=0)
    return torch.from_numpy(peak).to(x.device)
