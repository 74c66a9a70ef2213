"""What a product costs an array in clocks and bits moved: the figures of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hw.spec import ArraySpec
from sim.cycles import events
from sim.cycles.plan import BUSY, ITEMS, MASK_WORDS, PLANE_WORDS, X_WORDS, Facts, Int, Plan, plan
from sim.cycles.product import Product

#: Places bits move from or to.
LEVELS = (
    "dram_weights",
    "dram_activations",
    "dram_results",
    "weight_buffer_writes",
    "weight_buffer_reads",
    "activation_buffer_writes",
    "activation_buffer_reads",
    "result_buffer_writes",
    "result_buffer_reads",
)
#: Clocks in which the array takes no beat, by the reason.
REASONS = events.COUNTERS[1:8]


@dataclass(frozen=True, kw_only=True)
class Run:
    """Counts of one product, or of several one after the other. Runs of one array add up."""

    array: ArraySpec
    counters: Mapping[str, int]  #: clocks by `sim.cycles.events.COUNTERS`
    moved: Mapping[str, int]  #: bits by `LEVELS`
    beats: int  #: beats of all PEs
    items: int  #: items handed over by PEs
    macs: int  #: one-bit multiply-accumulates of the product, those of an N:M pattern's dropped columns too

    def __add__(self, other: Run) -> Run:
        return total([self, other])

    def __mul__(self, copies: int) -> Run:
        return Run(
            array=self.array,
            counters={name: copies * count for name, count in self.counters.items()},
            moved={name: copies * count for name, count in self.moved.items()},
            beats=copies * self.beats,
            items=copies * self.items,
            macs=copies * self.macs,
        )

    @property
    def clocks(self) -> int:
        """All clocks."""
        return self.counters["clocks"]

    @property
    def seconds(self) -> float:
        """Time at the array's assumed clock [s]."""
        return self.clocks / self.array.clock_hz

    @property
    def stalls(self) -> dict[str, int]:
        """Clocks without a beat, by reason."""
        return {name: self.counters[name] for name in REASONS}

    @property
    def dram_bits(self) -> int:
        """Bits through the memory port."""
        return sum(self.moved[name] for name in LEVELS[:3])

    @property
    def peak(self) -> int:
        """One-bit multiply-accumulates the array can do in a clock."""
        return self.array.tile_rows * self.array.tile_tokens * self.array.pe.lanes

    @property
    def utilisation(self) -> float:
        """Multiply-accumulates of the product over those the array could have done in its clocks."""
        return self.macs / (self.clocks * self.peak) if self.clocks else 0.0

    @property
    def intensity(self) -> float:
        """One-bit operations (two per multiply-accumulate) per byte through the memory port."""
        return 2 * self.macs * 8 / self.dram_bits if self.dram_bits else 0.0

    @property
    def balance(self) -> float:
        """Operations per byte at which the array's peak meets the port's bandwidth."""
        return 2 * self.peak * 8 / self.array.dram_bits_per_cycle

    @property
    def bound(self) -> str:
        """What would have to be faster first: "compute", "scale unit" or "memory"."""
        port = sum(self.counters[f"port_{kind}"] for kind in ("weights", "activations", "results"))
        if self.counters["busy"] + self.counters["scale"] < port:
            return "memory"
        return "scale unit" if self.counters["scale"] else "compute"

    def figures(self) -> dict[str, Any]:
        """What a table or a JSON object shows."""
        return {
            "clocks": self.clocks,
            "seconds": self.seconds,
            "utilisation": self.utilisation,
            "bound": self.bound,
            "counters": dict(self.counters),
            "moved_bits": dict(self.moved),
            "pe_beats": self.beats,
            "items": self.items,
            "one_bit_macs": self.macs,
            "operations_per_byte": self.intensity,
            "machine_balance": self.balance,
        }


def total(runs: Iterable[Run]) -> Run:
    """Runs of one array one after the other; nothing of a run overlaps with the next.

    Raises ValueError if there is none, or their arrays differ.
    """
    each = list(runs)
    if not each:
        raise ValueError("runs must hold at least one run, not []")
    if any(run.array != each[0].array for run in each):
        raise ValueError(f"array must be that of the other runs, {each[0].array!r}")
    return Run(
        array=each[0].array,
        counters={name: sum(run.counters[name] for run in each) for name in events.COUNTERS},
        moved={name: sum(run.moved[name] for run in each) for name in LEVELS},
        beats=sum(run.beats for run in each),
        items=sum(run.items for run in each),
        macs=sum(run.macs for run in each),
    )


