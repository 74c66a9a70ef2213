"""A whole model through one method, decoder block after decoder block.

A block's inputs come from the blocks before it as they are already quantized; its Hessians from the block as
it still is. All its layers are quantized from that one pass, then it runs again to make the next's inputs.

Source: the sequential scheme of Frantar et al., GPTQ, arXiv:2210.17323, as in the released BiLLM; differs in:
several sequences run side by side, which float32 sums may notice in their last bits.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from algo.bitplane import family
from algo.calibration import calibrate
from algo.checkpoint import Checkpoint, linear_layers
from algo.errors import output_error_by_hessian, weight_error
from algo.formats.quantized import Calibration, Quantized

Layers = list[tuple[str, torch.nn.Linear]]
Call = tuple[tuple[Any, ...], dict[str, Any]]  #: positional and named arguments
Progress = Callable[[int, int, str], None]  #: called with (layers done, layers in all, the layer's name)

_SEQUENCES = 8  #: that run side by side


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerResult:
    """One linear layer quantized; errors are those of the stored matrix, all rounding included."""

    quantized: Quantized
    weight_error: float  #: share of ``||W||**2``
    output_error: float | None  #: share of the output's energy on the calibration tokens; None without any
    seconds: float  #: of the method alone


@dataclass(frozen=True, kw_only=True, eq=False)
class QuantizedModel:
    """All layers' results by name, in model order, and the model that computes with them."""

    layers: Mapping[str, LayerResult]
    model: Any  #: a copy of the source, float32, its linear layers holding the dequantized weights


def quantize_model(
    checkpoint: Checkpoint | torch.nn.Module,
    method: str,
    config: Any = None,
    calibration_ids: ArrayLike | None = None,
    progress: Progress | None = None,
) -> QuantizedModel:
    """Quantize every linear layer inside the decoder blocks of a model, which itself stays as it is.

    Parameters: checkpoint, or its transformers model; method, a name of the family ``algo.methods``; config,
    of that method, None for its defaults; calibration_ids, int [sequences, length], may be None where the
    method needs none, and then no output error is measured.
    Raises: ValueError if the method is unknown or lacks what it needs, or the tokens do not fit the model.
    """
    module = family.load("algo.methods", method)
    config = module.Config() if config is None else config
    if calibration_ids is None and module.needs_calibration(config):
        raise ValueError(f"calibration_ids must be given for {method}, not None")
    source = checkpoint.model if isinstance(checkpoint, Checkpoint) else checkpoint
    model = copy.deepcopy(source).float().eval()
    blocks = decoder_blocks(model)
    ids = None if calibration_ids is None else _checked_ids(model, calibration_ids)

    results: dict[str, LayerResult] = {}
    total = sum(len(layers) for _, layers in blocks)
    with torch.no_grad():
        feed = None if ids is None else _Feed(model, [block for block, _ in blocks], ids)
        for index, (_, layers) in enumerate(blocks):
            known = {} if feed is None else feed.calibrations(index, layers)
            for name, layer in layers:
                results[name] = _replace(module, config, layer, known.get(name))
                if progress is not None:
                    progress(len(results), total, name)
            if feed is not None:
                feed.advance(index)
    return QuantizedModel(layers=results, model=model)


def decoder_blocks(model: torch.nn.Module) -> list[tuple[torch.nn.Module, Layers]]:
    """Decoder blocks of a model in order, each with the (name, layer) pairs that get quantized.

    The blocks are the members of the first ModuleList that holds such layers.

    Raises ValueError if a layer to be quantized stands in no block of that list.
    """
    linears = linear_layers(model)
    lists = [(n, m) for n, m in model.named_modules() if isinstance(m, torch.nn.ModuleList)]
    name, members = next((n, m) for n, m in lists if any(layer.startswith(f"{n}.") for layer, _ in linears))
    blocks = [
        (block, [(n, layer) for n, layer in linears if n.startswith(f"{name}.{index}.")])
        for index, block in enumerate(members)
    ]
    inside = {n for _, layers in blocks for n, _ in layers}
    for stray in (n for n, _ in linears if n not in inside):
        raise ValueError(f"model must have one list of decoder blocks, {name}, not {stray} outside it")
    return blocks


def _replace(
    module: ModuleType, config: Any, layer: torch.nn.Linear, calibration: Calibration | None
) -> LayerResult:
    """Quantize one layer and put the dequantized weights in its place."""
    weight = layer.weight.detach().double().cpu().numpy()
    start = time.perf_counter()
    quantized: Quantized = module.quantize(weight, calibration, config)
    seconds = time.perf_counter() - start
    stored = quantized.dequantize()
    layer.weight.copy_(torch.from_numpy(stored))
    return LayerResult(
        quantized=quantized,
        weight_error=weight_error(weight, stored),
        output_error=(
            None if calibration is None else output_error_by_hessian(calibration.hessian, weight, stored)
        ),
        seconds=seconds,
    )


class _Feed:
    """The calibration tokens on their way through the blocks."""

    def __init__(self, model: Any, blocks: list[torch.nn.Module], ids: torch.Tensor) -> None:
        self.blocks = blocks
        self.sequences = len(ids)
        self.states: list[torch.Tensor] = []  #: of each batch, the input of the block to come
        self.rest: list[list[Call]] = []  #: what else a block is given, by batch and block
        for batch in torch.split(ids, _SEQUENCES):
            self._record(model, batch)

    def _record(self, model: Any, batch: torch.Tensor) -> None:
        """One pass of the untouched model. Positions and masks may differ by block, not by weight."""
        calls: list[Call] = []

        def note(block: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            state, *others = args
            if not calls:
                self.states.append(state)
            calls.append((tuple(others), kwargs))

        handles = [block.register_forward_pre_hook(note, with_kwargs=True) for block in self.blocks]
        try:
            # Without a cache: a block runs more than once here, and each run would lengthen it.
            model(batch, use_cache=False)
        finally:
            for handle in handles:
                handle.remove()
        self.rest.append(calls)

    def _outputs(self, index: int) -> Iterator[torch.Tensor]:
        for state, calls in zip(self.states, self.rest, strict=True):
            args, kwargs = calls[index]
            output = self.blocks[index](state, *args, **kwargs)
            yield output[0] if isinstance(output, tuple) else output

    def calibrations(self, index: int, layers: Layers) -> dict[str, Calibration]:
        """Calibration of a block's layers by name, from the block as it is now."""
        if not layers:
            return {}
        return calibrate(layers, lambda: _exhaust(self._outputs(index)), self.sequences)

    def advance(self, index: int) -> None:
        """Take the states through a block."""
        self.states = list(self._outputs(index))


def _exhaust(outputs: Iterator[torch.Tensor]) -> None:
    for _ in outputs:
        pass


def _checked_ids(model: Any, calibration_ids: ArrayLike) -> torch.Tensor:
    ids = np.asarray(calibration_ids)
    if ids.ndim != 2 or ids.dtype.kind not in "iu" or ids.size == 0:
        raise ValueError(
            f"calibration_ids must be integers [sequences, length], not {ids.dtype} {list(ids.shape)}"
        )
    entries = model.get_input_embeddings().num_embeddings
    for stray in chain(ids[ids < 0][:1], ids[ids >= entries][:1]):
        raise ValueError(f"calibration_ids must lie in [0, {entries - 1}], not {int(stray)}")
    return torch.from_numpy(ids.astype(np.int64))
