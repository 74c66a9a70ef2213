"""The training program: its schedule, its sampling, and that one recipe gives one result."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from planeforge.demo import train
from planeforge.demo.train import CONTEXT, RECIPES


def test_learning_rate_rises_to_its_peak_and_falls_to_its_floor() -> None:
    recipe = RECIPES["tinydocs-1.4M"]
    rates = [recipe.rate(step) for step in range(recipe.steps)]
    top = rates.index(max(rates))
    assert abs(top - recipe.warmup) <= 1
    assert max(rates) == pytest.approx(recipe.learning_rate, rel=0.01)
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] == pytest.approx(recipe.floor * recipe.learning_rate, rel=0.01)


def test_every_pass_cuts_the_text_without_overlap() -> None:
    recipe = dataclasses.replace(RECIPES["tinydocs-0.1M"], steps=40)
    ids = torch.arange(20 * CONTEXT)
    starts = train.batches(ids, recipe)
    assert starts.shape == (40, recipe.batch)
    assert int(starts.min()) >= 0
    assert int(starts.max()) <= len(ids) - CONTEXT
    first, second = starts.flatten()[:19], starts.flatten()[19:38]  # 19 or 20 sequences fit, by the offset
    for part in (first, second):
        assert len({int(start) % CONTEXT for start in part[:18]}) == 1
        assert len(set(part.tolist())) == len(part)
    assert first.tolist() != sorted(first.tolist())


def test_training_twice_gives_the_same_file_and_lowers_the_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "the quick brown fox jumps over the lazy dog; " * 400
    monkeypatch.setattr(train.assets, "training_text", lambda: text)
    monkeypatch.setattr(train.assets, "held_out_text", lambda: text[:5000])
    monkeypatch.setattr(train, "VOCABULARY", 40)
    recipe = train.Recipe(
        hidden=16,
        layers=1,
        heads=2,
        kv_heads=1,
        intermediate=24,
        steps=12,
        learning_rate=1e-2,
        batch=2,
        warmup=2,
    )
    monkeypatch.setitem(RECIPES, "small", recipe)
    threads = torch.get_num_threads()
    try:
        for name in ("one", "two"):
            train.train("small", tmp_path / name)
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(False)
    files = [(tmp_path / name / "model.safetensors") for name in ("one", "two")]
    assert files[0].read_bytes() == files[1].read_bytes()
    log = json.loads((tmp_path / "one" / "train_log.json").read_text())
    assert log["log"][-1]["step"] == 12
    assert log["log"][-1]["held_out_nats_per_token"] < 3.5  # ln 40 = 3.69 is knowing nothing
    assert files[0].stat().st_mode & 0o777 == 0o644
