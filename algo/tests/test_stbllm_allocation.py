"""How STBLLM spreads the sparsity over decoder blocks: outlier shares as released, norms as in the paper."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from algo.formats.quantized import Calibration
from algo.methods import stbllm, stbllm_plus
from algo.methods.stbllm import Config, allocate, block_fact
from algo.tests.reference.nm import importance

Layers = dict[str, tuple[np.ndarray, Calibration]]


def known(moments: list[float]) -> Calibration:
    """A calibration of these second moments; no other entry of the Hessian matters here."""
    return Calibration(2 * np.diag(moments), np.ones(len(moments)))


def kept(facts: list[float], **options: Any) -> list[int]:
    """Weights of eight that stay in each block."""
    found = [config.ratio for config in allocate(facts, Config(**options))]
    assert all(of == 8 for _, of in found)
    return [n for n, _ in found]


def test_allocation_is_wanted_unless_it_is_switched_off() -> None:
    assert stbllm.wants_allocation(Config())
    assert stbllm.wants_allocation(Config(allocation="paper"))
    assert not stbllm.wants_allocation(Config(allocation="none"))
    assert not hasattr(stbllm_plus, "wants_allocation")
    with pytest.raises(ValueError, match=r"^allocation must be one of released, paper, none, not 'owl'$"):
        Config(allocation="owl")


def test_the_released_run_of_llama_2_7b_drops_less_than_half() -> None:
    # Of 32 blocks five drop 2 of 8, four drop 5, all others 4: 47.7 %, not the 50 % of the ratio's name.
    facts = [0.4 + 1.7 * place for place in (*[2.0] * 5, *[0.0] * 4, *[0.7] * 23)]
    found = kept(facts)
    assert Counter(8 - n for n in found) == {2: 5, 5: 4, 4: 23}
    assert found[:9] == [6] * 5 + [3] * 4
    assert sum(8 - n for n in found) / len(found) == 3.8125


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ([0.0, 1.0], [3, 6]),  # a whole weight above the mean is read as two
        ([10.0, 12.0, 11.5, 10.5], [3, 6, 4, 4]),  # halves go to the even number, 0
        ([0.0, 0.0, 0.0, 7.0], [4, 4, 4, 6]),  # 1.5 above goes to 2, 0.5 below to 0
        ([7.0, 7.0, 7.0, 0.0], [4, 4, 4, 2]),  # 1.5 below goes to -2
        ([3.0], [4]),
        ([2.5, 2.5, 2.5], [4, 4, 4]),
        ([0.0, 0.0], [4, 4]),
    ],
)
def test_the_released_rule_is_the_one_worked_by_hand(facts: list[float], expected: list[int]) -> None:
    assert kept(facts) == expected


def test_a_block_keeps_at_least_one_weight_and_at_most_all() -> None:
    assert kept([0.0, 1.0], nm="7:8") == [6, 8]
    assert kept([7.0, 7.0, 7.0, 0.0], nm="2:8") == [2, 2, 2, 1]
    assert [c.nm for c in allocate([0.0, 1.0], Config(nm="1:4"))] == ["1:4", "3:4"]


def test_the_papers_rule_adds_a_share_of_the_norms_to_the_ratio() -> None:
    # N/M = a + (1 - a) / 2: of shares 1/4 and 3/4 it is 5/8 and 7/8.
    assert kept([1.0, 3.0], allocation="paper") == [5, 7]
    # Of 32 like blocks it is 0.516: all of them round to the ratio itself.
    assert kept([2.0] * 32, allocation="paper") == [4] * 32
    assert kept([0.0, 0.0], allocation="paper") == [4, 4]
    # Halves go to the even number: 8 * (1/8 + 7/16) = 4.5.
    assert kept([1.0, 7.0], allocation="paper")[0] == 4


def test_all_else_stays_and_no_block_is_allocated_again() -> None:
    config = Config(group=64, damping=0.5, metric="magnitude", salient_limit=3, compensation="exact")
    for found in allocate([0.0, 1.0], config):
        assert not stbllm.wants_allocation(found)
        assert (found.group, found.damping, found.metric) == (64, 0.5, "magnitude")
        assert (found.salient_limit, found.compensation) == (3, "exact")


def test_the_released_fact_is_the_share_of_importances_above_six_means_of_the_whole_block() -> None:
    # Equal weights in one row of 20: 1/20 and 1 of row and column, times the root of the norm.
    strong = (np.ones((1, 20)), known([1e8] + [1.0] * 19))  # 100 against 1
    even = (np.ones((1, 20)), known([1.0] * 20))
    loud = (-np.ones((1, 20)), known([1e8] * 20))
    assert block_fact({"a": strong}, Config()) == pytest.approx(5.0)
    assert block_fact({"a": strong, "b": even}, Config()) == pytest.approx(2.5)
    assert block_fact({"a": strong, "b": loud}, Config()) == 0  # 100 is no outlier beside twenty of them
    assert block_fact({"b": even}, Config()) == 0


def test_the_released_fact_is_the_references_of_unlike_layers() -> None:
    rng = np.random.default_rng(0)
    layers: Layers = {
        name: (rng.standard_t(2, shape), Calibration.of(rng.standard_t(2, (30, shape[1]))))
        for name, shape in {"q": (7, 20), "up": (31, 20), "down": (20, 31)}.items()
    }
    scores = [importance(w, np.sqrt(np.diagonal(c.hessian) / 2)).ravel() for w, c in layers.values()]
    every = np.concatenate(scores)
    wanted = 100 * np.mean(every > 6 * every.mean())
    assert wanted > 0.3
    assert block_fact(layers, Config()) == pytest.approx(wanted)


def test_the_papers_fact_is_the_norm_of_all_weights_of_the_block() -> None:
    layers: Layers = {
        "a": (np.array([[3.0, 0.0]]), known([1.0, 1.0])),
        "b": (np.array([[0.0], [-4.0]]), known([1e8])),
    }
    assert block_fact(layers, Config(allocation="paper")) == 5
