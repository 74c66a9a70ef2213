"""Energy of a packed layer on an array of PEs of any kind, from the beats that its PEs take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from algo.bitplane.matrix import PackedMatrix
    from cost_models.energy_pe import Counted
    from cost_models.tech import Tech
    from cost_models.uncertain import Cost
    from hw.counts import Activity
    from hw.spec import ArraySpec

#: What the operands of the PEs are: the layer's own, or random ones in their place.
ACTIVITIES = ("measured", "random")


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerRun:
    """What a product does on an array, and the toggles inside its PEs."""

    array: ArraySpec
    tokens: int
    utilisation: float
    activity: Activity  #: clocks, beats, items, bits moved
    counted: Counted
    others: Counted  #: the same beats with the operands that were not asked for
    kind: str  #: one of `ACTIVITIES`: of ``counted``
    beats: int  #: beats that were counted, of all

    def energy(self, tech: Tech, dram: str) -> Cost:
        """Energy of the product [pJ]."""
        from cost_models.energy import energy

        return energy(self.activity, self.array, tech, dram, self.counted)

    def figures(self, tech: Tech) -> dict[str, Any]:
        """What was counted, and what PEs would take on random operands over the layer's own."""
        from cost_models import energy_pe

        both = {self.kind: self.counted, ACTIVITIES[self.kind == ACTIVITIES[0]]: self.others}
        measured, random = (self._inside(tech, both[name]) for name in ACTIVITIES)
        share = "all" if self.counted.whole else f"{len(self.counted.counts)} stretches"
        return {
            "activity": self.kind,
            "beats_counted": f"{self.beats} of {self.activity.beats} ({share})",
            "energy_model": energy_pe.described(self.array.pe, tech),
            "pe_energy_random_over_measured": random / measured,
        }

    def _inside(self, tech: Tech, counted: Counted) -> float:
        """Energy inside the PEs [pJ], without clock tree and leakage."""
        from cost_models import energy_pe

        clocks = self.array.rows * self.array.columns * self.activity.cycles
        found = energy_pe.terms(counted, tech, self.activity.beats, clocks)
        return sum(term.at({c.key: c.value for c in term.constants}) for term in found)


def run(
    matrix: PackedMatrix, x: ArrayLike, act_bits: int, array: ArraySpec, activity: str = "measured"
) -> LayerRun:
    """Count a product of a matrix with float activations [tokens, columns].

    Raises ValueError for an unknown activity, a PE that cannot compute the product, a schedule whose beats
    are not known in order, or activations that do not fit.
    """
    import numpy as np

    from cost_models import energy_pe
    from planeforge import simulating
    from sim import tiles
    from sim.activity import stretches, words

    if activity not in ACTIVITIES:
        raise ValueError(f"activity must be one of {', '.join(ACTIVITIES)}, not {activity!r}")
    real = np.asarray(x)
    stretches.check_schedule(array)
    tiles.check(matrix, simulating.streams(matrix, real[:1], act_bits), array.pe)
    taken = stretches.take(
        matrix, lambda at: simulating.streams(matrix, real[at], act_bits), len(real), array
    )
    operands = {"measured": taken.beats, "random": stretches.randomised(taken.beats)}
    counted = {
        name: energy_pe.count(array.pe, beats, taken.windows, whole=taken.whole)
        for name, beats in operands.items()
    }
    other = ACTIVITIES[activity == ACTIVITIES[0]]
    shape = tiles.shape(matrix, act_bits, len(real), array.pe)
    return LayerRun(
        array=array,
        tokens=len(real),
        utilisation=array.utilisation(shape),
        activity=words.moved(matrix, array, len(real), act_bits),
        counted=counted[activity],
        others=counted[other],
        kind=activity,
        beats=int(np.sum(taken.windows[:, 1] - taken.windows[:, 0])),
    )
