"""The scores, held against a slow twin that runs one window at a time and shares no code with them."""

import dataclasses
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from algo import checkpoint, evaluation
from algo.tests import tiny_model

CONTEXT = tiny_model.CONTEXT
TEXT = ("the quick brown fox jumps over the lazy dog. " * 3)[:97]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> checkpoint.Checkpoint:
    return checkpoint.load(tiny_model.write(tmp_path_factory.mktemp("plain")))


@pytest.fixture(scope="module")
def opening(tmp_path_factory: pytest.TempPathFactory) -> checkpoint.Checkpoint:
    return checkpoint.load(tiny_model.write(tmp_path_factory.mktemp("opening"), opens=True))


def naive(model: Any, ids: list[int], context: int, start: int | None) -> np.ndarray:
    """Returns float64 log-probabilities [scored tokens, vocabulary], one forward pass for every token."""
    longest = context if start is None else context - 1
    rows = []
    for target in range(0 if start is not None else 1, len(ids)):
        begin = 0
        while target >= begin + longest:  # the first window that reaches the token scores it
            begin += context // 2
        fed = ids[begin:target] if start is None else [start, *ids[begin:target]]
        logits = model(input_ids=torch.tensor([fed])).logits[0, -1].double().numpy()
        rows.append(logits - logits.max() - np.log(np.exp(logits - logits.max()).sum()))
    return np.array(rows)


@pytest.mark.parametrize("context", [2, 3, 7, CONTEXT])
@pytest.mark.parametrize("kind", ["plain", "opening"])
def test_batched_score_equals_one_window_at_a_time(
    kind: str, context: int, request: pytest.FixtureRequest
) -> None:
    loaded = request.getfixturevalue(kind)
    other = tiny_model.model(1)
    text = evaluation.tokens(loaded, TEXT)
    ids = text.ids.tolist()
    found = evaluation.score(other, text, context, evaluation.remember(loaded.model, text, context))
    with torch.no_grad():
        log_p = naive(other, ids, context, text.start)
        log_r = naive(loaded.model, ids, context, text.start)
    targets = ids if kind == "opening" else ids[1:]
    rows = np.arange(len(targets))
    nll = -log_p[rows, targets].mean()
    assert found.tokens == len(targets)
    assert found.nll == pytest.approx(nll, abs=1e-5)
    assert found.kl == pytest.approx((np.exp(log_r) * (log_r - log_p)).sum() / len(targets), abs=1e-5)
    assert found.nll_increase == pytest.approx(nll + log_r[rows, targets].mean(), abs=1e-5)
    assert found.flips == (log_p.argmax(axis=1) != log_r.argmax(axis=1)).mean() > 0
    assert found.perplexity == pytest.approx(math.exp(nll), rel=1e-5)
    # Every token of this tokenizer is one character.
    assert found.characters == len(targets)
    assert found.bits_per_character == pytest.approx(nll / math.log(2), abs=1e-5)


def test_a_model_diverges_from_itself_by_nothing(plain: checkpoint.Checkpoint) -> None:
    text = evaluation.tokens(plain, TEXT)
    found = evaluation.score(plain.model, text, CONTEXT, evaluation.remember(plain.model, text, CONTEXT))
    assert (found.kl, found.kl_se, found.nll_increase, found.nll_increase_se) == (0.0, 0.0, 0.0, 0.0)
    assert (found.flips, found.flips_se) == (0.0, 0.0)


