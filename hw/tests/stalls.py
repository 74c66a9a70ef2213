"""Runs of a PE that tests share: random beats, random stalls, and what they must come to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hw.beats import Beats, Run
from hw.spec import PeSpec


@dataclass(frozen=True, kw_only=True)
class Case:
    """A run and its stalls; `check` holds an engine's answer against the contract."""

    spec: PeSpec
    beats: Beats
    offered: Any = ()
    ready: Any = ()

    def check(self, run: Run) -> None:
        assert run.items.dtype == np.int64
        expected = [self.spec.items(self.beats, output) for output in range(self.spec.outputs)]
        items = run.items.reshape(-1, self.spec.outputs)
        assert items.T.tolist() == expected, self.spec
        lasts = self.beats.lasts.tolist()
        assert run.cycles == self.spec.stalled_cycles(lasts, self.offered, self.ready), self.spec


def full_rate(spec: PeSpec, n: int, seed: int = 0) -> Case:
    return Case(spec=spec, beats=Beats.random(spec, n, seed))


def stalled(spec: PeSpec, n: int, seed: int = 0, share: float = 0.6) -> Case:
    """Either side goes on in ``share`` of the clocks; the patterns end before the run, or after."""
    rng = np.random.default_rng(seed)
    offered, ready = rng.random(2 * n) < share, rng.random(n) < share
    return Case(spec=spec, beats=Beats.random(spec, n, seed), offered=offered, ready=ready)