def simulate(product: Product, array: ArraySpec, facts: Facts | None = None) -> Run:
    """A product on an array, clock-exact.

    Parameters: facts, what the stored bits let the array skip (`sim.cycles.skips.Skips`).

    Raises ValueError if a buffer is too small for the smallest tile.
    """
    made = plan(product, array, facts)
    counters, _ = events.run(made)
    return figures(made, counters)


def figures(made: Plan, counters: Mapping[str, int]) -> Run:
    """Counts of a plan beside its clocks."""
    product, array = made.product, made.array
    words = made.work.sum(axis=1)
    per_row = _over_rows(made, words)  # every count times the rows that share it
    per_tile = _over_rows(made, words, live=False)
    return Run(
        array=array,
        counters=counters,
        moved=_moved(made, per_row, per_tile),
        beats=int(per_row[BUSY]) * product.tokens,
        items=int(per_row[ITEMS]) * product.tokens,
        macs=product.shape().macs(),
    )


def _over_rows(made: Plan, table: Int, live: bool = True) -> list[int]:
    """Columns of a table [kinds, n] summed over all row tiles, each times its live rows if ``live``."""
    tiles, (whole, last) = made.row_tiles, made.live("rows")
    if not tiles:
        return [0] * table.shape[1]
    weight = np.full(tiles if made.per_row_tile else 2, whole if live else 1, object)
    weight[-1] = last if live else 1
    if not made.per_row_tile:
        weight[0] *= tiles - 1
    return [int(n) for n in (table.astype(object) * weight[:, None]).sum(axis=0)]


def _moved(made: Plan, per_row: list[int], per_tile: list[int]) -> dict[str, int]:
    product, array, lanes = made.product, made.array, made.array.pe.lanes
    stays = array.dataflow == "weight-stationary"
    outputs = product.tokens * product.rows
    weights, acts = fetched(made)
    # An operand that stays in the PEs is read once for a block, another for every tile it meets.
    weight_reads = made.blocks if stays and made.rows_outer else made.token_tiles
    x_reads = per_tile[X_WORDS] * lanes * product.tokens
    if stays and not made.rows_outer:
        x_reads = int(made.work.sum(axis=1)[:, X_WORDS].max()) * lanes * product.tokens * made.blocks
    result_writes, result_reads = outputs * product.result_bits, outputs * product.result_bits
    if stays:
        result_writes = outputs * array.pe.acc_width * len(made.chunks)
        result_reads += outputs * array.pe.acc_width * (len(made.chunks) - 1)
    words = (per_row[PLANE_WORDS] + per_row[MASK_WORDS]) * lanes + product.rows * product.stored.scales
    return {
        "dram_weights": weights,
        "dram_activations": acts,
        "dram_results": outputs * product.result_bits,
        "weight_buffer_writes": weights,
        "weight_buffer_reads": words * weight_reads,
        "activation_buffer_writes": acts,
        "activation_buffer_reads": x_reads,
        "result_buffer_writes": result_writes,
        "result_buffer_reads": result_reads,
    }


def fetched(made: Plan) -> tuple[int, int]:
    """Bits of weights and of activations that a plan fetches."""
    if not made.jobs:
        return 0, 0
    outer_times = made.blocks if made.outer_streams else 1
    inner_times = 1 if made.inner_resident else made.outer_tiles
    times = (outer_times, inner_times) if made.rows_outer else (inner_times, outer_times)
    weights = times[0] * _over_tiles(made.weight_bits, made.row_tiles) + made.product.stored.shared
    return weights, times[1] * _over_tiles(made.activation_bits, made.token_tiles)


def _over_tiles(bits: Int, tiles: int) -> int:
    """Bits of all tiles of an operand, [2, chunks] of a whole one and the last."""
    return (tiles - 1) * int(bits[0].sum()) + int(bits[1].sum())
