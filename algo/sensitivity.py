"""What each layer of a model would lose with each of several options, and how much each layer matters.

One pass over the calibration tokens, decoder block after decoder block, in full precision throughout: a layer
is measured alone, whatever the others will be. The Hessians of one block are held at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from algo.allocation import importance
from algo.block_source import BlockSource, Layers, MemoryBlocks
from algo.checkpoint import Checkpoint
from algo.driver import Progress, hidden_width
from algo.feed import Feed, checked_ids
from algo.formats.quantized import Calibration, Quantized
from algo.plan import Choice

_CLUSTERED_TOKENS = 4096  #: output vectors of a layer that are clustered, at most; evenly spaced


@dataclass(frozen=True, kw_only=True)
class OptionResult:
    """One layer with one option."""

    #: ``tr(D H D^T)``, D = W - Q: twice the squared output error, a mean over sequences; or the caller's own
    loss: float
    bits: int  #: stored, all that the decoder needs
    cycles: int | None  #: as the caller counts them; None without a count


@dataclass(frozen=True, kw_only=True)
class LayerSensitivity:
    """One linear layer: every option's result, and the scores of `algo.allocation.importance`."""

    weights: int  #: rows times columns
    block: int  #: index of its decoder block
    options: tuple[OptionResult, ...]  #: in the order the options were given
    lim: float  #: of its block: all layers of a block share it; larger: matters more
    zd: float  #: larger: matters less
    luq: float | None  #: entropy of its outputs' clusters [bits], larger: matters more; None if not asked for


def measure(
    model: Checkpoint | torch.nn.Module | BlockSource,
    options: Sequence[Choice],
    calibration_ids: ArrayLike,
    *,
    cycles: Callable[[Quantized], int] | None = None,
    loss: Callable[[str, NDArray[np.float64]], float] | None = None,
    clusters: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress | None = None,
) -> dict[str, LayerSensitivity]:
    """Measure every linear layer inside the decoder blocks of a model, which stays as it is.

    Parameters: model, a checkpoint, its float32 model, or the blocks of one that is never held whole;
    options, tried on every layer; calibration_ids, int [sequences, length]; cycles, what a quantized layer
    takes on the caller's hardware; loss, of a layer holding other weights, None for `OptionResult.loss`;
    clusters, K of the LUQ entropy, None leaves it out; seed, of its k-means;
    device, torch's name of where blocks run; progress, called after every layer.
    Returns the layers by name, in model order.
    Raises ValueError if there is no option, or the tokens do not fit the model or are fewer than clusters.
    """
    if not options:
        raise ValueError("options must hold at least one choice, not none")
    for option in options:
        if option.rotate is not None:
            raise ValueError(f"options must be without rotation, not {option.rotate!r} of {option.method}")
    whole = model.model if isinstance(model, Checkpoint) else model
    source = MemoryBlocks(whole, device) if isinstance(whole, torch.nn.Module) else whole
    ids = checked_ids(source.model, calibration_ids)
    every = None if clusters is None else -(-ids.numel() // _CLUSTERED_TOKENS)
    total = sum(map(len, source.names))
    found: dict[str, LayerSensitivity] = {}
    training = source.model.training
    source.model.eval()
    try:
        with torch.no_grad():
            feed = Feed(ids, hidden_width(source.model), device)
            feed.enter(source)
            for index in range(len(source.names)):
                with source.block(index) as (block, layers):
                    seen = _look(feed, index, block, layers, every)
                    for name, layer in layers:
                        weight = layer.weight.detach().double().cpu().numpy()
                        found[name] = LayerSensitivity(
                            weights=weight.size,
                            block=index,
                            options=tuple(
                                _tried(name, o, weight, seen.calibrations[name], cycles, loss)
                                for o in options
                            ),
                            lim=seen.lim,
                            zd=importance.outlier_share(weight),
                            luq=_entropy(seen, name, clusters, seed),
                        )
                        if progress is not None:
                            progress(len(found), total, name)
    finally:
        source.model.train(training)
    return found


def _tried(
    name: str,
    option: Choice,
    weight: NDArray[np.float64],
    calibration: Calibration,
    cycles: Callable[[Quantized], int] | None,
    loss: Callable[[str, NDArray[np.float64]], float] | None,
) -> OptionResult:
    quantized: Quantized = option.module.quantize(weight, calibration, option.config)
    stored = quantized.dequantize()
    lost = weight - stored
    # A sum of squares: what rounding leaves below 0 is 0.
    output = max(0.0, float(np.sum((lost @ calibration.hessian) * lost)))
    return OptionResult(
        loss=output if loss is None else loss(name, stored),
        bits=8 * quantized.stored_bytes(),
        cycles=None if cycles is None else cycles(quantized),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Seen:
    """What the calibration tokens show of one block."""

    calibrations: dict[str, Calibration]
    lim: float
    outputs: dict[str, NDArray[np.float64]]  #: [tokens, rows] by layer; empty if not asked for


def _entropy(seen: _Seen, name: str, clusters: int | None, seed: int) -> float | None:
    return None if clusters is None else importance.cluster_entropy(seen.outputs[name], clusters, seed)


def _look(feed: Feed, index: int, block: torch.nn.Module, layers: Layers, every: int | None) -> _Seen:
    """Take all tokens through a block once, and see.

    Parameters: every, one in so many of a layer's outputs is kept; None: none.
    """
    watch = _Watch(every or 0)
    handles = [block.register_forward_hook(watch.block)]
    if every is not None:
        handles += [layer.register_forward_hook(watch.layer(name)) for name, layer in layers]
    try:
        calibrations = feed.calibrations_on_the_way(index, block, layers)
    finally:
        for handle in handles:
            handle.remove()
    return _Seen(
        calibrations=calibrations,
        lim=watch.similar / watch.tokens,
        outputs={name: np.concatenate(parts) for name, parts in watch.outputs.items()},
    )


@dataclass
class _Watch:
    """Hooks that see a block's input and output, and its layers' outputs."""

    every: int
    similar: float = 0.0  #: sum of LIM over tokens
    tokens: int = 0
    outputs: dict[str, list[NDArray[np.float64]]] = field(default_factory=dict)

    def block(self, block: Any, args: tuple[Any, ...], output: Any) -> None:
        before, after = _vectors(args[0]), _vectors(output[0] if isinstance(output, tuple) else output)
        self.similar += len(before) * importance.modification(before, after)
        self.tokens += len(before)

    def layer(self, name: str) -> Callable[[Any, Any, torch.Tensor], None]:
        def keep(layer: Any, args: Any, output: torch.Tensor) -> None:
            self.outputs.setdefault(name, []).append(_vectors(output)[:: self.every])

        return keep


def _vectors(state: torch.Tensor) -> NDArray[np.float64]:
    """Float64 [tokens, width]."""
    return state.detach().reshape(-1, state.shape[-1]).double().cpu().numpy()
