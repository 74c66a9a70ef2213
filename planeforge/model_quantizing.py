"""A whole model through a method: in memory for who goes on with it, or from shard to shard into a folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from planeforge import layer_records, settings
from planeforge.layer_records import rotation_of

if TYPE_CHECKING:
    from algo.bitplane.matrix import PackedMatrix
    from algo.bitplane.store import Provenance
    from algo.block_source import ShardedBlocks
    from algo.checkpoint import Checkpoint
    from algo.driver import LayerResult, Progress
    from algo.feed import Feed
    from algo.plan import Choice, Plan
    from planeforge.unfinished import Unfinished
    from planeforge.windows import Windows

Moved = Callable[[float, str], None]
DEVICES = ("cpu", "cuda", "auto")
_FACTS = 0.25  #: share of the work, an estimate: a pass without a search, before the configuration is shared


@dataclass(frozen=True, kw_only=True)
class QuantizedModel:
    """What the driver made of a checkpoint."""

    model: Any  #: transformers model with dequantized float32 weights
    layers: Mapping[str, Any]  #: `algo.driver.LayerResult` by layer
    provenance: Provenance

    @property
    def matrices(self) -> dict[str, PackedMatrix]:
        """Packed matrices, named as `algo.formats.stages` says."""
        from algo.formats import stages

        found: dict[str, PackedMatrix] = {}
        for name, layer in self.layers.items():
            found |= stages.named(name, layer.quantized)
        return found


@dataclass(frozen=True, kw_only=True)
class Request:
    """All that a packed model's bytes depend on, its checkpoint apart."""

    quantizer: Choice | Plan
    calib: Path | None = None
    sequences: int | None = None  #: calibration windows at random places; None: all in order
    length: int | None = None  #: of a window [tokens]; None: the trained context
    seed: int = 0  #: of those places
    device: str = "cpu"


def run(
    checkpoint: Checkpoint,
    method: str,
    format_name: str | None,
    given: Mapping[str, Any],
    calib: Path | None,
    progress: Moved = lambda share, doing: None,
    rotate: int | None = None,
) -> QuantizedModel:
    """Quantize every linear layer of the decoder blocks of a model in memory, which stays as it is.

    Parameters: rotate, columns of a block that is rotated first (`algo.rotation`), None for none.

    Raises ValueError for an unknown method, format or setting, or a calibration text too short for a window.
    """
    from algo import driver
    from algo.bitplane.store import Provenance
    from planeforge import windows

    config = settings.configure(settings.method(method), format_name, given)
    result = driver.quantize_model(
        checkpoint,
        method,
        config,
        windows.cut(checkpoint, calib).ids,
        progress=lambda done, total, layer: progress(done / total, layer),
        rotate=rotate,
    )
    return QuantizedModel(
        model=result.model,
        layers=result.layers,
        provenance=Provenance(
            method=method,
            config=asdict(config) | ({} if rotate is None else {"rotate": rotate}),
            sources={name: layer.source for name, layer in result.layers.items()},
            published_bits=totals(result.layers)["bits_per_weight_published"],
        ),
    )


def totals(layers: Mapping[str, LayerResult]) -> dict[str, Any]:
    """Bits and errors of all layers together; errors are means over weights."""
    return layer_records.totals({name: layer_records.record(name, made) for name, made in layers.items()})


def quantize(
    source: Path,
    request: Request,
    output: Path,
    *,
    restart: bool = False,
    progress: Moved = lambda share, doing: None,
) -> dict[str, Any]:
    """Quantize a Hugging Face directory into a packed model folder; returns the figures of the whole.

    One decoder block is held at a time. What a killed call has done is beside the output; the same call goes
    on from it and ends in the same bytes. ``restart`` discards it.

    Raises ValueError if the output is anything but new or a packed model, or there is unfinished work of
    another request.
    """
    from algo import checkpoint as door
    from algo.block_source import ShardedBlocks
    from algo.driver import choices
    from planeforge import packed_model, unfinished, windows

    packed_model.check_place(output)
    device = torch_device(request.device)
    began = time.perf_counter()
    progress(0.0, "reading the checkpoint")
    checkpoint = door.outline(source)
    blocks = ShardedBlocks(checkpoint, device)
    choices(blocks.names, request.quantizer)
    tokens = windows.cut(checkpoint, request.calib, request.sequences, request.length, request.seed)
    identity = _identity(checkpoint, request, device, tokens)
    with unfinished.begun(output, identity, restart) as work:
        if not work.moved:
            _Work(checkpoint, blocks, request, tokens, device, work).finish(identity, progress)
        manifest = _published(work, output)
    return {
        "method": manifest["method"],
        **manifest["totals"],
        "seconds": time.perf_counter() - began,
        "output": str(output),
    }


def torch_device(name: str) -> str:
    """Torch's name of a device; ``auto`` is cuda where torch sees one.

    Raises ValueError for an unknown name, or cuda where there is none.
    """
    import torch

    if name not in DEVICES:
        raise ValueError(f"device must be one of {', '.join(DEVICES)}, not {name!r}")
    seen = torch.cuda.is_available()
    if name == "cuda" and not seen:
        raise ValueError("device must be cpu or auto where torch sees no CUDA device, not 'cuda'")
    return "cuda" if seen and name != "cpu" else "cpu"


