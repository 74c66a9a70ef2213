"""A Hugging Face model without its weights: every large tensor on the meta device, every buffer real.

Buffers that no checkpoint holds (rotary frequencies) are what the constructors compute, on the CPU, as in a
model that is loaded whole. Nothing here runs code from a checkpoint or reaches the network.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class _NoStorage(TorchFunctionMode):
    """``torch.empty`` allocates nothing: so torch's layers make their weights, but nobody a value."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        if func is torch.empty:
            given["device"] = "meta"
        return func(*args, **given)


def build(directory: Path) -> Any:
    """The causal language model that a directory's config.json describes, in eval mode, float32.

    Raises what transformers raises for a config it cannot use.
    """
    import transformers

    config = transformers.AutoConfig.from_pretrained(
        directory, local_files_only=True, trust_remote_code=False
    )
    with _NoStorage():
        model = transformers.AutoModelForCausalLM.from_config(
            config, dtype=torch.float32, trust_remote_code=False
        )
    return model.eval().requires_grad_(False)


def fill(module: torch.nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    """Put ``tensors``, by name, in the places of a module's own; they are not copied.

    Raises ValueError if one has another shape.
    """
    own = module.state_dict()
    for name, tensor in tensors.items():
        if tensor.shape != own[name].shape:
            wanted, given = list(own[name].shape), list(tensor.shape)
            raise ValueError(f"tensor {name} must have shape {wanted}, not {given}")
    module.load_state_dict(tensors, strict=False, assign=True)
    module.requires_grad_(False)


def without_storage(module: torch.nn.Module) -> list[str]:
    """Names of a module's parameters and buffers that are on the meta device."""
    return [n for n, t in [*module.named_parameters(), *module.named_buffers()] if t.is_meta]


def empty(module: torch.nn.Module, names: list[str]) -> None:
    """Let go the storage of named tensors."""
    own = module.state_dict()
    fill(module, {name: own[name].to("meta") for name in names})
