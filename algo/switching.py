"""What one quantized layer alone does to a model's predictions: the loss an allocation should add up.

Source: Hubara et al., AdaQuant, arXiv:2006.10518, section 3.4: the loss of an option is measured by switching
one layer at a time; differs in: the loss is the divergence from the full-precision model, which needs no
labels.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from algo import evaluation
from algo.checkpoint import Checkpoint

LEAST = 1e-6  #: nats per token; a smaller divergence is noise, and is counted as this (AdaQuant's floor)


class Switch:
    """A model whose layers are replaced one at a time, and its text."""

    def __init__(self, checkpoint: Checkpoint, text: evaluation.Tokens, windows: int) -> None:
        """``windows``: of the model's context each, from the text's start."""
        self._checkpoint = checkpoint
        self._text = replace(text, ids=text.ids[: windows * checkpoint.context])
        self._reference = evaluation.remember(checkpoint.model, self._text, checkpoint.context)

    def __call__(self, name: str, stored: NDArray[np.float64]) -> float:
        """Mean divergence [nats/token] with the layer ``name`` holding ``stored``; the model stays as it was.

        Raises ValueError if there is no such linear layer, or it has another shape.
        """
        layer = dict(self._checkpoint.model.named_modules()).get(name)
        if not isinstance(layer, torch.nn.Linear) or tuple(layer.weight.shape) != stored.shape:
            shape = list(stored.shape)
            raise ValueError(f"layer must be a linear layer of the model with shape {shape}, not {name!r}")
        kept = layer.weight.detach().clone()
        try:
            with torch.no_grad():
                layer.weight.copy_(torch.from_numpy(stored))
            score = evaluation.score(
                self._checkpoint.model, self._text, self._checkpoint.context, reference=self._reference
            )
        finally:
            with torch.no_grad():
                layer.weight.copy_(kept)
        return max(LEAST, score.kl or 0.0)
