"""A whole model through one method, or a plan of several, decoder block after decoder block.

A block's inputs come from the blocks before it as they are already quantized; its Hessians from the block as
it still is. All its layers are quantized from that one pass, then it runs again to make the next's inputs.

Source: the sequential scheme of Frantar et al., GPTQ, arXiv:2210.17323, as in the released BiLLM; differs in:
several sequences run side by side, which float32 sums may notice in their last bits.
"""

from __future__ import annotations

import copy
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from algo.bitplane import family
from algo.bitplane.hadamard import check_block, rotated_weights
from algo.block_source import BlockSource, Layers, MemoryBlocks, decoder_blocks
from algo.checkpoint import Checkpoint
from algo.errors import output_error_by_hessian, weight_error
from algo.feed import Feed, checked_ids
from algo.formats.quantized import Calibration, Quantized
from algo.plan import Choice, Plan, check_layers

__all__ = ["Allocating", "LayerResult", "Layers", "Progress", "QuantizedModel", "decoder_blocks"]
__all__ += ["allocated", "block_facts", "choices", "quantize_blocks", "quantize_model"]

Progress = Callable[[int, int, str], None]  #: called with (layers done, layers in all, the layer's name)
Weights = Mapping[str, tuple[NDArray[np.float64], Calibration]]  #: weight and calibration by layer


class Allocating(Protocol):
    """A method whose configuration is shared out over the decoder blocks (N:M by outliers, for instance).

    A module of `algo.methods` that has these is asked before the first block is quantized, where its
    configuration wants it; in a plan each layer's configuration stands as it is.
    """

    def wants_allocation(self, config: Any) -> bool:
        """Whether ``config`` is to be shared out."""

    def block_fact(self, layers: Weights, config: Any) -> float:
        """What sharing out needs to know of one decoder block.

        Parameters: layers, weight float64 [rows, columns] and calibration of each of its layers, all of the
        full-precision model; a weight is made anew each time it is asked for.
        """

    def allocate(self, block_facts: Sequence[float], config: Any) -> Sequence[Any]:
        """One configuration for each decoder block, from the facts of all, in order."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerResult:
    """One linear layer quantized; errors are those of the stored matrix, all rounding included."""

    quantized: Quantized
    choice: Choice
    weight_error: float  #: share of ``||W||**2``
    output_error: float | None  #: share of the output's energy on the calibration tokens; None without any
    seconds: float  #: of the method alone
    source: str  #: sha256 of the float32 weight it was made from


@dataclass(frozen=True, kw_only=True, eq=False)
class QuantizedModel:
    """All layers' results by name, in model order, and the model that computes with them."""

    layers: Mapping[str, LayerResult]
    model: Any  #: a copy of the source, float32, its linear layers holding the dequantized weights


def quantize_model(
    checkpoint: Checkpoint | torch.nn.Module,
    method: str | Plan,
    config: Any = None,
    calibration_ids: ArrayLike | None = None,
    progress: Progress | None = None,
    *,
    device: str = "cpu",
    rotate: int | None = None,
) -> QuantizedModel:
    """Quantize every linear layer inside the decoder blocks of a model in memory, which stays as it is.

    Parameters: checkpoint, or its transformers model; method, a name of the family ``algo.methods``, or a
    plan that names one for each layer; config, of that method, None for its defaults; calibration_ids, int
    [sequences, length], may be None where the method needs none, and then no output error is measured;
    device, torch's name of where blocks run; rotate, columns of a block that is rotated before the method
    sees it (`algo.rotation`), of one method for all.
    Raises: ValueError if the method is unknown or lacks what it needs, a plan names other layers than the
    model has, or the tokens do not fit the model.
    """
    given = checkpoint.model if isinstance(checkpoint, Checkpoint) else checkpoint
    one = _choice(method, config, rotate)
    model = copy.deepcopy(given).float().cpu().eval()
    source = MemoryBlocks(model, device)
    ids = None if calibration_ids is None else checked_ids(model, calibration_ids)
    width = 0 if ids is None else hidden_width(model)

    def feed() -> Feed | None:
        return None if ids is None else Feed(ids, width, device)

    configs = None
    if isinstance(one, Choice) and wants_allocation(one):
        facts: list[float] = []
        block_facts(source, one, _given(feed(), one), lambda index, fact: facts.append(fact))
        configs = allocated(one, facts)
    results: dict[str, LayerResult] = {}
    quantize_blocks(
        source,
        choices(source.names, one, configs),
        feed(),
        lambda index, layers: results.update(layers),
        progress=progress,
    )
    return QuantizedModel(layers=results, model=model)


