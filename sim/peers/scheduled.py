"""Peers on this simulator's own schedule: what their closed forms leave out is counted.

A peer whose PE takes whole numbers is scheduled with one plane pair a pass: a beat is one word of products,
and a weight of several terms is several planes. Such a PE is timed here, not built; its multiply-accumulates
and on-chip words are counted by lane, not by bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from types import MappingProxyType
from typing import Any

from hw.spec import ArraySpec, Beat, PeSpec, Resources, require_int
from sim.cycles.product import Pass, Product
from sim.peers.bismo import Dpa
from sim.weight_formats import WeightFormat
from sim.workload import Setting, Work


@dataclass(frozen=True, kw_only=True)
class TimedPe(PeSpec):
    """A PE of which only the timing is described."""

    depth: int = 4  #: clocks from an item's last beat to the item

    def __post_init__(self) -> None:
        super().__post_init__()
        require_int("depth", self.depth, 1)

    def latency(self) -> int:
        return self.depth

    def golden(self, acc: int, beat: Beat, output: int = 0) -> int:
        raise NotImplementedError("a peer's PE is timed, not computed with")

    def resources(self) -> Resources:
        raise NotImplementedError("a peer's PE is timed, its cells are not counted")

    def create(self) -> Any:
        raise NotImplementedError("a peer's PE is timed, not built")


@dataclass(frozen=True, kw_only=True)
class Peer:
    """An accelerator as a schedule sees it."""

    name: str
    array: ArraySpec
    weights: WeightFormat
    setting: Setting
    serial: bool = False  #: operands pass as bit planes on both sides, as they do here
    kv_terms: int = 1  #: beats of a cached number
    source: str

    def adapted(self, works: list[Work]) -> list[Work]:
        """Products of a decoder as this peer's PEs take them."""
        return works if self.serial else [replace(one, product=self._whole(one)) for one in works]

    def _whole(self, work: Work) -> Product:
        """A product of whole numbers: one plane of activations, a plane of weights for every term."""
        passes = self.weights.passes
        if work.kind == "attention":
            passes = (Pass(weight=(1,) * self.kv_terms),)
        return replace(work.product, activation=(1,), act_bits=self.setting.act_bits, passes=passes)


def _terms(
    name: str, terms: int, bits: int, group_bits: int, source: str, keep: int = 1, of: int = 1
) -> WeightFormat:
    """Weights of ``bits`` stored bits that take ``terms`` beats; of a pattern each has a 2-bit index."""
    return WeightFormat(
        name=name,
        passes=(Pass(weight=(1,) * terms, keep=keep, of=of),),
        group=128,
        planes=Fraction(bits * keep, of),
        masks=Fraction(2 * keep, of) if of > 1 else Fraction(0),
        group_bits=Fraction(group_bits),
        source=source,
    )


_KILOBYTE = 1024 * 8  #: bits
_BITMOD = "Chen et al., BitMoD, HPCA 2025, arXiv:2411.11745: 512 KB buffers, 128-bit DDR bus, 1 GHz"


def _bitmod(name: str, lanes: int, columns: int, weights: WeightFormat, kv: tuple[int, int]) -> Peer:
    """An array of the BitMoD evaluation. Its scale units keep pace with the shortest item: none is shared."""
    kv_bits, kv_terms = kv
    return Peer(
        name=name,
        array=ArraySpec(
            pe=TimedPe(lanes=lanes),
            rows=32,
            columns=columns,
            clock_hz=1e9,
            weight_buffer_bits=512 * _KILOBYTE,
            activation_buffer_bits=512 * _KILOBYTE,
            dram_bits_per_cycle=256,
        ),
        weights=weights,
        setting=Setting(act_bits=16, kv_bits=kv_bits, result_bits=16),
        kv_terms=kv_terms,
        source=_BITMOD,
    )


_INT8 = ArraySpec(pe=TimedPe(lanes=16), rows=8, columns=8)

#: Peers by name.
PEERS: Mapping[str, Peer] = MappingProxyType(
    {
        peer.name: peer
        for peer in (
            _bitmod("fp16", 1, 24, _terms("fp16", 1, 16, 0, _BITMOD), (16, 1)),
            _bitmod("bitmod-lossy", 4, 32, _terms("bitmod-fp4", 2, 4, 8, _BITMOD), (8, 4)),
            _bitmod("bitmod-lossless", 4, 32, _terms("bitmod-int6", 3, 6, 8, _BITMOD), (8, 4)),
            Peer(
                name="bismo-8x256x8",
                array=Dpa(rows=8, lanes=256, columns=8, clock_hz=200e6).array(dram_bits_per_cycle=64),
                weights=WeightFormat(
                    name="int4",
                    passes=(Pass(weight=(1, 2, 4, -8)),),
                    group=None,
                    planes=Fraction(4),
                    source="two's complement, no group scales",
                ),
                setting=Setting(act_bits=4, kv_bits=4),
                serial=True,
                source="Umuroglu et al., BISMO, FPL 2018, arXiv:1806.08862: 8x256x8 on PYNQ-Z1, 64-bit fetch",
            ),
            Peer(
                name="int8",
                array=_INT8,
                weights=_terms("int8", 1, 8, 16, "int8 with an fp16 scale of 128 columns"),
                setting=Setting(),
                source="bit-parallel int8: 8x8 PEs of 16 multiply-accumulates",
            ),
            Peer(
                name="int8-2:4",
                array=replace(_INT8, pack_kept=True),
                weights=_terms("int8-2:4", 1, 8, 16, "2:4, 2-bit index a kept weight", keep=2, of=4),
                setting=Setting(),
                source="2:4 sparse int8: Mishra et al., arXiv:2104.08378, on the array of int8",
            ),
        )
    }
)


def get(name: str) -> Peer:
    """Peer ``name``. Raises ValueError naming the peers if there is none of that name."""
    if name not in PEERS:
        raise ValueError(f"peer must be one of {', '.join(PEERS)}, not {name!r}")
    return PEERS[name]
