"""A model, quantized or not, scored on held-out text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from planeforge import texts

if TYPE_CHECKING:
    from algo.bitplane.activation_formats import ActFormat
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
    act_format: str = "",
    reference: Path | None = None,
    rotate: int | None = None,
    progress: Moved = lambda share, doing: None,
) -> dict[str, Any]:
    """Perplexity, bits per character and, beside a reference, KL, flip rate and increase in nats a token.

    Parameters: model, a Hugging Face directory or a packed model; method, quantize with it first: the model
    as it is then is the reference; engine, float activations on dequantized weights, or the exact integers at
    ``act_bits`` or in the format ``act_format``; reference, Hugging Face directory of the original, for a
    model that comes quantized; rotate, columns of a block that is rotated before the method sees it.

    Raises ValueError for an unknown engine, settings that do not go together, or a reference of another
    architecture, shape or vocabulary.
    """
    from algo import evaluation
    from algo.bitplane import activation_formats
    from planeforge.packed import is_packed

    if engine not in ENGINES:
        raise ValueError(f"engine must be one of {', '.join(ENGINES)}, not {engine!r}")
    act = activation_formats.get(act_format) if act_format else None
    if act is not None and engine == FLOAT:
        raise ValueError(f"act-format must be left out with engine {FLOAT}, not {act_format!r}")
    body = texts.held_out(text)[:characters]
    packed = is_packed(model)
    if packed and method is not None:
        raise ValueError(f"method must be left out for a packed model, not {method!r}")
    if not packed and method is None and engine != FLOAT:
        raise ValueError(f"engine must be float for a model without --method, not {engine!r}")
    if method is not None and reference is not None:
        raise ValueError(f"reference must be left out with a method, not {str(reference)!r}: it is the model")
    if rotate is not None and method is None:
        raise ValueError(f"rotate must be left out without --method, not {rotate!r}")
    progress(0.0, "loading")
    original: Checkpoint | None = None if reference is None else _loaded(reference)
    matrices: dict[str, PackedMatrix]
    if packed:
        from planeforge import packed_model

        checkpoint, matrices, provenance = packed_model.load(model)
        made = provenance.method
    else:
        checkpoint, matrices, made = (
            *_from_source(model, method, format_name, given or {}, calib, rotate, progress),
        )
        original = original if method is None else _loaded(model)
    tokens = evaluation.tokens(checkpoint, body)
    if reference is not None and original is not None:
        _check_same(original, checkpoint)
    quantized = _with_engine(checkpoint.model, matrices, engine, act_bits, act)
    remembered = None
    if original is not None:
        progress(0.5, "reference")
        remembered = evaluation.remember(original.model, tokens, checkpoint.context)
    progress(0.6, f"scoring {tokens.ids.size} tokens")
    score = evaluation.score(
        quantized,
        tokens,
        checkpoint.context,
        reference=remembered,
        progress=lambda done, total: progress(0.6 + 0.4 * done / total, "scoring"),
    )
    window, stride = evaluation.window_and_stride(checkpoint.context)
    return {
        **_figures(model, made, engine, matrices, score),
        "window": window,
        "stride": stride,
        **({} if reference is None else {"reference": str(reference)}),
        **({} if engine == FLOAT else {"act_bits": act_bits if act is None else act.bits}),
        **({} if act is None else {"act_format": act.name}),
    }


def _check_same(original: Checkpoint, checkpoint: Checkpoint) -> None:
    """That a reference is the original of a quantized model, as far as architecture and tokenizer tell.

    Raises ValueError if it is not.
    """
    theirs, ours = type(original.model).__name__, type(checkpoint.model).__name__
    if theirs != ours:
        raise ValueError(f"reference must be of the model's architecture {ours}, not {theirs}")
    shapes = {name: list(tensor.shape) for name, tensor in checkpoint.model.state_dict().items()}
    found = {name: list(tensor.shape) for name, tensor in original.model.state_dict().items()}
    for name in [*shapes, *found]:
        if shapes.get(name) != found.get(name):
            raise ValueError(
                f"reference must hold {name} {shapes.get(name, 'not at all')} as the model does, "
                f"not {found.get(name, 'not at all')}"
            )
    if original.tokenizer is None or original.tokenizer.get_vocab() != checkpoint.tokenizer.get_vocab():
        raise ValueError("reference must have the model's vocabulary, not another tokenizer")


def _loaded(model: Path) -> Checkpoint:
    from algo import checkpoint

    return checkpoint.load(model)


def _from_source(
    model: Path,
    method: str | None,
    format_name: str | None,
    given: Mapping[str, Any],
    calib: Path | None,
    rotate: int | None,
    progress: Moved,
) -> tuple[Checkpoint, dict[str, PackedMatrix], str]:
    from dataclasses import replace

    from planeforge import model_quantizing

    checkpoint = _loaded(model)
    if method is None:
        return checkpoint, {}, "none"
    done = model_quantizing.run(
        checkpoint, method, format_name, given, calib, lambda share, doing: progress(share / 2, doing), rotate
    )
    return replace(checkpoint, model=done.model), done.matrices, method


def _with_engine(
    model: Any, matrices: Mapping[str, PackedMatrix], engine: str, act_bits: int, act: ActFormat | None
) -> Any:
    if engine == FLOAT or not matrices:
        return model
    from sim.linear import swap

    return swap(model, dict(matrices), engine, act_bits, act)


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
        "nats_per_token_increase": score.nll_increase,
        "nats_per_token_increase_se": score.nll_increase_se,
        "flip_rate": score.flips,
        "flip_rate_se": score.flips_se,
        "bits_per_weight": overall_bits(matrices) if matrices else None,
    }
