"""The calibration tokens on their way through the decoder blocks: hidden states, and what else blocks get."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from algo.block_source import BlockSource, Layers
from algo.calibration import calibrate
from algo.formats.quantized import Calibration

Call = tuple[tuple[Any, ...], dict[str, Any]]  #: positional and named arguments besides the hidden states

SEQUENCES = 8  #: that run side by side, at most
_TOKENS = 2048  #: that run side by side, at most, unless one sequence is longer


class States(Protocol):
    """Hidden states of all sequences at one place of the model, float32 [sequences, length, width]."""

    def read(self, first: int, last: int) -> NDArray[np.float32]:
        """Those of some sequences, a copy."""

    def write(self, first: int, part: NDArray[np.float32]) -> None:
        """Put those of some sequences, from ``first`` on."""


class MemoryStates:
    """Hidden states in memory."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.array = np.zeros(shape, np.float32)

    def read(self, first: int, last: int) -> NDArray[np.float32]:
        """Those of some sequences, copied."""
        return self.array[first:last].copy()

    def write(self, first: int, part: NDArray[np.float32]) -> None:
        """Put those of some sequences."""
        self.array[first : first + len(part)] = part


class FileStates:
    """Hidden states in a file of raw float32; only the sequences at hand are mapped.

    Raises ValueError if the file exists and is of another size.
    """

    def __init__(self, path: Path, shape: tuple[int, int, int]) -> None:
        self.path, self.shape = path, shape
        size = 4 * shape[0] * shape[1] * shape[2]
        if not path.exists():
            with path.open("wb") as file:
                file.truncate(size)
        elif path.stat().st_size != size:
            raise ValueError(f"{path} must be {size} bytes for {list(shape)}, not {path.stat().st_size}")

    def read(self, first: int, last: int) -> NDArray[np.float32]:
        """Those of some sequences, copied."""
        return np.array(self._mapped(first, last - first, "r"))

    def write(self, first: int, part: NDArray[np.float32]) -> None:
        """Put those of some sequences."""
        mapped = self._mapped(first, len(part), "r+")
        mapped[:] = part
        mapped.flush()

    def _mapped(self, first: int, count: int, mode: Any) -> np.memmap[Any, np.dtype[np.float32]]:
        _, length, width = self.shape
        offset = 4 * first * length * width
        return np.memmap(self.path, np.float32, mode, offset, (count, length, width))


