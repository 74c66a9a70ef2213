"""A study's model and texts, loaded once for all its rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from planeforge.study_config import Study

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from algo.checkpoint import Checkpoint
    from algo.evaluation import Tokens
    from planeforge.reference import Rounded


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A study's model and texts, loaded."""

    study: Study
    rounded: Rounded
    text: Tokens  #: the scored part of the held-out text
    calibration: NDArray[np.int64]  #: [sequences, context]

    @property
    def checkpoint(self) -> Checkpoint:
        """The model, its weights fp16 values."""
        return self.rounded.checkpoint


def load(study: Study) -> Setting:
    """The model in fp16 and the texts in its tokens.

    Raises ValueError if the model cannot be loaded, a text is too short, or the batch is beyond the context.
    """
    from algo import checkpoint, evaluation
    from planeforge import reference, texts

    loaded = checkpoint.load(study.model)
    if study.table.tokens > loaded.context:
        raise ValueError(
            f"tokens must be at most {loaded.context}, what the model was trained to see, "
            f"not {study.table.tokens!r}"
        )
    checkpoint.linear_layers(loaded.model)
    text = first_windows(loaded, texts.read(study.text, "text"), study.table.windows)
    if len(text.ids) < study.table.tokens:
        raise ValueError(f"text must hold at least {study.table.tokens} tokens, not {len(text.ids)}")
    ids = evaluation.tokens(loaded, texts.read(study.calibration, "calibration")).ids
    length = loaded.context
    sequences = ids[: len(ids) // length * length].reshape(-1, length)[: study.table.calibration_windows]
    if not len(sequences):
        raise ValueError(f"calibration must hold at least {length} tokens, not {len(ids)}")
    return Setting(study=study, rounded=reference.rounded(loaded), text=text, calibration=sequences)


def first_windows(checkpoint: Checkpoint, text: str, windows: int | None) -> Tokens:
    """The first ``windows`` scoring windows of a text; None: all of it.

    Raises ValueError if the tokenizer does not say where its tokens end in the text.
    """
    from algo import evaluation

    whole = evaluation.tokens(checkpoint, text)
    spans = evaluation.windows(whole, checkpoint.context)
    if windows is None or windows >= len(spans):
        return whole
    if not checkpoint.tokenizer.is_fast:
        raise ValueError("windows must be left out for a tokenizer without character offsets")
    end = spans[windows - 1].end
    coded = checkpoint.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    characters = coded["offset_mapping"][end - 1][1]
    ids = whole.ids[:end]
    unknown = checkpoint.tokenizer.unk_token_id
    return replace(
        whole,
        ids=ids,
        characters=characters - (len(text) - whole.characters),
        unknown=0 if unknown is None else int((ids == unknown).sum()),
    )
