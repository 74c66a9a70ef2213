"""Operand buffers: two halves, a narrow write side fed by the bus, a wide read side fed to the array.

An entry holds several elements, such as a weight word for each row. Every element (and every bus word's
part of a long one) is a memory of its own with sequential addresses, so that no write touches more than it
must and no read selects among more than a depth: block memory, not registers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from amaranth import Cat, Module
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from hw.spec import require_int

#: What synthesis may assume of a memory: no entry is read in the clock that writes it, since a load waits
#: until nothing reads the half that it fills. Else block memory gets registers around it that would tell.
#: Yosys knows the first name, Vivado the second.
NO_COLLISION = {"no_rw_check": 1, "rw_addr_collision": "no"}


@dataclass(frozen=True, kw_only=True)
class Part:
    """Bits that one bus word brings to one element of an entry."""

    word: int  #: number of the bus word within the entry
    element: int
    low: int  #: lowest of the element's bits
    bits: int
    offset: int  #: where they stand in the bus word


@dataclass(frozen=True, kw_only=True)
class BufferSpec:
    """``2 * depth`` entries of ``elements`` words of ``bits``; the upper half of the addresses is half 1."""

    elements: int
    bits: int
    depth: int  #: entries of a half, a power of two
    bus: int = 64  #: bits of a word on the write side

    def __post_init__(self) -> None:
        for name in ("elements", "bits", "bus"):
            require_int(name, getattr(self, name), 1)
        require_int("depth", self.depth, 1, 1 << 15)
        if self.depth & (self.depth - 1):
            raise ValueError(f"depth must be a power of two, not {self.depth!r}")

    @property
    def address_bits(self) -> int:
        """Bits of an address; the top one is the half."""
        return (2 * self.depth - 1).bit_length()

    def parts(self) -> tuple[Part, ...]:
        """How bus words make up an entry: short elements share a word, long ones take several."""
        if self.bits <= self.bus:
            each = self.bus // self.bits
            return tuple(
                Part(word=e // each, element=e, low=0, bits=self.bits, offset=e % each * self.bits)
                for e in range(self.elements)
            )
        count = -(-self.bits // self.bus)
        return tuple(
            Part(
                word=e * count + k,
                element=e,
                low=k * self.bus,
                bits=min(self.bus, self.bits - k * self.bus),
                offset=0,
            )
            for e in range(self.elements)
            for k in range(count)
        )

    @property
    def words(self) -> int:
        """Bus words of an entry."""
        return self.parts()[-1].word + 1

    @property
    def memory_bits(self) -> int:
        """Bits of both halves."""
        return 2 * self.depth * self.elements * self.bits

    def pack(self, entry: Sequence[int]) -> list[int]:
        """Bus words that bring the elements of an entry; negative ones in two's complement.

        Raises ValueError if there is another number of elements.
        """
        if len(entry) != self.elements:
            raise ValueError(f"entry must hold {self.elements} elements, not {len(entry)}")
        found = [0] * self.words
        for part in self.parts():
            value = (entry[part.element] >> part.low) & ((1 << part.bits) - 1)
            found[part.word] |= value << part.offset
        return found

    def create(self) -> Buffer:
        """Amaranth component with exactly these parameters."""
        return Buffer(self)


class Buffer(wiring.Component):
    """RTL of `BufferSpec`. A read is there one clock later, and stays while ``r_en`` is 0.

    With ``w_all`` the lowest bits of a bus word go to every element of the entry.
    """

    def __init__(self, spec: BufferSpec) -> None:
        self.spec = spec
        super().__init__(
            {
                "w_en": In(1),
                "w_all": In(1),
                "w_addr": In(spec.address_bits),
                "w_word": In(range(max(spec.words, 2))),
                "w_data": In(spec.bus),
                "r_en": In(1),
                "r_addr": In(spec.address_bits),
                "r_data": Out(data.ArrayLayout(spec.bits, spec.elements)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        spec = self.spec
        read = []
        for part in spec.parts():
            bank = memory.Memory(shape=part.bits, depth=2 * spec.depth, init=[], attrs=NO_COLLISION)
            m.submodules[f"bank{part.element}_{part.low}"] = bank
            write, out = bank.write_port(), bank.read_port()
            own = self.w_data[part.offset : part.offset + part.bits]
            common = self.w_data[: part.bits]
            everywhere = self.w_all & (self.w_word == part.low // spec.bus)
            m.d.comb += [
                write.addr.eq(self.w_addr),
                write.en.eq(self.w_en & (everywhere | ~self.w_all & (self.w_word == part.word))),
                out.addr.eq(self.r_addr),
                out.en.eq(self.r_en),
            ]
            with m.If(self.w_all):
                m.d.comb += write.data.eq(common)
            with m.Else():
                m.d.comb += write.data.eq(own)
            read.append(out.data)
        m.d.comb += self.r_data.as_value().eq(Cat(read))
        return m
