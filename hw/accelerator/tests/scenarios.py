"""Random packets, most of them sound: what the RTL and the model are compared on."""

from __future__ import annotations

import random

from hw.accelerator.commands import FILLS, FLAGS, RUN_WORDS, Load, Opcode, Run, factor_entry, header, packed
from hw.accelerator.spec import STEP_FIELDS, AcceleratorSpec


def table(rng: random.Random, steps: int) -> list[list[int]]:
    """Entries of a table: items of a few steps each, the first one begun and the last one ended."""
    found, begins = [], True
    for at in range(steps):
        ends = at == steps - 1 or rng.random() < 0.3
        fields = {name: rng.getrandbits(1) for name in STEP_FIELDS}
        fields |= {"w": rng.randrange(3), "x": rng.randrange(3), "bubble": rng.random() < 0.15}
        fields |= {"first": begins, "last": ends}
        found.append([packed({name: int(value) for name, value in fields.items()}, STEP_FIELDS)])
        begins = ends
    return found


def load(rng: random.Random, spec: AcceleratorSpec, opcode: Opcode, half: int, whole: bool = False) -> Load:
    """Random entries for a range of a half; a table in whole."""
    buffer = spec.buffers()[FILLS[opcode]]
    begin = 0 if whole or opcode == Opcode.LOAD_STEPS else rng.randrange(buffer.depth)
    room = buffer.depth - begin
    count = room if whole else min(room, rng.randint(1, 6))
    if opcode == Opcode.LOAD_STEPS:
        entries = table(rng, count)
    elif opcode == Opcode.LOAD_REQUANT:
        entries = [factor_entry(rng.randint(-90, 90), rng.randrange(30), spec) for _ in range(count)]
    else:
        entries = [[rng.getrandbits(buffer.bits) for _ in range(buffer.elements)] for _ in range(count)]
    return Load(opcode=opcode, address=half * buffer.depth + begin, entries=entries, tag=rng.getrandbits(16))


def run(rng: random.Random, spec: AcceleratorSpec) -> Run:
    """A descriptor that mostly stays within its halves."""
    bases = {
        f"{name}_base": buffer.depth * rng.randrange(2) + rng.choice([0, 0, min(1, buffer.depth - 1)])
        for name, buffer in spec.buffers().items()
    }
    bases["steps_base"] = rng.randrange(2) * spec.step_depth
    tiles = rng.choice([1, 1, 1, 2])
    clear = tiles > 1 or rng.random() < 0.7
    return Run(
        **bases,
        w_stride=rng.randrange(4),
        x_stride=rng.randrange(4),
        mask_stride=rng.randrange(2),
        w_step=rng.randrange(4),
        x_step=rng.randrange(4),
        mask_step=rng.randrange(2),
        rows=rng.randint(1, spec.rows),
        columns=rng.randint(1, spec.columns),
        chunks=rng.randint(1, 3),
        groups=rng.randint(1, 2),
        tiles=tiles,
        steps=rng.choice([spec.step_depth, spec.step_depth, rng.randint(1, spec.step_depth)]),
        clear=clear,
        drain=tiles > 1 or rng.random() < 0.7,
        narrow=rng.random() < 0.5,
        mask_stays=rng.random() < 0.5,
        tag=rng.getrandbits(16),
    )


def spoiled(rng: random.Random, words: list[int]) -> list[int]:
    """The same packet with something wrong in it, or nearly so."""
    words = list(words)
    kind = rng.randrange(6)
    if kind == 0:
        words[0] ^= 1 << rng.randrange(8)  # version
    elif kind == 1:
        words[0] = (words[0] & ~0xFF00) | rng.getrandbits(8) << 8  # opcode
    elif kind == 2:
        words[0] = (words[0] & ~(0xFFFF << 48)) | rng.choice([0, 5, 300]) << 48  # count
    elif kind == 3:
        del words[rng.randint(1, len(words)) :]
    elif kind == 4:
        words += [rng.getrandbits(64) for _ in range(rng.randint(1, 5))]
    else:
        at = rng.randrange(len(words))
        words[at] ^= 1 << rng.randrange(64)
    return words


def packets(rng: random.Random, spec: AcceleratorSpec, count: int, spoil: float = 0.15) -> list[list[int]]:
    """All buffers filled once, then ``count`` packets of any kind, two in five of them runs."""
    opcodes = [op for op in FILLS if FILLS[op] in spec.buffers()]
    found = [
        load(rng, spec, op, half, whole=True).words(spec)
        for op in opcodes
        for half in (0, 1)
        if op != Opcode.LOAD_SCALE_ALL
    ]
    for _ in range(count):
        is_run = rng.random() < 0.4
        command = run(rng, spec) if is_run else load(rng, spec, rng.choice(opcodes), rng.randrange(2))
        words = command.words(spec)
        found.append(spoiled(rng, words) if rng.random() < spoil else words)
    return found


def longest(words: list[int]) -> int:
    """Beats that a packet may take, if it is a run: to keep random ones short."""
    if len(words) != len(RUN_WORDS) + 1 or words[0] >> 8 & 0xFF != Opcode.RUN:
        return 0
    fields: dict[str, int] = {}
    for word, widths in zip(words[1:], RUN_WORDS, strict=True):
        for name, bits in widths.items():
            fields[name] = word & ((1 << bits) - 1)
            word >>= bits
    return fields["tiles"] * fields["groups"] * fields["steps"] * fields["chunks"]


def flags_of(words: list[int]) -> int:
    """Flags of a run's packet."""
    return words[3] >> 40 & sum(FLAGS.values())


def bare_header(opcode: int, count: int) -> list[int]:
    """A packet that ends with its header."""
    return [header(opcode, 1, 0, count)]
