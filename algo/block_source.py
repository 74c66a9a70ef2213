"""Where a model's decoder blocks come from: a model in memory, or a checkpoint's shards, one at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import torch

from algo import skeleton
from algo.checkpoint import Checkpoint, linear_layers, listed, weight_files
from algo.tensor_files import TensorFiles

Layers = list[tuple[str, torch.nn.Linear]]


class BlockSource(Protocol):
    """A model whose decoder blocks are had one after the other, in float32, in eval mode."""

    @property
    def model(self) -> Any:
        """The causal language model; its weights may be on the meta device."""

    @property
    def names(self) -> Sequence[Sequence[str]]:
        """Names of the layers that get quantized, by block."""

    def backbone(self) -> AbstractContextManager[tuple[Any, list[torch.nn.Module]]]:
        """Context of the model without its head, and its blocks, to be run with stand-ins for the blocks.

        Everything outside the blocks is real meanwhile.
        """

    def block(self, index: int) -> AbstractContextManager[tuple[torch.nn.Module, Layers]]:
        """Context of a block and its layers to quantize, (module, Layers), with its weights, on the device.

        What is changed of it is kept if the source is a model in memory, and gone if it is a checkpoint.
        """


def decoder_blocks(model: torch.nn.Module) -> list[tuple[torch.nn.Module, Layers]]:
    """Decoder blocks of a model in order, each with the (name, layer) pairs that get quantized.

    The blocks are the members of the first ModuleList that holds such layers.

    Raises ValueError if a layer to be quantized stands in no block of that list.
    """
    return _named_blocks(model)[1]


def _named_blocks(model: torch.nn.Module) -> tuple[str, list[tuple[torch.nn.Module, Layers]]]:
    """Name of the list of blocks, and what `decoder_blocks` returns."""
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
    return name, blocks


class MemoryBlocks:
    """The blocks of a model in memory, which is changed."""

    def __init__(self, model: Any, device: str = "cpu") -> None:
        self.model = model
        self._blocks = decoder_blocks(model)
        self._device = device

    @property
    def names(self) -> Sequence[Sequence[str]]:
        """Names of the layers that get quantized, by block."""
        return [[name for name, _ in layers] for _, layers in self._blocks]

    @contextmanager
    def backbone(self) -> Iterator[tuple[Any, list[torch.nn.Module]]]:
        """The model without its head, and its blocks."""
        yield getattr(self.model, "base_model", self.model), [block for block, _ in self._blocks]

    @contextmanager
    def block(self, index: int) -> Iterator[tuple[torch.nn.Module, Layers]]:
        """A block and its layers to quantize."""
        block, layers = self._blocks[index]
        block.to(self._device)
        yield block, layers
        block.to("cpu")


class ShardedBlocks:
    """The blocks of a checkpoint's `outline`, each read from the shards when it is wanted, and let go.

    Raises ValueError if the shards lack a tensor of the decoder, or hold one of another shape.
    """

    def __init__(self, checkpoint: Checkpoint, device: str = "cpu") -> None:
        self.model = checkpoint.model
        self._directory = checkpoint.directory
        self._device = device
        self._list, self._blocks = _named_blocks(self.model)
        prefix = getattr(self.model, "base_model_prefix", "")
        self._files = TensorFiles.of(weight_files(checkpoint.directory), f"{prefix}." if prefix else "")
        base = self.model.base_model
        self._base = next((f"{n}." if n else "" for n, m in self.model.named_modules() if m is base), "")
        self._check([*self._outside(), *(n for at in range(len(self._blocks)) for n in self._inside(at))])

    @property
    def names(self) -> Sequence[Sequence[str]]:
        """Names of the layers that get quantized, by block."""
        return [[name for name, _ in layers] for _, layers in self._blocks]

    def stored_name(self, name: str) -> str:
        """Name in its file of one of the model's tensors."""
        return self._files.find(name) or name

    @contextmanager
    def backbone(self) -> Iterator[tuple[Any, list[torch.nn.Module]]]:
        """The model without its head, and its blocks; what is outside them is read for the while."""
        names = self._outside()
        base = self.model.base_model
        with self._filled(base, {name.removeprefix(self._base): name for name in names}):
            blocks = [block for block, _ in self._blocks]
            inside = {id(tensor) for block in blocks for tensor in _tensors(block).values()}
            self._refuse_unfilled([n for n, t in _tensors(base).items() if t.is_meta and id(t) not in inside])
            yield base, blocks

    @contextmanager
    def block(self, index: int) -> Iterator[tuple[torch.nn.Module, Layers]]:
        """A block and its layers to quantize; changes to it are gone afterwards."""
        block, layers = self._blocks[index]
        start = f"{self._list}.{index}."
        with self._filled(block, {name.removeprefix(start): name for name in self._inside(index)}):
            self._refuse_unfilled(skeleton.without_storage(block))
            block.to(self._device)
            yield block, layers
            block.to("cpu")

    @contextmanager
    def _filled(self, module: torch.nn.Module, names: dict[str, str]) -> Iterator[None]:
        """A module with tensors of the checkpoint, given by their names in the module."""
        skeleton.fill(module, {own: self._files.read(name) for own, name in names.items()})
        try:
            yield
        finally:
            skeleton.empty(module, list(names))

    def _outside(self) -> list[str]:
        """Names of the stored tensors of the backbone outside its blocks."""
        names = [self._base + name for name in self.model.base_model.state_dict()]
        return [name for name in names if not name.startswith(f"{self._list}.")]

    def _inside(self, index: int) -> list[str]:
        """Names of the stored tensors of a block."""
        return [f"{self._list}.{index}.{name}" for name in self._blocks[index][0].state_dict()]

    def _check(self, names: Sequence[str]) -> None:
        own = self.model.state_dict()
        missing = [name for name in names if self._files.find(name) is None]
        if missing:
            kind = type(self.model).__name__
            raise ValueError(f"{self._directory} must hold all of {kind}, and lacks {listed(missing)}")
        for name in names:
            found, wanted = self._files.shape(name), list(own[name].shape)
            if found != wanted:
                raise ValueError(
                    f"{self._directory} must load as a causal language model, and does not: "
                    f"tensor {name} has shape {found}, not {wanted}"
                )

    def _refuse_unfilled(self, names: Sequence[str]) -> None:
        """A tensor that neither the checkpoint holds nor the constructors compute."""
        for name in names:
            raise ValueError(f"{self._directory} must load shard by shard, and tensor {name} is in no shard")


def _tensors(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return dict([*module.named_parameters(), *module.named_buffers()])
