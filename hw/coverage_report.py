"""``python -m hw.coverage_report``: what constrained-random runs put every PE into, by situation."""

from __future__ import annotations

from collections import Counter

import numpy as np

from algo.bitplane import family
from hw import coverage
from hw.beats import Beats
from hw.spec import PeSpec

BEATS = 1000
GOES_ON = 0.6  #: share of the clocks in which a stalling side goes on


def covered(spec: PeSpec, seed: int = 0) -> Counter[str]:
    """Situations of one run at full rate and one with both sides stalling."""
    rng = np.random.default_rng(seed)
    beats = Beats.random(spec, BEATS, seed)
    offered, ready = ((rng.random(2 * BEATS) < GOES_ON).tolist() for _ in range(2))
    return coverage.count(spec, beats) + coverage.count(spec, beats, offered, ready)


def main() -> None:
    """Print a line for each PE at its first sample."""
    for name in family.names("hw.pe"):
        spec = family.load("hw.pe", name).SAMPLES[0]
        found, wanted = covered(spec), coverage.situations(spec)
        missed = [one for one in wanted if not found[one]]
        rarest = min(wanted, key=lambda one: found[one])
        print(f"{name}: {len(wanted)} situations, {len(missed)} missed {missed or ''}".rstrip(), end="; ")
        print(f"rarest: {rarest}, {found[rarest]} times")


if __name__ == "__main__":
    main()
