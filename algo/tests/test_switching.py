"""One layer switched at a time: what it costs, and that nothing else is touched."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch

from algo import evaluation
from algo.checkpoint import Checkpoint, linear_layers, load
from algo.switching import LEAST, Switch
from algo.tests import tiny_model


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    directory = tmp_path_factory.mktemp("model")
    tiny_model.write(directory, seed=3)
    return load(directory)


TEXT = "the quick brown fox jumps over the lazy dog. " * 6


def test_a_switched_layer_costs_the_divergence_of_the_model_that_holds_it(checkpoint: Checkpoint) -> None:
    text = evaluation.tokens(checkpoint, TEXT)
    switch = Switch(checkpoint, text, windows=3)
    name, layer = linear_layers(checkpoint.model)[4]
    before = {key: value.clone() for key, value in checkpoint.model.state_dict().items()}
    stored = np.sign(layer.weight.detach().double().numpy()) * 0.1

    whole = dataclasses.replace(text, ids=text.ids[: 3 * checkpoint.context])
    changed = copy.deepcopy(checkpoint.model)
    reference = evaluation.remember(checkpoint.model, whole, checkpoint.context)
    with torch.no_grad():
        changed.get_submodule(name).weight.copy_(torch.from_numpy(stored))
    wanted = evaluation.score(changed, whole, checkpoint.context, reference=reference).kl

    assert switch(name, stored) == wanted
    assert wanted is not None
    assert wanted > 100 * LEAST
    for key, value in checkpoint.model.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_a_layer_that_stays_as_it_is_costs_the_floor(checkpoint: Checkpoint) -> None:
    switch = Switch(checkpoint, evaluation.tokens(checkpoint, TEXT), windows=2)
    name, layer = linear_layers(checkpoint.model)[0]
    assert switch(name, layer.weight.detach().double().numpy()) == LEAST


def test_what_is_no_layer_of_the_model_is_refused(checkpoint: Checkpoint) -> None:
    switch = Switch(checkpoint, evaluation.tokens(checkpoint, TEXT), windows=1)
    name, _ = linear_layers(checkpoint.model)[0]
    message = r"^layer must be a linear layer of the model with shape \[2, 3\], not "
    for wrong in (name, "model.norm", "nothing"):
        with pytest.raises(ValueError, match=message):
            switch(wrong, np.ones((2, 3)))
