"""Calibration windows of a text: all in order, or some at random places."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from planeforge import texts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from algo.checkpoint import Checkpoint


@dataclass(frozen=True, kw_only=True)
class Windows:
    """Calibration tokens, and what they were cut from."""

    ids: NDArray[np.int64]  #: [sequences, length]
    text: str  #: sha256 of the text in UTF-8

    def described(self) -> dict[str, Any]:
        """What a manifest says of them."""
        return {
            "text_sha256": self.text,
            "tokens_sha256": hashlib.sha256(self.ids.tobytes()).hexdigest(),
            "sequences": int(self.ids.shape[0]),
            "length": int(self.ids.shape[1]),
        }


def cut(
    checkpoint: Checkpoint,
    calib: Path | None = None,
    sequences: int | None = None,
    length: int | None = None,
    seed: int = 0,
) -> Windows:
    """Windows of a text in a checkpoint's tokens.

    Parameters: calib, the text, None for the demo's; sequences, how many windows, at places drawn by
    ``seed``, None for all whole windows in order; length in tokens, None for the trained context.
    Raises ValueError if the length is beyond the context, or the text too short for one window.
    """
    import numpy as np

    from algo import evaluation

    size = checkpoint.context if length is None else length
    if not 1 <= size <= checkpoint.context:
        raise ValueError(f"length must be at least 1 and at most {checkpoint.context}, not {size!r}")
    if sequences is not None and sequences < 1:
        raise ValueError(f"sequences must be at least 1, not {sequences!r}")
    if seed < 0:
        raise ValueError(f"seed must be at least 0, not {seed!r}")
    text = texts.calibration(calib)
    tokens = evaluation.tokens(checkpoint, text).ids
    if len(tokens) < size:
        raise ValueError(f"calib must hold at least {size} tokens, not {len(tokens)}")
    if sequences is None:
        ids = tokens[: len(tokens) // size * size].reshape(-1, size)
    else:
        starts = np.random.default_rng(seed).integers(0, len(tokens) - size + 1, sequences)
        ids = np.stack([tokens[start : start + size] for start in starts])
    return Windows(ids=np.ascontiguousarray(ids, np.int64), text=hashlib.sha256(text.encode()).hexdigest())