def hidden_width(model: Any) -> int:
    """Width of the hidden states between a model's blocks."""
    return int(model.config.get_text_config().hidden_size)


def _choice(method: str | Plan, config: Any, rotate: int | None) -> Choice | Plan:
    if isinstance(method, Plan):
        for name, given in (("config", config), ("rotate", rotate)):
            if given is not None:
                raise ValueError(f"{name} must be left out with a plan, not {given!r}")
        return method
    module = family.load("algo.methods", method)
    return Choice(method=method, config=module.Config() if config is None else config, rotate=rotate)


def choices(
    names: Sequence[Sequence[str]], one: Choice | Plan, configs: Sequence[Any] | None = None
) -> dict[str, Choice]:
    """The choice of each layer, in model order.

    Parameters: names, of the layers by block; one choice for all, or a plan; configs, of one's method, by
    block, in place of its own.
    Raises ValueError if a plan does not name exactly these layers.
    """
    if isinstance(one, Plan):
        check_layers(one, [name for block in names for name in block])
        return {name: one.layers[name] for block in names for name in block}
    by_block = [one.config] * len(names) if configs is None else configs
    return {
        name: Choice(method=one.method, config=config, rotate=one.rotate)
        for block, config in zip(names, by_block, strict=True)
        for name in block
    }


def wants_allocation(one: Choice) -> bool:
    """Whether a choice's configuration is to be shared out over the blocks; see `Allocating`.

    Raises ValueError if it is, and layers are rotated: what is known of a block is of unrotated weights.
    """
    wanted = hasattr(one.module, "allocate") and bool(one.module.wants_allocation(one.config))
    if wanted and one.rotate is not None:
        raise ValueError(
            f"rotate must be left out where {one.method} is shared out over blocks, not {one.rotate!r}"
        )
    return wanted


def allocated(one: Choice, facts: Sequence[float]) -> Sequence[Any]:
    """The method's configuration for each block.

    Raises ValueError if the method gives another number of them.
    """
    configs: Sequence[Any] = one.module.allocate(facts, one.config)
    if len(configs) != len(facts):
        raise ValueError(f"allocate of {one.method} must give {len(facts)} configs, not {len(configs)}")
    return configs


def block_facts(
    source: BlockSource,
    one: Choice,
    feed: Feed,
    sink: Callable[[int, float], None],
    *,
    start: int = 0,
    progress: Progress | None = None,
) -> None:
    """One pass over the full-precision model, for what the method wants to know of each block.

    Parameters: as `quantize_blocks`; sink, called with each block's index and fact.
    """
    total, done = sum(map(len, source.names)), sum(map(len, source.names[:start]))
    with torch.no_grad():
        feed.enter(source, start)
        for index in range(start, len(source.names)):
            with source.block(index) as (block, layers):
                last = index + 1 == len(source.names)
                observe = feed.calibrations if last else feed.calibrations_on_the_way
                known = observe(index, block, layers)
                fact = float(one.module.block_fact(_Weights(layers, known), one.config))
            sink(index, fact)
            for name in source.names[index]:
                done += 1
                if progress is not None:
                    progress(done, total, name)


