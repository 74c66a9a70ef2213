"""The shipped texts and models: whole, offline, held out, and as good as stated."""

import hashlib
import json
import logging
import lzma
import math
import re
import shutil
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from algo import checkpoint, evaluation
from planeforge.demo import assets

NAMES = (assets.DEMO_MODEL, assets.UNIT_TEST_MODEL)


@cache
def loaded(name: str) -> checkpoint.Checkpoint:
    return checkpoint.load(assets.model(name))


@cache
def scored(name: str) -> evaluation.Score:
    found = loaded(name)
    return evaluation.score(found.model, evaluation.tokens(found, assets.held_out_text()), found.context)


# Files


@pytest.mark.parametrize("folder", [assets.TEXT, assets.MODELS], ids=["text", "models"])
def test_every_shipped_file_has_its_recorded_sum(folder: Path) -> None:
    found = {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "SHA256SUMS"
    }
    assert assets.sums(folder) == found


def test_shipped_files_are_small() -> None:
    sizes = {name: (assets.model(name) / "model.safetensors").stat().st_size for name in NAMES}
    assert sizes[assets.DEMO_MODEL] <= 3_000_000
    assert sizes[assets.UNIT_TEST_MODEL] <= 600_000
    assert 30_000 <= assets.held_out_path().stat().st_size <= 32 * 1024
    assert 15_000 <= assets.calibration_path().stat().st_size <= 16 * 1024


@pytest.mark.parametrize("name", NAMES)
def test_models_were_trained_on_the_shipped_text(name: str) -> None:
    log = json.loads((assets.model(name) / "train_log.json").read_text())
    assert log["training_text_sha256"] == hashlib.sha256(assets.training_text().encode()).hexdigest()
    assert log["parameters"] == sum(p.numel() for p in loaded(name).model.parameters())


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    copied = Path(shutil.copytree(assets.TEXT, tmp_path / "text"))
    yield copied
    assets.verified.cache_clear()


def test_a_changed_file_is_refused_with_both_sums(folder: Path) -> None:
    path = folder / "heldout.txt"
    path.write_bytes(path.read_bytes() + b"\n")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    listed = hashlib.sha256(assets.held_out_path().read_bytes()).hexdigest()
    message = (
        f"{path} must have SHA-256 {listed}, not {found}: restore the file, or write the new sum "
        f"into {folder / 'SHA256SUMS'} if the change is meant"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        assets.verified(folder, "heldout.txt")
    assert assets.verified(folder, "calibration.txt") == folder / "calibration.txt"


@pytest.mark.parametrize("missing", ["heldout.txt", "SHA256SUMS"])
def test_a_missing_file_is_refused(folder: Path, missing: str) -> None:
    (folder / missing).unlink()
    message = f"{folder / missing} is missing: reinstall planeforge, or restore the file from the repository"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        assets.verified(folder, "heldout.txt")


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    with pytest.raises(
        ValueError, match=r"^model must be one of tinydocs-0\.1M, tinydocs-1\.4M, not 'llama'$"
    ):
        assets.model("llama")
    known = r"NOTICE, calibration\.txt, heldout\.txt, train\.txt\.xz"
    with pytest.raises(ValueError, match=rf"^asset must be one of {known}, not '\.\./x'$"):
        assets.verified(assets.TEXT, "../x")


def test_a_model_with_a_changed_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assets, "MODELS", Path(shutil.copytree(assets.MODELS, tmp_path / "models")))
    assert assets.model(assets.UNIT_TEST_MODEL) == tmp_path / "models" / assets.UNIT_TEST_MODEL
    assets.verified.cache_clear()
    path = assets.MODELS / assets.UNIT_TEST_MODEL / "config.json"
    path.write_text(path.read_text().replace("128", "129"))
    with pytest.raises(ValueError, match=rf"^{re.escape(str(path))} must have SHA-256 "):
        assets.model(assets.UNIT_TEST_MODEL)


# Texts


def paragraphs(text: str) -> set[str]:
    return {re.sub(r"\s+", " ", part).strip() for part in re.split(r"\n\s*\n", text)}