def _identity(checkpoint: Checkpoint, request: Request, device: str, tokens: Windows) -> dict[str, Any]:
    """All that the output's bytes depend on."""
    return {
        "checkpoint": checkpoint.sha256,
        "method": _described(request.quantizer),
        "calibration": tokens.described(),
        "seed": request.seed,
        "device": device,
        "versions": _versions(),
    }


def _described(quantizer: Choice | Plan) -> dict[str, Any]:
    from algo.plan import Choice

    if isinstance(quantizer, Choice):
        return {"method": quantizer.method, "config": asdict(quantizer.config) | rotation_of(quantizer)}
    layers = {name: _described(choice) for name, choice in quantizer.layers.items()}
    return {"plan": layers, "by": quantizer.by, "budget": quantizer.budget}


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    from planeforge import __version__

    others = ("numpy", "numba", "torch", "transformers", "safetensors")
    return {"planeforge": __version__, **{name: version(name) for name in others}}


def _published(work: Unfinished, output: Path) -> dict[str, Any]:
    from planeforge.packed import read_manifest

    if work.moved:
        # Killed between the last move and the tidying up.
        work.discard()
    else:
        work.publish()
    return read_manifest(output)


class _Work:
    """One request on its way through the blocks of a checkpoint."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        blocks: ShardedBlocks,
        request: Request,
        tokens: Windows,
        device: str,
        work: Unfinished,
    ) -> None:
        from algo.feed import checked_ids

        self.checkpoint, self.blocks, self.request, self.work = checkpoint, blocks, request, work
        self.device, self.tokens = device, tokens
        self.ids = checked_ids(checkpoint.model, tokens.ids)

    def finish(self, identity: Mapping[str, Any], progress: Moved) -> None:
        """Do all that is left to do, the move to its place apart."""
        from algo.driver import choices, quantize_blocks
        from planeforge import packed_model

        self._check()
        configs, past = self._configs(progress)
        quantize_blocks(
            self.blocks,
            choices(self.blocks.names, self.request.quantizer, configs),
            self._feed("states"),
            self._keep,
            start=self.work.blocks,
            progress=_shares(progress, past, 1.0),
        )
        progress(1.0, "writing the rest")
        records = self.work.layers
        replaced = {made["tensor"] for made in records.values()}
        packed_model.complete(
            self.work.out, self.checkpoint.directory, replaced, _manifest(identity, records)
        )

    def _feed(self, stage: str) -> Feed:
        from algo.driver import hidden_width
        from algo.feed import Feed, FileStates

        width = hidden_width(self.checkpoint.model)
        shape = (len(self.ids), self.ids.shape[1], width)
        return Feed(
            self.ids,
            width,
            self.device,
            lambda index: FileStates(self.work.states_file(stage, index), shape),
        )

    def _configs(self, progress: Moved) -> tuple[Any, float]:
        """Configuration by block where the method shares it out, and the share of the work behind us."""
        from algo import driver
        from algo.plan import Choice

        one = self.request.quantizer
        if not isinstance(one, Choice) or not driver.wants_allocation(one):
            return None, 0.0
        if len(self.work.facts) < len(self.blocks.names):
            driver.block_facts(
                self.blocks,
                one,
                self._feed("facts"),
                self.work.add_fact,
                start=len(self.work.facts),
                progress=_shares(progress, 0.0, _FACTS),
            )
        return driver.allocated(one, self.work.facts), _FACTS

    def _keep(self, index: int, layers: dict[str, LayerResult]) -> None:
        """Write a block's packed file, and then say that it is done."""
        from planeforge import packed_model

        name = packed_model.shard_name(index, len(self.blocks.names))
        if layers:
            packed_model.write_shard(self.work.out / name, layers, self.request.seed)
        records = {
            layer: {"file": name, "block": index, "tensor": self.blocks.stored_name(f"{layer}.weight")}
            | layer_records.record(layer, made)
            for layer, made in layers.items()
        }
        self.work.add_block(index, records)

    def _check(self) -> None:
        """That what the state of unfinished work counts on is there."""
        work, count = self.work, len(self.blocks.names)
        files = [work.out / made["file"] for made in work.layers.values()]
        if 0 < len(work.facts) < count:
            files.append(work.states_file("facts", len(work.facts)))
        if 0 < work.blocks < count:
            files.append(work.states_file("states", work.blocks))
        work.check(files)


def _shares(progress: Moved, low: float, high: float) -> Progress:
    """Layers done as a share of the whole work."""
    return lambda done, total, layer: progress(low + (high - low) * done / total, layer)


def _manifest(identity: Mapping[str, Any], records: Mapping[str, Any]) -> dict[str, Any]:
    """What the folder says of itself, the layers last."""
    method = identity["method"]
    planned = "plan" in method
    return {
        **identity,
        "method": "plan" if planned else method["method"],
        "config": {"by": method["by"], "budget": method["budget"]} if planned else method["config"],
        "totals": layer_records.totals(records),
        "layers": records,
    }