class Feed:
    """Calibration tokens [sequences, length] at the entrance of a block, and what takes them through it."""

    def __init__(
        self, ids: torch.Tensor, width: int, device: str, place: Callable[[int], States] | None = None
    ) -> None:
        self.ids, self.device = ids, device
        self.shape = (*ids.shape, width)
        self._place = place
        self._states: States | None = None
        self._calls: list[Sequence[Call]] = []  #: by batch, then block

    @property
    def sequences(self) -> int:
        """Calibration sequences."""
        return len(self.ids)

    def enter(self, source: BlockSource, start: int = 0) -> None:
        """Record what the blocks are called with, in one pass without them, and stand before block ``start``.

        Before the first block that takes the tokens there, before another its states must be in their place.
        Positions and masks may differ by block and by token; they must not depend on a block's weights.
        """
        self._states = self._at(start)
        self._calls = []
        with torch.no_grad(), source.backbone() as (backbone, blocks):
            for first, last in self._batches():
                calls, state = _recorded(backbone, blocks, self.ids[first:last])
                if start == 0:
                    self._states.write(first, state.float().cpu().numpy())
                known = self._calls[-1] if self._calls else None
                # One copy for all batches of a length: masks are as large as the hidden states.
                self._calls.append(known if known is not None and _same(known, calls) else calls)

    def calibrations(
        self, index: int, block: Any, layers: Layers, rotations: Mapping[str, int] | None = None
    ) -> dict[str, Calibration]:
        """Calibration of a block's layers by name, from the block as it is now.

        Parameters: rotations, blocks of the layers whose inputs are rotated first, by name.
        """
        return self._observed(layers, lambda: _exhaust(self._outputs(index, block)), rotations)

    def advance(self, index: int, block: Any) -> None:
        """Take the states through a block, to the entrance of the next."""
        following = self._at(index + 1)
        for (first, _), output in zip(self._batches(), self._outputs(index, block), strict=True):
            following.write(first, output.cpu().numpy())
        self._states = following

    def calibrations_on_the_way(self, index: int, block: Any, layers: Layers) -> dict[str, Calibration]:
        """What `calibrations` and `advance` do, in one run of the block."""
        return self._observed(layers, lambda: self.advance(index, block))

    def _observed(
        self, layers: Layers, forward: Callable[[], None], rotations: Mapping[str, int] | None = None
    ) -> dict[str, Calibration]:
        if layers:
            return calibrate(layers, forward, self.sequences, rotations)
        forward()
        return {}

    def _at(self, index: int) -> States:
        if self._place is not None:
            return self._place(index)
        # In memory one array is enough: a batch is read whole before it is written.
        return self._states or MemoryStates(self.shape)

    def _outputs(self, index: int, block: Any) -> Iterator[torch.Tensor]:
        if self._states is None:
            raise RuntimeError("tokens must have entered before they pass a block")
        for (first, last), calls in zip(self._batches(), self._calls, strict=True):
            args, kwargs = _moved(calls[index], self.device)
            state = torch.from_numpy(self._states.read(first, last)).to(self.device)
            output = block(state, *args, **kwargs)
            yield output[0] if isinstance(output, tuple) else output

    def _batches(self) -> Iterator[tuple[int, int]]:
        """First and last (exclusive) sequence of each batch."""
        size = max(1, min(SEQUENCES, _TOKENS // self.shape[1]))
        for first in range(0, self.sequences, size):
            yield first, min(first + size, self.sequences)


def checked_ids(model: Any, calibration_ids: ArrayLike) -> torch.Tensor:
    """Calibration tokens as int64 [sequences, length].

    Raises ValueError if they are no integers, of another number of axes, or beyond the model's vocabulary.
    """
    ids = np.asarray(calibration_ids)
    if ids.ndim != 2 or ids.dtype.kind not in "iu" or ids.size == 0:
        raise ValueError(
            f"calibration_ids must be integers [sequences, length], not {ids.dtype} {list(ids.shape)}"
        )
    entries = model.get_input_embeddings().num_embeddings
    for stray in chain(ids[ids < 0][:1], ids[ids >= entries][:1]):
        raise ValueError(f"calibration_ids must lie in [0, {entries - 1}], not {int(stray)}")
    return torch.from_numpy(ids.astype(np.int64))


def _recorded(
    backbone: Any, blocks: Sequence[torch.nn.Module], ids: torch.Tensor
) -> tuple[list[Call], torch.Tensor]:
    """What each block is called with, and the first block's input."""
    calls: list[Call] = []
    states: list[torch.Tensor] = []
    with _standing_in(blocks, calls, states):
        # Without a cache: a block runs more than once, and each run would lengthen it.
        backbone(ids, use_cache=False)
    if len(calls) != len(blocks):
        raise ValueError(f"model must call each of its {len(blocks)} blocks once, not {len(calls)} in all")
    return calls, states[0]


@contextmanager
def _standing_in(
    blocks: Sequence[torch.nn.Module], calls: list[Call], states: list[torch.Tensor]
) -> Iterator[None]:
    """Blocks that note what they are called with and pass the hidden states on as they are."""

    def stand_in(*args: Any, **kwargs: Any) -> torch.Tensor:
        named = dict(kwargs)
        state: torch.Tensor = args[0] if args else named.pop("hidden_states")
        states.append(state)
        calls.append((args[1:], named))
        return state

    # The block itself stays in place: models read attributes of theirs, such as the kind of attention.
    for block in blocks:
        block.__dict__["forward"] = stand_in
    try:
        yield
    finally:
        for block in blocks:
            del block.__dict__["forward"]


def _same(one: Any, other: Any) -> bool:
    """Whether two recorded values are equal to the last bit."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        return one.shape == other.shape and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(_same(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    return isinstance(one, str | int | float | bool) and one == other


def _moved(value: Any, device: str) -> Any:
    """Recorded arguments with their tensors on a device."""
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, tuple | list):
        return type(value)(_moved(item, device) for item in value)
    if isinstance(value, dict):
        return {key: _moved(item, device) for key, item in value.items()}
    return value


def _exhaust(outputs: Iterator[torch.Tensor]) -> None:
    for _ in outputs:
        pass