class _Weights(Mapping[str, tuple[NDArray[np.float64], Calibration]]):
    """Weights and calibrations of a block's layers; a weight is float64 only while it is looked at."""

    def __init__(self, layers: Layers, known: Mapping[str, Calibration]) -> None:
        self._layers, self._known = dict(layers), known

    def __getitem__(self, name: str) -> tuple[NDArray[np.float64], Calibration]:
        return _weight(self._layers[name]), self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)


def quantize_blocks(
    source: BlockSource,
    chosen: Mapping[str, Choice],
    feed: Feed | None,
    sink: Callable[[int, dict[str, LayerResult]], None],
    *,
    start: int = 0,
    progress: Progress | None = None,
) -> None:
    """Quantize block after block; one block's weights and Hessians are held at a time.

    Parameters: source of the blocks; chosen, of each layer; feed, the calibration tokens, None where no
    method needs them; sink, called with a block's index and results when it and the hidden states behind it
    are done; start, the first block, the ones before it being done.
    Raises: ValueError if a method needs calibration and there is none.
    """
    for choice in chosen.values():
        if feed is None and choice.module.needs_calibration(choice.config):
            raise ValueError(f"calibration_ids must be given for {choice.method}, not None")
    total, done = len(chosen), sum(map(len, source.names[:start]))
    with torch.no_grad():
        if feed is not None and start < len(source.names):
            feed.enter(source, start)
        for index in range(start, len(source.names)):
            results: dict[str, LayerResult] = {}
            with source.block(index) as (block, layers):
                rotations = _rotations(chosen, layers)
                known = {} if feed is None else feed.calibrations(index, block, layers, rotations)
                for name, layer in layers:
                    # Let go at once: of a wide layer it is larger than the layer.
                    results[name] = _replace(chosen[name], layer, known.pop(name, None))
                    done += 1
                    if progress is not None:
                        progress(done, total, name)
                if feed is not None and index + 1 < len(source.names):
                    feed.advance(index, block)
            sink(index, results)


def _weight(layer: torch.nn.Linear) -> NDArray[np.float64]:
    return layer.weight.detach().double().cpu().numpy()


def _replace(choice: Choice, layer: torch.nn.Linear, calibration: Calibration | None) -> LayerResult:
    """Quantize one layer and put the dequantized weights in its place."""
    weight = _weight(layer)
    source = hashlib.sha256(np.ascontiguousarray(weight, np.float32).tobytes()).hexdigest()
    start = time.perf_counter()
    quantized = choice.quantize(weight, calibration)
    seconds = time.perf_counter() - start
    stored = quantized.dequantize()
    layer.weight.copy_(torch.from_numpy(stored))
    return LayerResult(
        quantized=quantized,
        choice=choice,
        weight_error=weight_error(weight, stored),
        output_error=None if calibration is None else _output_error(choice, calibration, weight, stored),
        seconds=seconds,
        source=source,
    )


def _output_error(
    choice: Choice, calibration: Calibration, weight: NDArray[np.float64], stored: NDArray[np.float64]
) -> float:
    """In the domain of the calibration, which a rotation leaves as it is on both sides."""
    if choice.rotate is not None:
        weight, stored = (rotated_weights(w, choice.rotate) for w in (weight, stored))
    return output_error_by_hessian(calibration.hessian, weight, stored)


def _rotations(chosen: Mapping[str, Choice], layers: Layers) -> dict[str, int]:
    """Blocks of layers that are rotated. Raises ValueError naming one whose columns they do not divide."""
    found = {}
    for name, layer in layers:
        block = chosen[name].rotate
        if block is None:
            continue
        try:
            check_block(layer.in_features, block)
        except ValueError as error:
            raise ValueError(f"layer {name}: {error}") from None
        found[name] = block
    return found


def _given(feed: Feed | None, one: Choice) -> Feed:
    if feed is None:
        raise ValueError(f"calibration_ids must be given for {one.method}, not None")
    return feed