def test_held_out_text_shares_no_paragraph_with_the_training_text() -> None:
    train = re.sub(r"\s+", " ", assets.training_text())
    long = [part for part in paragraphs(assets.held_out_text()) if len(part) > 200]
    assert len(long) > 20
    assert [part for part in long if part in train] == []


def test_held_out_text_shares_hardly_a_phrase_with_the_training_text() -> None:
    def phrases(text: str) -> set[tuple[str, ...]]:
        words = text.split()
        return set(zip(*(words[at:] for at in range(12)), strict=False))

    held_out = phrases(assets.held_out_text())
    assert len(held_out & phrases(assets.training_text())) < 0.01 * len(held_out)


def test_calibration_text_is_training_text() -> None:
    assert paragraphs(assets.calibration_text()) <= paragraphs(assets.training_text())


# Models


@pytest.mark.parametrize("name", NAMES)
def test_transformers_loads_the_models_without_a_warning(name: str) -> None:
    import transformers

    records: list[logging.LogRecord] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = records.append  # type: ignore[method-assign]
    logging.getLogger("transformers").addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            directory = assets.model(name)
            model = transformers.AutoModelForCausalLM.from_pretrained(directory, local_files_only=True)
            tokenizer = transformers.AutoTokenizer.from_pretrained(directory, local_files_only=True)
    finally:
        logging.getLogger("transformers").removeHandler(handler)
    assert [record.getMessage() for record in records] == []
    assert str(model.dtype) == "torch.bfloat16"
    assert len(tokenizer) == model.config.vocab_size == 512
    assert model.config.max_position_embeddings == 128


def test_demo_widths_are_multiples_of_128_and_the_test_models_are_not() -> None:
    def widths(name: str) -> set[int]:
        return {n for _, layer in checkpoint.linear_layers(loaded(name).model) for n in layer.weight.shape}

    assert widths(assets.DEMO_MODEL) == {256, 512}
    assert widths(assets.UNIT_TEST_MODEL) == {64, 128, 200}


def test_both_models_have_one_tokenizer() -> None:
    contents = {(assets.model(name) / "tokenizer.json").read_bytes() for name in NAMES}
    assert len(contents) == 1


def test_tokens_spell_the_shipped_texts() -> None:
    tokenizer = loaded(assets.UNIT_TEST_MODEL).tokenizer
    for text in (assets.held_out_text(), assets.calibration_text()):
        ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        assert tokenizer.decode(ids) == text


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="<"), min_size=1))
def test_tokens_spell_any_ascii_text(text: str) -> None:
    tokenizer = loaded(assets.UNIT_TEST_MODEL).tokenizer
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]) == text


def test_what_the_vocabulary_cannot_spell_is_told() -> None:
    text = evaluation.tokens(loaded(assets.UNIT_TEST_MODEL), "\N{GREEK SMALL LETTER PI} is 3.14")
    assert text.unknown == 2  # two bytes of UTF-8


# Measured on the shipped files; the room is for the rounding of other CPUs.
@pytest.mark.parametrize(("name", "measured"), [(assets.DEMO_MODEL, 1.929), (assets.UNIT_TEST_MODEL, 2.231)])
def test_models_predict_held_out_text_as_well_as_measured(name: str, measured: float) -> None:
    found = scored(name)
    assert found.bits_per_character == pytest.approx(measured, abs=0.002)
    assert found.unknown == 0
    assert found.characters > 32_000


def test_demo_model_beats_a_compressor_that_has_seen_the_training_text() -> None:
    train, held_out = assets.training_text().encode(), assets.held_out_text().encode()
    bits = 8 * (len(lzma.compress(train + held_out)) - len(lzma.compress(train)))
    assert scored(assets.DEMO_MODEL).bits_per_character < bits / len(held_out)


def test_models_lose_what_they_know_beyond_their_context() -> None:
    # Why scoring stops at the trained context: positions never trained cost more than the longer view gains.
    found = loaded(assets.DEMO_MODEL)
    text = evaluation.tokens(found, assets.held_out_text()[:8000])
    within = evaluation.score(found.model, text, found.context)
    beyond = evaluation.score(found.model, text, 2 * found.context)
    assert beyond.nll > within.nll + 0.1
    assert math.isfinite(beyond.nll)
