"""Scores a causal language model on a text: perplexity, bits per character, divergence from a reference.

Perplexity hardly moves between good formats; KL(reference || model) does, so it is the ranking figure.
Source: Dutta et al., Accuracy is Not All You Need, arXiv:2407.09141 (KL divergence and flips as distances of
a compressed model from its baseline); differs in: a flip there is an answer that changes between right and
wrong, here a predicted token that changes, at every scored position of a text.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

    from algo.checkpoint import Checkpoint

LONGEST_WINDOW = 2048  #: tokens; the window of the GPTQ family's tables, for models trained on longer ones
BATCH = 16  #: windows a forward pass; more gains nothing on two cores
LOGIT_BYTES = 1 << 28  #: 256 MiB of float32 logits a forward pass, for large vocabularies
CACHE_BYTES = 1 << 30  #: 1 GiB: a reference's log-probabilities are kept up to this, above it recomputed

Progress = Callable[[int, int], None]  #: called with (windows done, windows in all)


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """A text as token numbers."""

    ids: npt.NDArray[np.int64]  #: [tokens], without special tokens
    characters: int  #: of the scored text: all, less the first token's where nothing precedes it
    start: int | None  #: special token the tokenizer puts first (it then opens every window), or None
    unknown: int  #: tokens that stand for text this vocabulary cannot spell


@dataclass(frozen=True, kw_only=True)
class Window:
    """One forward pass: ids[begin : end - 1] go in, ids[first : end] are scored."""

    begin: int
    first: int
    end: int


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What a divergence is measured from: cached log-probabilities, or the model where they would not fit."""

    text: Tokens
    context: int
    log_probabilities: "list[torch.Tensor] | None"  #: a window each, float32 [scored, vocabulary]
    model: Any  #: must stay as it was where there is no cache


@dataclass(frozen=True, kw_only=True)
class Score:
    """How well a model predicts a text. Standard errors are over windows, each a sample of the text."""

    tokens: int  #: scored
    characters: int  #: scored
    windows: int
    unknown: int  #: of the tokens, how many stand for text the vocabulary cannot spell
    nll: float  #: mean negative log-likelihood [nats/token]
    nll_se: float | None  #: None, as the other errors, for a text of one window
    kl: float | None  #: mean KL(reference || model) [nats/token]; None without a reference
    kl_se: float | None
    nll_increase: float | None  #: nll above the reference's [nats/token]
    nll_increase_se: float | None  #: paired: of the windows' differences
    flips: float | None  #: share of scored positions where the likeliest token is not the reference's
    flips_se: float | None

    @property
    def perplexity(self) -> float:
        """Per token; compare only between models of one tokenizer."""
        return math.exp(self.nll) if self.nll < 700 else math.inf  # exp overflows float64 at 709.8

    @property
    def bits_per_character(self) -> float:
        return self.nll * self.bits_per_nat

    @property
    def bits_per_character_se(self) -> float | None:
        return None if self.nll_se is None else self.nll_se * self.bits_per_nat

    @property
    def bits_per_nat(self) -> float:
        """Turns nats/token into bits/character on this text."""
        return self.tokens / self.characters / math.log(2)


def tokens(checkpoint: "Checkpoint", text: str) -> Tokens:
    """Returns ``text`` in the checkpoint's tokens.

    Raises: ValueError if the checkpoint has no tokenizer, or the text is shorter than two tokens
    """
    tokenizer = checkpoint.tokenizer
    if tokenizer is None:
        raise ValueError(f"{checkpoint.directory} must hold a tokenizer (tokenizer.json) to score text")
    # verbose=False: a text longer than the context is no mistake here, it is cut into windows.
    ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    if len(ids) < 2:
        raise ValueError(f"text must be at least 2 tokens long, not {len(ids)}")
    opening = tokenizer("a", verbose=False)["input_ids"][0]
    plain = tokenizer("a", add_special_tokens=False, verbose=False)["input_ids"][0]
    start = int(opening) if opening != plain and opening == tokenizer.bos_token_id else None
    unscored = 0 if start is not None else len(tokenizer.decode(ids[:1]))
    unknown = 0 if tokenizer.unk_token_id is None else ids.count(tokenizer.unk_token_id)
    return Tokens(
        ids=np.array(ids, dtype=np.int64), characters=len(text) - unscored, start=start, unknown=unknown
    )


def windows(text: Tokens, context: int) -> list[Window]:
    """Returns windows of at most ``context`` tokens, each half a window on from the last.

    Every token is scored once (the first only where a start token precedes it), and after the first window
    with at least half a window of text before it.

    Raises: ValueError if context is less than 2
    """
    if context < 2:
        raise ValueError(f"context must be at least 2 tokens, not {context!r}")
    # The start token takes a place. The window counts the token predicted last, which is never fed.
    longest, stride = window_and_stride(context)
    length = longest - (text.start is not None)
    found: list[Window] = []
    begin, first = 0, 1 if text.start is None else 0
    while first < len(text.ids):
        end = min(begin + length, len(text.ids))
        found.append(Window(begin=begin, first=first, end=end))
        begin, first = begin + stride, end
    return found


def window_and_stride(context: int) -> tuple[int, int]:
    """Tokens of a full window, start token and last prediction included, and from one window to the next."""
    longest = min(context, LONGEST_WINDOW)
    return longest, longest // 2