def test_a_reference_too_large_to_keep_is_recomputed_to_the_same_score(
    plain: checkpoint.Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, other = evaluation.tokens(plain, TEXT), tiny_model.model(1)
    kept = evaluation.remember(plain.model, text, CONTEXT)
    monkeypatch.setattr(evaluation, "CACHE_BYTES", 4 * (len(text.ids) - 1) * 31 - 1)
    recomputed = evaluation.remember(plain.model, text, CONTEXT)
    assert kept.log_probabilities is not None
    assert recomputed.log_probabilities is None
    scores = [evaluation.score(other, text, CONTEXT, which) for which in (kept, recomputed)]
    assert scores[0] == scores[1]
    assert scores[0].kl is not None
    assert scores[0].kl > 0.01


@pytest.mark.parametrize("kind", ["plain", "opening"])
@pytest.mark.parametrize("context", [2, 5, CONTEXT])
def test_no_window_is_longer_than_the_context(
    kind: str, context: int, request: pytest.FixtureRequest
) -> None:
    loaded = request.getfixturevalue(kind)
    fed: list[int] = []

    def record(module: Any, positional: Any, named: dict[str, torch.Tensor]) -> None:
        fed.append(named["input_ids"].shape[1])

    hook = loaded.model.register_forward_pre_hook(record, with_kwargs=True)
    try:
        evaluation.score(loaded.model, evaluation.tokens(loaded, TEXT), context)
    finally:
        hook.remove()
    assert max(fed) == context - 1  # the last token of a window is predicted, not fed


@given(count=st.integers(2, 500), context=st.integers(2, 70), start=st.sampled_from([None, 0]))
def test_windows_score_every_token_once_with_half_a_window_before_it(
    count: int, context: int, start: int | None
) -> None:
    text = evaluation.Tokens(ids=np.zeros(count, dtype=np.int64), characters=count, start=start, unknown=0)
    found = evaluation.windows(text, context)
    scored = [at for window in found for at in range(window.first, window.end)]
    assert scored == list(range(0 if start is not None else 1, count))
    for window in found[1:]:
        seen = window.first - window.begin + (start is not None)
        assert seen >= context / 2
        assert window.end - window.begin + (start is not None) <= context


def test_windows_of_long_context_models_stop_at_the_papers_length() -> None:
    text = evaluation.Tokens(ids=np.zeros(9000, dtype=np.int64), characters=9000, start=None, unknown=0)
    assert evaluation.windows(text, 131072) == evaluation.windows(text, 2048)
    assert max(window.end - window.begin for window in evaluation.windows(text, 131072)) == 2048


class Constant:
    """A model that gives the same logits everywhere."""

    def __init__(self, logits: list[float]) -> None:
        self.logits = torch.tensor(logits)
        text_config = SimpleNamespace(vocab_size=len(logits))
        self.config = SimpleNamespace(get_text_config=lambda: text_config)

    def __call__(self, *, input_ids: torch.Tensor, use_cache: bool) -> SimpleNamespace:
        return SimpleNamespace(logits=self.logits.expand(*input_ids.shape, -1))


def counted(ids: list[int], characters: int) -> evaluation.Tokens:
    return evaluation.Tokens(ids=np.array(ids), characters=characters, start=None, unknown=0)


def test_a_model_that_knows_nothing_has_the_vocabulary_as_perplexity() -> None:
    found = evaluation.score(Constant([3.0] * 10), counted([1, 2, 3, 4] * 25, 198), 8)
    assert found.perplexity == pytest.approx(10, rel=1e-6)
    assert found.nll_se == pytest.approx(0, abs=1e-8)
    assert found.bits_per_character == pytest.approx(math.log2(10) / 2, rel=1e-6)  # two characters a token


def test_divergence_is_measured_from_the_reference_not_towards_it() -> None:
    # KL((1/2, 1/2) || (1/4, 3/4)) = ln 2 - ln 3 / 2; the other way round it is 3/4 ln 3 - ln 2.
    text = counted([0, 1, 1, 0, 1, 0, 0], 6)
    reference = evaluation.remember(Constant([0.0, 0.0]), text, 4)
    found = evaluation.score(Constant([0.0, math.log(3)]), text, 4, reference)
    assert found.kl == pytest.approx(math.log(2) - math.log(3) / 2, rel=1e-6)


class Echo:
    """A model that predicts the token it reads again, except after those of ``turns``."""

    def __init__(self, vocabulary: int, turns: dict[int, list[float]] | None = None) -> None:
        self.table = torch.eye(vocabulary)
        for token, logits in (turns or {}).items():
            self.table[token] = torch.tensor(logits)
        text_config = SimpleNamespace(vocab_size=vocabulary)
        self.config = SimpleNamespace(get_text_config=lambda: text_config)

    def __call__(self, *, input_ids: torch.Tensor, use_cache: bool) -> SimpleNamespace:
        return SimpleNamespace(logits=self.table[input_ids])


def test_flips_are_positions_whose_likeliest_token_changes_right_or_wrong() -> None:
    # Scored are the predictions after 0, 1, 2, 2, 0: the model turns away after 2, and the text is no matter.
    ids = [0, 1, 2, 2, 0, 1]
    model = Echo(3, {2: [0.9, 0.0, 0.8]})
    text = counted(ids, 5)
    for context, windows in ((6, 1), (2, 5)):
        reference = evaluation.remember(Echo(3), text, context)
        found = evaluation.score(model, text, context, reference)
        assert found.windows == windows
        assert found.flips == pytest.approx(2 / 5)
    assert found.flips_se == pytest.approx(np.std([0, 0, 1, 1, 0], ddof=1) / math.sqrt(5))


def test_of_equally_likely_tokens_the_lowest_id_is_the_models_choice() -> None:
    text = counted([0, 1, 1, 0], 3)
    tied, first, last = Constant([1.0, 0.0, 1.0]), Constant([1.0, 0.0, 0.0]), Constant([0.0, 0.0, 1.0])
    for reference, flips in ((first, 0.0), (last, 1.0)):
        assert evaluation.score(tied, text, 4, evaluation.remember(reference, text, 4)).flips == flips


def test_without_a_reference_nothing_flips_and_nothing_is_said_of_it() -> None:
    found = evaluation.score(Constant([0.0, 1.0]), counted([0, 1, 1, 0], 3), 2)
    assert (found.flips, found.flips_se, found.kl, found.nll_increase) == (None, None, None, None)


@pytest.mark.parametrize(("context", "expected"), [(16, (16, 8)), (17, (17, 8)), (4096, (2048, 1024))])
def test_window_and_stride_are_those_the_windows_have(context: int, expected: tuple[int, int]) -> None:
    text = evaluation.Tokens(ids=np.zeros(9000, dtype=np.int64), characters=9000, start=None, unknown=0)
    first, second, *_ = evaluation.windows(text, context)
    assert evaluation.window_and_stride(context) == expected
    assert (first.end - first.begin, second.begin - first.begin) == expected


def test_standard_error_over_equal_windows_is_the_textbook_one() -> None:
    # Context 2 scores one token a window: costs are ln 4 for token 0 and ln 4/3 for token 1.
    ids = [0, 0, 1, 1, 0, 1, 1, 1]
    found = evaluation.score(Constant([0.0, math.log(3)]), counted(ids, 7), 2)
    costs = [math.log(4) if token == 0 else math.log(4 / 3) for token in ids[1:]]
    assert found.windows == 7
    assert found.nll_se == pytest.approx(np.std(costs, ddof=1) / math.sqrt(7), rel=1e-6)
    assert found.bits_per_character_se == pytest.approx(found.nll_se / math.log(2), rel=1e-6)


def test_a_single_window_has_no_standard_error() -> None:
    found = evaluation.score(Constant([0.0, 1.0]), counted([0, 1, 1], 2), 8)
    assert (found.windows, found.nll_se, found.bits_per_character_se) == (1, None, None)


def test_perplexity_of_a_hopeless_model_is_infinite_not_an_error() -> None:
    found = evaluation.score(Constant([0.0, 1000.0]), counted([1, 0, 0, 0], 3), 8)
    assert found.nll == pytest.approx(1000)
    assert found.perplexity == math.inf


def test_memory_limit_changes_the_batch_and_not_the_score(
    plain: checkpoint.Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = evaluation.tokens(plain, TEXT)
    steps: list[tuple[int, int]] = []
    wide = evaluation.score(plain.model, text, CONTEXT, progress=lambda *step: steps.append(step))
    monkeypatch.setattr(evaluation, "LOGIT_BYTES", 1)
    single: list[tuple[int, int]] = []
    narrow = evaluation.score(plain.model, text, CONTEXT, progress=lambda *step: single.append(step))
    assert narrow.nll == pytest.approx(wide.nll, abs=1e-6)
    assert single == [(at + 1, wide.windows) for at in range(wide.windows)]
    assert len(steps) < len(single)
    assert steps[-1] == (wide.windows, wide.windows)


def test_text_the_vocabulary_cannot_spell_is_counted(plain: checkpoint.Checkpoint) -> None:
    text = evaluation.tokens(plain, "na\u00efve \u00e9t\u00e9")
    assert text.unknown == 3
    assert evaluation.score(plain.model, text, CONTEXT).unknown == 3


def test_the_first_token_counts_only_where_a_start_token_precedes_it(
    plain: checkpoint.Checkpoint, opening: checkpoint.Checkpoint
) -> None:
    without, with_start = evaluation.tokens(plain, "abc."), evaluation.tokens(opening, "abc.")
    assert (without.start, without.characters) == (None, 3)
    assert (with_start.start, with_start.characters) == (0, 4)
    assert without.ids.tolist() == with_start.ids.tolist()


@pytest.mark.parametrize("text", ["", "a"])
def test_too_short_a_text_is_refused(plain: checkpoint.Checkpoint, text: str) -> None:
    with pytest.raises(ValueError, match=rf"^text must be at least 2 tokens long, not {len(text)}$"):
        evaluation.tokens(plain, text)


def test_a_checkpoint_without_tokenizer_cannot_score_text(plain: checkpoint.Checkpoint) -> None:
    bare = dataclasses.replace(plain, tokenizer=None, directory=Path("somewhere"))
    with pytest.raises(
        ValueError, match=r"^somewhere must hold a tokenizer \(tokenizer\.json\) to score text$"
    ):
        evaluation.tokens(bare, TEXT)


def test_context_of_one_token_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^context must be at least 2 tokens, not 1$"):
        evaluation.score(Constant([0.0]), counted([0, 0, 0], 2), 1)


def test_a_reference_of_another_text_or_context_is_refused() -> None:
    model, text = Constant([0.0, 1.0]), counted([0, 1, 1, 0], 3)
    reference = evaluation.remember(model, text, 4)
    message = r"^reference must be of the text and context that are scored, and is of others$"
    with pytest.raises(ValueError, match=message):
        evaluation.score(model, counted([0, 1, 1, 1], 3), 4, reference)
    with pytest.raises(ValueError, match=message):
        evaluation.score(model, text, 3, reference)


def test_a_reference_of_another_vocabulary_is_refused() -> None:
    text = counted([0, 1, 1, 0], 3)
    reference = evaluation.remember(Constant([0.0, 1.0]), text, 4)
    with pytest.raises(ValueError, match=r"^reference must have 3 vocabulary entries, not 2$"):
        evaluation.score(Constant([0.0, 1.0, 2.0]), text, 4, reference)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_model_that_overflows_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match=r"^model must give finite logits, and gives NaN or infinity$"):
        evaluation.score(Constant([0.0, bad]), counted([0, 1, 1, 0], 3), 4)
