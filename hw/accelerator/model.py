"""The accelerator in plain Python: what packets mean, one after the other. The definition the RTL is held to.

No clocks, no queues, no halves in flight: only results, completions and errors, in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from hw.accelerator.commands import FILLS, FLAGS, RUN_WORDS, VERSION, Error, Opcode
from hw.accelerator.scale import Product
from hw.accelerator.spec import STEP_FIELDS, AcceleratorSpec
from hw.spec import Beat, wrap


@dataclass(frozen=True, kw_only=True)
class Completion:
    """How a run, or a packet that failed, ended."""

    tag: int
    error: Error = Error.NONE


class Failure(Exception):
    """A packet that cannot be carried out."""

    def __init__(self, error: Error) -> None:
        super().__init__(error.name)
        self.error = error


def unpack(word: int, widths: dict[str, int]) -> dict[str, int]:
    """Fields of a word, the first in the lowest bits."""
    found = {}
    for name, bits in widths.items():
        found[name] = word & ((1 << bits) - 1)
        word >>= bits
    return found


def packets_of(words: Sequence[int], lasts: Sequence[bool]) -> list[list[int]]:
    """The words of each packet that is whole."""
    found, packet = [], []
    for word, last in zip(words, lasts, strict=True):
        packet.append(word)
        if last:
            found.append(packet)
            packet = []
    return found


HEADER = {"version": 8, "opcode": 8, "tag": 16, "address": 16, "count": 16}


@dataclass
class Model:
    """Feed packets to `packet`; read ``tiles`` (their bytes) and ``completions``."""

    spec: AcceleratorSpec
    tiles: list[bytes] = field(default_factory=list)
    completions: list[Completion] = field(default_factory=list)
    beats: int = 0  #: taken by the array

    def __post_init__(self) -> None:
        self.buffers = self.spec.buffers()
        self.memory = {
            name: [[0] * buffer.elements for _ in range(2 * buffer.depth)]
            for name, buffer in self.buffers.items()
        }
        self.places = self.spec.items()
        self.acc = [0] * (self.spec.rows * self.spec.columns)
        self.unit = self.spec.scale_unit()
        self.sums = [[0] * self.spec.rows for _ in range(self.spec.columns)]
        self.broken = True  # no tile has begun

    def packet(self, words: Sequence[int]) -> None:
        """Carry out the words up to and including the one with TLAST."""
        head = unpack(words[0], HEADER)
        try:
            self._carry_out(head, words[1:])
        except Failure as failure:
            self.broken = True
            self.completions.append(Completion(tag=head["tag"], error=failure.error))

    def _carry_out(self, head: dict[str, int], payload: Sequence[int]) -> None:
        if head["version"] != VERSION:
            raise Failure(Error.VERSION)
        known = [op for op in Opcode if op == Opcode.RUN or FILLS[op] in self.buffers]
        if head["opcode"] not in known:
            raise Failure(Error.OPCODE)
        if head["opcode"] == Opcode.RUN:
            if head["count"] != len(RUN_WORDS) or len(payload) != len(RUN_WORDS):
                raise Failure(Error.LENGTH)
            run: dict[str, int] = {}
            for word, widths in zip(payload, RUN_WORDS, strict=True):
                run |= unpack(word, widths)
            self._run(run, head["tag"])
        else:
            self._load(Opcode(head["opcode"]), head["address"], head["count"], payload)

    def _load(self, opcode: Opcode, address: int, count: int, payload: Sequence[int]) -> None:
        name = FILLS[opcode]
        buffer = self.buffers[name]
        if not count:
            raise Failure(Error.COUNT)
        if address >= 2 * buffer.depth or address % buffer.depth + count > buffer.depth:
            raise Failure(Error.ADDRESS)
        if not payload:
            raise Failure(Error.LENGTH)
        everywhere = opcode == Opcode.LOAD_SCALE_ALL
        each = 1 if everywhere else buffer.words
        for at, word in enumerate(payload[: count * each]):
            entry = self.memory[name][address + at // each]
            for part in buffer.parts():
                if everywhere:
                    entry[part.element] = word & ((1 << part.bits) - 1)
                elif part.word == at % each:
                    bits = (word >> part.offset) & ((1 << part.bits) - 1)
                    entry[part.element] &= ~(((1 << part.bits) - 1) << part.low)
                    entry[part.element] |= bits << part.low
        if len(payload) != count * each:
            raise Failure(Error.LENGTH)

    def _check(self, run: dict[str, int], flags: dict[str, bool]) -> None:
        if not all(run[name] for name in ("rows", "columns", "chunks", "groups", "tiles", "steps")):
            raise Failure(Error.COUNT)
        if run["rows"] > self.spec.rows or run["columns"] > self.spec.columns:
            raise Failure(Error.COUNT)
        narrows = flags["narrow"] and flags["drain"]
        used = [name for name in self.buffers if name != "requant" or narrows]
        for name in used:
            if run[f"{name}_base"] >= 2 * self.buffers[name].depth:
                raise Failure(Error.ADDRESS)
        steps = self.buffers["steps"]
        if run["steps_base"] % steps.depth + run["steps"] > steps.depth:
            raise Failure(Error.ADDRESS)
        if run["tiles"] > 1 and not (flags["clear"] and flags["drain"]):
            raise Failure(Error.ORDER)

    def _run(self, run: dict[str, int], tag: int) -> None:
        flags = {name: bool(run["flags"] & bit) for name, bit in FLAGS.items()}
        self._check(run, flags)
        if self.broken and not flags["clear"]:
            raise Failure(Error.ORDER)
        self.broken = False
        pointers = {name: run[f"{name}_base"] % self.buffers[name].depth for name in self.buffers}
        for _ in range(run["tiles"]):
            self._tile(run, flags, pointers)
            pointers["x"] = run["x_base"] % self.buffers["x"].depth
            if flags["mask_stays"] and self.spec.masked:
                pointers["mask"] = run["mask_base"] % self.buffers["mask"].depth
        self.completions.append(Completion(tag=tag))

    def _tile(self, run: dict[str, int], flags: dict[str, bool], pointers: dict[str, int]) -> None:
        steps = [
            unpack(self.memory["steps"][run["steps_base"] + at][0], STEP_FIELDS) for at in range(run["steps"])
        ]
        fresh = flags["clear"]
        for group in range(run["groups"]):
            for index, step in enumerate(steps):
                for chunk in range(1 if step["bubble"] else run["chunks"]):
                    at_end = index == len(steps) - 1
                    if (index == 0 and not step["first"]) or (at_end and not step["last"]):
                        raise Failure(Error.TABLE)
                    ends = bool(step["last"] and (step["bubble"] or chunk == run["chunks"] - 1))
                    finishes = at_end and ends and group == run["groups"] - 1 and flags["drain"]
                    reads = self._addresses(run, step, chunk, pointers)
                    if ends:
                        self._check_item(run, pointers, finishes and flags["narrow"])
                    self._beat(run, step, chunk, ends, reads)
                    if ends:
                        self._item(run, flags, pointers, fresh, finishes)
                        fresh = False
            for name in ("w", "mask", "x"):
                if name in pointers:
                    pointers[name] += run[f"{name}_stride"]

    def _addresses(
        self, run: dict[str, int], step: dict[str, int], chunk: int, pointers: dict[str, int]
    ) -> dict[str, int]:
        """Where a beat's words lie, by buffer; none for a bubble."""
        if step["bubble"]:
            return {}
        found: dict[str, int] = {}
        for name in ("w", "x", "mask"):
            if name in self.buffers:
                depth = self.buffers[name].depth
                offset = pointers[name] + chunk * run[f"{name}_step"] + step.get(name, 0)
                if offset >= depth:
                    raise Failure(Error.ADDRESS)
                found[name] = run[f"{name}_base"] // depth * depth + offset
        return found

    def _check_item(self, run: dict[str, int], pointers: dict[str, int], narrows: bool) -> None:
        for name in ("scale", "requant") if narrows else ("scale",):
            if pointers[name] + run["rows"] > self.buffers[name].depth:
                raise Failure(Error.ADDRESS)

    def _beat(
        self, run: dict[str, int], step: dict[str, int], chunk: int, ends: bool, reads: dict[str, int]
    ) -> None:
        pe = self.spec.array.pe
        self.beats += 1
        flags = {
            "w_bipolar": bool(step["w_bipolar"]),
            "x_bipolar": bool(step["x_bipolar"]),
            "first": bool(step["first"]) and chunk == 0,
            "shift": bool(step["shift"]) and chunk == 0,
            "neg": bool(step["neg"]),
            "last": ends,
        }
        given = {name: self.memory[name][address] for name, address in reads.items()}
        for output, acc in enumerate(self.acc):
            at, own = divmod(output, pe.outputs)
            r, c = divmod(at, self.spec.array.columns)
            words = {
                name: given[name][c if name == "x" else r] if name in given else 0
                for name in ("w", "x", "mask")
            }
            self.acc[output] = pe.golden(acc, Beat(**words, **flags), own)  # type: ignore[arg-type]

    def _item(
        self,
        run: dict[str, int],
        flags: dict[str, bool],
        pointers: dict[str, int],
        fresh: bool,
        finishes: bool,
    ) -> None:
        """Items of all rows onto their sums, and out where the tile ends."""
        tile = b""
        base = run["scale_base"] // self.buffers["scale"].depth * self.buffers["scale"].depth
        for row in range(run["rows"]):
            entry = self.memory["scale"][base + pointers["scale"] + row]
            product = Product(
                items=tuple(self.acc[at] for at in self.places[row]),
                mantissas=tuple(wrap(m, self.spec.scale_bits) for m in entry),
                row=row,
                first=fresh,
                last=finishes,
            )
            self.sums = self.unit.golden(self.sums, product)
            if finishes:
                tile += self._out(run, flags["narrow"], pointers["requant"] + row, row)
        pointers["scale"] += run["rows"]
        if finishes:
            pointers["requant"] += run["rows"] if flags["narrow"] else 0
            self.tiles.append(tile)

    def _out(self, run: dict[str, int], narrow: bool, offset: int, row: int) -> bytes:
        sums = [self.sums[column][row] for column in range(run["columns"])]
        if not narrow:
            return b"".join(s.to_bytes(self.spec.sum_bits // 8, "little", signed=True) for s in sums)
        unit, depth = self.spec.requantizer(), self.buffers["requant"].depth
        factor = self.memory["requant"][run["requant_base"] // depth * depth + offset][0]
        mantissa = wrap(factor % (1 << unit.mantissa_bits), unit.mantissa_bits)
        shift = factor >> unit.mantissa_bits
        return b"".join(unit.golden(s, mantissa, shift).to_bytes(1, "little", signed=True) for s in sums)
