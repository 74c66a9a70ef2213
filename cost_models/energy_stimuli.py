"""Operands that a PE's energy is measured under: how dense, how long held, how wide the numbers are.

A stimulus is a run of beats of any PE: words of random bits, drawn by density, kept for a number of beats.
Half of the stimuli are fitted to, the others (`Stimulus.held_out`) judge the fit; no density, hold or item
length of one half occurs in the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hw.spec import Beat, PeSpec

Bits = NDArray[np.bool_]

#: clocks of a stimulus that are counted
COUNTED = 96
#: clocks before them: a pipeline's depth of contents of the stimulus before
SETTLING = 16


@dataclass(frozen=True)
class Stimulus:
    """How operands move.

    Densities are shares of ones; a hold is for how many beats a word stays; a narrow operand holds numbers
    of one bit up to all bits, in two's complement, each as likely, where it has planes.
    """

    name: str
    w_bipolar: bool = False
    x_bipolar: bool = False
    w_density: float = 0.5
    x_density: float = 0.5
    mask_density: float = 1.0
    w_hold: int = 1
    x_hold: int = 1
    mask_hold: int = COUNTED + SETTLING
    w_narrow: bool = False
    x_narrow: bool = False
    item: int = 16  #: beats of an item
    held_out: bool = False


_EVER = COUNTED + SETTLING

STIMULI = (
    Stimulus("random"),
    Stimulus("random signs", w_bipolar=True, x_bipolar=True),
    Stimulus("narrow activations", w_bipolar=True, x_narrow=True),
    Stimulus("narrow both", w_narrow=True, x_narrow=True),
    Stimulus("sparse weights", w_density=0.2),
    Stimulus("sparse activations", w_bipolar=True, x_density=0.1, x_narrow=True),
    Stimulus("sparse both", w_density=0.1, x_density=0.1),
    Stimulus("held weights", w_bipolar=True, w_hold=16, x_narrow=True),
    Stimulus("held activations", x_hold=16, w_narrow=True),
    Stimulus("both held", w_bipolar=True, w_hold=8, x_hold=8, mask_density=0.5),
    Stimulus("frozen", w_hold=_EVER, x_hold=_EVER),
    Stimulus("moving mask", w_bipolar=True, mask_density=0.5, mask_hold=1),
    Stimulus("dense, long items", w_density=0.35, x_density=0.35, item=48, held_out=True),
    Stimulus("signs by planes", w_bipolar=True, x_density=0.25, w_hold=3, item=24, held_out=True),
    Stimulus("narrow, thin", w_density=0.3, w_narrow=True, x_narrow=True, item=40, held_out=True),
    Stimulus("short hold", x_hold=4, w_narrow=True, x_bipolar=True, item=24, held_out=True),
    Stimulus("thin mask", w_bipolar=True, mask_density=0.3, mask_hold=5, item=40, held_out=True),
)


def beats(spec: PeSpec, stimulus: Stimulus, seed: int, count: int = COUNTED + SETTLING) -> list[Beat]:
    """So many beats of ``stimulus``, for a PE; the same ``seed`` gives the same.

    An item doubles every fourth beat, and its second half is subtracted, where the PE does either.
    """
    rng = np.random.default_rng((seed, *stimulus.name.encode()))
    words = spec.words()
    w = _words(rng, words["w"], _planes(words["w"], spec, spec.rows), stimulus, "w", count)
    x = _words(rng, words["x"], _planes(words["x"], spec, spec.tokens), stimulus, "x", count)
    mask = _words(rng, words.get("mask", 0), 1, stimulus, "mask", count)
    out = []
    for clock in range(count):
        at = clock % stimulus.item
        out.append(
            Beat(
                w=w[clock // stimulus.w_hold],
                x=x[clock // stimulus.x_hold],
                mask=mask[clock // stimulus.mask_hold],
                w_bipolar=stimulus.w_bipolar,
                x_bipolar=stimulus.x_bipolar,
                first=at == 0,
                shift=at % 4 == 0 and at > 0,
                neg=2 * at >= stimulus.item,
                last=at == stimulus.item - 1,
            )
        )
    return out


def _planes(bits: int, spec: PeSpec, together: int) -> int:
    """Planes of a word whose lanes are numbers; 1 where several rows or tokens stand side by side."""
    return bits // spec.lanes if together == 1 and bits % spec.lanes == 0 else 1


def _words(
    rng: np.random.Generator, bits: int, planes: int, stimulus: Stimulus, name: str, count: int
) -> list[int]:
    """The different words of a run, as integers."""
    if not bits:
        return [0] * count
    n = -(-count // getattr(stimulus, f"{name}_hold"))
    drawn: Bits = rng.random((n, bits)) < getattr(stimulus, f"{name}_density")
    if planes > 1 and getattr(stimulus, f"{name}_narrow", False):
        drawn = _narrow(rng, drawn.reshape(n, planes, -1)).reshape(n, bits)
    packed = np.packbits(drawn, axis=1, bitorder="little")
    return [int.from_bytes(row.tobytes(), "little") for row in packed]


def _narrow(rng: np.random.Generator, drawn: Bits) -> Bits:
    """Numbers bool [n, planes, lanes] of 1 to all planes each, those above copies of the highest of them."""
    top = rng.integers(0, drawn.shape[1], (drawn.shape[0], 1, drawn.shape[2]))
    plane = np.arange(drawn.shape[1])[None, :, None]
    return np.asarray(np.take_along_axis(drawn, np.minimum(plane, top), axis=1))


def ports(spec: PeSpec, run: Sequence[Beat]) -> dict[str, list[int]]:
    """The run as values of the PE's ports, a beat offered and an item taken on every clock."""
    offsets: dict[str, int] = {}
    at = 0
    for name, bits in spec.fields().items():
        offsets[name] = at
        at += bits
    ones = [1] * len(run)
    return {
        "i__payload": [sum(int(getattr(beat, n)) << o for n, o in offsets.items()) for beat in run],
        "i__valid": ones,
        "o__ready": ones,
        "rst": [int(clock < 2) for clock in range(len(run))],
    }


def run_of(spec: PeSpec, stimuli: Sequence[Stimulus]) -> tuple[list[Beat], dict[str, tuple[int, int]]]:
    """All stimuli one after the other, and the clocks of each that are counted."""
    run: list[Beat] = []
    windows = {}
    for seed, stimulus in enumerate(stimuli):
        run += beats(spec, stimulus, seed)
        windows[stimulus.name] = (len(run) - COUNTED, len(run))
    return run, windows
