"""A model, quantized or not, scored on held-out text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from planeforge import texts

if TYPE_CHECKING:
    from algo.bitplane.matrix import PackedMatrix
    from algo.checkpoint import Checkpoint
    from algo.evaluation import Score

FLOAT = "float"
ENGINES = (FLOAT, "integer", "numba")
Moved = Callable[[float, str], None]


def evaluate(
    model: Path,
    method: str | None = None,
    format_name: str | None = None,
    given: Mapping[str, Any] | None = None,
    *,
    calib: Path | None = None,
    text: Path | None = None,
    characters: int | None = None,
    engine: str = FLOAT,
    act_bits: int = 8,
    progress: Moved = lambda share, doing: None,
) -> dict[str, Any]:
    """Perplexity, bits per character and, for a quantized model, KL to its full-precision self.

    Parameters: model, a Hugging Face directory or a packed model; method, quantize with it first; engine,
    float activations on dequantized weights, or the exact integers at ``act_bits``.

    Raises ValueError for an unknown engine, or settings that do not go together.
    """
    from algo import evaluation
    from planeforge.packed import PACKED

    if engine not in ENGINES:
        raise ValueError(f"engine must be one of {', '.join(ENGINES)}, not {engine!r}")
    body = texts.held_out(text)[:characters]
    packed = (model / PACKED).is_file()
    if packed and method is not None:
        raise ValueError(f"method must be left out for a packed model, not {method!r}")
    if not packed and method is None and engine != FLOAT:
        raise ValueError(f"engine must be float for a model without --method, not {engine!r}")
    progress(0.0, "loading")
    reference: Checkpoint | None
    matrices: dict[str, PackedMatrix]
    if packed:
        from planeforge import packed_model

        checkpoint, matrices, provenance = packed_model.load(model)
        reference, made = None, provenance.method
    else:
        checkpoint, matrices, made = (
            *_from_source(model, method, format_name, given or {}, calib, progress),
        )
        reference = None if method is None else _loaded(model)
    tokens = evaluation.tokens(checkpoint, body)
    quantized = _with_engine(checkpoint.model, matrices, engine, act_bits)
    remembered = None
    if reference is not None:
        progress(0.5, "reference")
        remembered = evaluation.remember(reference.model, tokens, checkpoint.context)
    progress(0.6, f"scoring {tokens.ids.size} tokens")
    score = evaluation.score(
        quantized,
        tokens,
        checkpoint.context,
        reference=remembered,
        progress=lambda done, total: progress(0.6 + 0.4 * done / total, "scoring"),
    )
    return _figures(model, made, engine, matrices, score) | (
        {} if engine == FLOAT else {"act_bits": act_bits}
    )


def _loaded(model: Path) -> Checkpoint:
    from algo import checkpoint

    return checkpoint.load(model)


def _from_source(
    model: Path,
    method: str | None,
    format_name: str | None,
    given: Mapping[str, Any],
    calib: Path | None,
    progress: Moved,
) -> tuple[Checkpoint, dict[str, PackedMatrix], str]:
    from dataclasses import replace

    from planeforge import model_quantizing

    checkpoint = _loaded(model)
    if method is None:
        return checkpoint, {}, "none"
    done = model_quantizing.run(
        checkpoint, method, format_name, given, calib, lambda share, doing: progress(share / 2, doing)
    )
    return replace(checkpoint, model=done.model), done.matrices, method


def _with_engine(model: Any, matrices: Mapping[str, PackedMatrix], engine: str, act_bits: int) -> Any:
    if engine == FLOAT or not matrices:
        return model
    from sim.linear import swap

    return swap(model, dict(matrices), engine, act_bits)


def _figures(
    model: Path, method: str, engine: str, matrices: Mapping[str, PackedMatrix], score: Score
) -> dict[str, Any]:
    from planeforge.quantizing import overall_bits

    return {
        "model": str(model),
        "method": method,
        "engine": engine,
        "tokens": score.tokens,
        "characters": score.characters,
        "perplexity": score.perplexity,
        "bits_per_character": score.bits_per_character,
        "nats_per_token": score.nll,
        "nats_per_token_se": score.nll_se,
        "kl_nats": score.kl,
        "kl_nats_se": score.kl_se,
        "bits_per_weight": overall_bits(list(matrices.values())) if matrices else None,
    }