def remember(model: Any, text: Tokens, context: int, progress: Progress | None = None) -> Reference:
    """Returns ``model`` as the reference that other models' scores on ``text`` are compared with.

    Its log-probabilities are computed now and kept if they take at most CACHE_BYTES; otherwise every score
    runs the reference beside the scored model, so the reference must then stay in memory, unchanged.

    Raises: ValueError as `score` does
    """
    spans = windows(text, context)
    scored = sum(span.end - span.first for span in spans)
    cache = None
    if 4 * scored * _vocabulary(model) <= CACHE_BYTES:
        cache = list(_log_probabilities(model, text, spans, progress))
    return Reference(text=text, context=context, log_probabilities=cache, model=model)


def score(
    model: Any,
    text: Tokens,
    context: int,
    reference: Reference | None = None,
    progress: Progress | None = None,
) -> Score:
    """Returns the model's score on ``text``, in windows of at most ``context`` tokens.

    Parameters: model     : transformers causal language model in eval mode
                context   : tokens it was trained to see (`Checkpoint.context`)
                reference : from `remember`, of the same text and context
                progress  : called after every forward pass
    Raises:     ValueError if context is less than 2, the reference is of another text, context or
                vocabulary, or the model's output is not finite
    """
    if reference is not None and not (
        reference.context == context and np.array_equal(reference.text.ids, text.ids)
    ):
        raise ValueError("reference must be of the text and context that are scored, and is of others")
    spans = windows(text, context)
    counts = np.array([span.end - span.first for span in spans], dtype=np.float64)
    nll, kl, base_nll, flips = (np.zeros(len(spans)) for _ in range(4))
    scored = _log_probabilities(model, text, spans, progress)
    for index, (span, log_p, log_r) in enumerate(zip(spans, scored, _recall(reference, spans), strict=True)):
        nll[index] = _nll(log_p, text, span)
        if log_r is not None:
            if log_r.shape != log_p.shape:
                raise ValueError(
                    f"reference must have {log_p.shape[1]} vocabulary entries, not {log_r.shape[1]}"
                )
            base_nll[index] = _nll(log_r, text, span)
            kl[index] = float((log_r.exp() * (log_r - log_p)).double().sum())
            # Of equal probabilities argmax takes the lowest token id.
            flips[index] = float((log_r.argmax(dim=-1) != log_p.argmax(dim=-1)).sum())
    mean, error = _mean_and_error(nll, counts)
    divergence = (None, None) if reference is None else _mean_and_error(kl, counts)
    increase = (None, None) if reference is None else _mean_and_error(nll - base_nll, counts)
    flipped = (None, None) if reference is None else _mean_and_error(flips, counts)
    return Score(
        tokens=int(counts.sum()),
        characters=text.characters,
        windows=len(spans),
        unknown=text.unknown,
        nll=mean,
        nll_se=error,
        kl=divergence[0],
        kl_se=divergence[1],
        nll_increase=increase[0],
        nll_increase_se=increase[1],
        flips=flipped[0],
        flips_se=flipped[1],
    )


def _recall(reference: Reference | None, spans: list[Window]) -> "Iterator[torch.Tensor | None]":
    """Yields the reference's log-probabilities of each window, cached or computed anew; None without one."""
    if reference is None:
        return itertools.repeat(None, len(spans))
    if reference.log_probabilities is not None:
        return iter(reference.log_probabilities)
    return _log_probabilities(reference.model, reference.text, spans, None)


def _log_probabilities(
    model: Any, text: Tokens, spans: list[Window], progress: Progress | None
) -> "Iterator[torch.Tensor]":
    """Yields float32 [scored, vocabulary] for each window, running several of one length at a time."""
    done = 0
    for length, group in itertools.groupby(spans, key=lambda span: span.end - span.begin):
        same = list(group)
        size = max(1, min(BATCH, LOGIT_BYTES // (4 * length * _vocabulary(model))))
        for at in range(0, len(same), size):
            batch = same[at : at + size]
            yield from _forward(model, text, batch)
            done += len(batch)
            if progress is not None:
                progress(done, len(spans))


def _forward(model: Any, text: Tokens, batch: list[Window]) -> "list[torch.Tensor]":
    """Returns each window's log-probabilities; the windows are of one length."""
    import torch

    rows = np.stack([text.ids[span.begin : span.end - 1] for span in batch])
    if text.start is not None:
        rows = np.insert(rows, 0, text.start, axis=1)
    with torch.no_grad():
        logits = model(input_ids=torch.from_numpy(rows), use_cache=False).logits
        # The scored tokens are the window's last, so their predictions are the last rows.
        kept = [part[len(part) - (span.end - span.first) :] for part, span in zip(logits, batch, strict=True)]
        found = [torch.log_softmax(part.float(), dim=-1) for part in kept]
    if not all(bool(torch.isfinite(part).all()) for part in found):
        raise ValueError("model must give finite logits, and gives NaN or infinity")
    return found


def _nll(log_p: "torch.Tensor", text: Tokens, span: Window) -> float:
    """Returns the summed negative log-likelihood [nats] of a window's scored tokens."""
    targets = text.ids[span.first : span.end]
    return -float(log_p[np.arange(len(targets)), targets].double().sum())


def _vocabulary(model: Any) -> int:
    return int(model.config.get_text_config().vocab_size)


def _mean_and_error(
    sums: npt.NDArray[np.float64], counts: npt.NDArray[np.float64]
) -> tuple[float, float | None]:
    """Returns the mean per token over all windows and its standard error (None for a single window).

    Windows differ in length, so the mean is a ratio of sums and its error that of a ratio estimator.
    Source: Cochran, Sampling Techniques (3rd ed.), equation 2.46, without the finite-population factor.
    """
    mean = float(sums.sum() / counts.sum())
    n = len(sums)
    if n == 1:
        return mean, None
    residuals = sums - mean * counts
    return mean, float(np.sqrt(n / (n - 1) * np.square(residuals).sum()) / counts.sum())
