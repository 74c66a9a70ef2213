"""What the cost models take: cells of a specification, and what a run on an array did.

Counts alone; areas and energies belong to a technology.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from hw.integers import require_int


@dataclass(frozen=True, kw_only=True)
class Resources:
    """Cells before technology mapping, as counts: what the area and energy models take.

    Units are instances, except ``flop`` (bits) and ``mux2`` (one-bit two-way multiplexers).
    """

    gate2: int = 0  #: two-input gates of the operand lanes (AND, XNOR, mask)
    full_adder: int = 0  #: full adders of the bit counters
    half_adder: int = 0  #: half adders of the bit counters
    adder_bit: int = 0  #: bits of carry-propagate adders
    mux2: int = 0
    flop: int = 0

    def __add__(self, other: Resources) -> Resources:
        mine, theirs = asdict(self), asdict(other)
        return Resources(**{cell: mine[cell] + theirs[cell] for cell in mine})

    def __sub__(self, other: Resources) -> Resources:
        return self + other * -1

    def __mul__(self, copies: int) -> Resources:
        return Resources(**{cell: count * copies for cell, count in asdict(self).items()})


def total(parts: Mapping[str, Resources]) -> Resources:
    """The cells of all parts."""
    return sum(parts.values(), Resources())


def accumulator(width: int, acc_width: int, *, carry: int = 0, doubles: bool = True) -> dict[str, Resources]:
    """Parts of an accumulator: bits that a dot product of ``width`` bits meets, and those above.

    Above, all bits of what is added are its sign. ``carry``: bits that the adder is longer. It
    starts from 0, from itself or, if it ``doubles``, from twice itself.
    """
    low = min(width, acc_width)
    return {
        "accumulator": Resources(adder_bit=low + carry, mux2=(1 + doubles) * low, flop=low),
        "extension": Resources(adder_bit=1, mux2=1 + doubles, flop=1) * (acc_width - low),
    }


def summing(adder_bits: int, sums: int, *, carries: bool = False) -> dict[str, Resources]:
    """Parts of a tree of so many adders, of so many bits together.

    Apart stand the ends of each: the lowest bit, the highest, which has no operand bit of its own, and where
    it takes in a carry, the bit that it is longer.
    """
    each = 2 + carries
    return {
        "tree": Resources(adder_bit=adder_bits - each * sums),
        "ends": Resources(adder_bit=each * sums),
    }


@dataclass(frozen=True, kw_only=True)
class Activity:
    """What a run on an array did, as counts: what the energy model takes.

    Simulators return one, cost models take one. Counts are sums over all PEs where they speak of PEs.
    """

    cycles: int = 0  #: clocks the array ran, idle PEs included
    beats: int = 0  #: beats taken by PEs (one PE, one clock)
    w_toggles: int = 0  #: bits that changed in the PEs' weight operands between successive beats
    x_toggles: int = 0  #: the same for the activation operands
    mask_toggles: int = 0  #: the same for the masks
    product_toggles: int = 0  #: bits that changed in the lanes' two product bits, hit and base
    dot_toggles: int = 0  #: bits that changed in the PEs' registers of a beat's signed dot product
    accumulator_toggles: int = 0  #: bits that changed in the PEs' accumulators
    bubbles: int = 0  #: beats without operands, which only double the accumulator
    zero_beats: int = 0  #: beats whose weight word (on its mask) or activation word has no lane that counts
    shared_sum_beats: int = 0  #: beats of activation sums that every row makes alike
    items: int = 0  #: items handed over by PEs
    scale_products: int = 0  #: multiplications of an item by a scale mantissa
    weight_buffer_bits: int = 0  #: bits read from the on-chip weight buffer (planes, masks, scales)
    activation_buffer_bits: int = 0  #: bits read from the on-chip activation buffer
    result_bits: int = 0  #: bits of results written
    dram_bits: int = 0  #: bits moved to or from external memory

    def __post_init__(self) -> None:
        for name, count in asdict(self).items():
            require_int(name, count, 0)

    def __add__(self, other: Activity) -> Activity:
        mine, theirs = asdict(self), asdict(other)
        return Activity(**{name: mine[name] + theirs[name] for name in mine})
