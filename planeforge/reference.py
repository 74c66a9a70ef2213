"""The fp16 reference: the model with every weight rounded to fp16, and those weights as bit planes.

Every finite float format is a set of multiples of its smallest positive value, so float weights are
integers times one power of two, and integers are two's-complement planes: what a bit-serial array can run
without rounding anything. How many planes that takes is read off the weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from algo.bitplane import words
from algo.bitplane.build import EXPONENT_BITS
from algo.bitplane.format import Digit
from algo.bitplane.ints import Ints
from algo.bitplane.matrix import PackedMatrix, Term
from algo.bitplane.planes import Plane
from hw.spec import Activity, ArraySpec, signed_bits

if TYPE_CHECKING:
    from algo.checkpoint import Checkpoint

WEIGHT_BITS = 16  #: of a stored fp16 weight
ROLE = "fp16 weights"  #: where a study's bit bill books them
MANTISSA_BITS = 32  #: widest integer a packed matrix can multiply an item by


@dataclass(frozen=True, kw_only=True)
class Rounded:
    """A checkpoint in fp16, and what the rounding to it did."""

    checkpoint: Checkpoint  #: weights are fp16 values, held in float32
    weights: int  #: in the whole model
    changed: int  #: of them, how many were no fp16 values before
    largest: float  #: largest change, as a share of the largest weight of its tensor


def rounded(checkpoint: Checkpoint) -> Rounded:
    """``checkpoint`` with every weight rounded to the nearest fp16 value; the given one stays as it is.

    Raises ValueError naming the tensor if a weight is too large for fp16.
    """
    import copy

    import torch

    model = copy.deepcopy(checkpoint.model)
    weights, changed, largest = 0, 0, 0.0
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            half = tensor.half().float()
            if not bool(torch.isfinite(half).all()):
                raise ValueError(f"{name} must fit fp16 (at most 65504), not {float(tensor.abs().max())!r}")
            weights += tensor.numel()
            changed += int((half != tensor).sum())
            peak = float(tensor.abs().max())
            largest = max(largest, float((half - tensor).abs().max()) / peak if peak else 0.0)
            tensor.copy_(half)
    return Rounded(
        checkpoint=replace(checkpoint, model=model), weights=weights, changed=changed, largest=largest
    )


def integers(weight: ArrayLike) -> tuple[NDArray[np.int64], int]:
    """``weight`` as integers times ``2**exponent``, exact, with the largest exponent that does it.

    Raises ValueError if it is not finite, or spans more than int64 holds.
    """
    array = np.asarray(weight, np.float64)
    if not np.all(np.isfinite(array)):
        raise ValueError("weight must be finite, not NaN or infinity")
    if not np.any(array):
        return np.zeros(array.shape, np.int64), 0
    fraction, power = np.frexp(array[array != 0])
    whole = np.ldexp(fraction, 53).astype(np.int64)
    # The lowest set bit of an integer is what it shares with its negative.
    trailing = np.log2((whole & -whole).astype(np.float64)).astype(np.int64)
    exponent = int((power - 53 + trailing).min())
    span = int(power.max()) - exponent
    if span > 62:
        raise ValueError(f"weight must span at most 62 bits from its largest to its smallest, not {span}")
    return np.ldexp(array, -exponent).astype(np.int64), exponent


def lower(weight: ArrayLike, *, acc_width: int, act_bits: int) -> PackedMatrix:
    """Float weights [rows, columns] as two's-complement planes, exact: what the array runs.

    The planes are as many as the largest magnitude needs, and a sign. They are cut into terms, each no wider
    than a PE's accumulator takes over a whole row of activations of ``act_bits``.

    Raises ValueError if the weights are not finite or not of two axes, or no plane fits the accumulator.
    """
    values, exponent = integers(weight)
    if values.ndim != 2:
        raise ValueError(f"weight must have two axes [rows, columns], not shape {list(values.shape)}")
    rows, columns = values.shape
    width = signed_bits(int(values.min()), int(values.max()))
    most = _planes_per_term(columns, acc_width, act_bits)
    # Terms of like width: the last one's place value stays smallest.
    share = -(-width // -(-width // most))
    last = (width - 1) // share * share
    if last > MANTISSA_BITS - 2:
        raise ValueError(
            f"acc_width must take more than {most} planes a term for {width}-bit weights, not {acc_width!r}"
        )
    terms, planes, ints = [], {}, {}
    for first in range(0, width, share):
        names = [f"bit{p}" for p in range(first, min(first + share, width))]
        places = [1 << p for p in range(len(names))]
        if first == last:
            places[-1] *= -1
        ints[f"place{first}"] = Ints(np.full((1, 1), 1 << first, np.int64), MANTISSA_BITS, signed=True)
        terms.append(
            Term(planes=tuple(names), coefs=tuple(places), digit=Digit.UNIPOLAR, scale=f"place{first}")
        )
        for p, name in enumerate(names, first):
            role = "sign planes" if p == width - 1 else "extra planes"
            planes[name] = Plane(words.pack(((values >> p) & 1).astype(np.bool_)), role)
    return PackedMatrix(
        rows=rows,
        columns=columns,
        group=columns,
        terms=tuple(terms),
        planes=planes,
        ints=ints,
        exponent=Ints(np.full((rows, 1), exponent, np.int64), EXPONENT_BITS, signed=True),
    )


def _planes_per_term(columns: int, acc_width: int, act_bits: int) -> int:
    """Most planes whose weighted sum over a row of activations fits the accumulator."""
    limit = 1 if act_bits == 1 else 1 << (act_bits - 1)

    def needed(planes: int) -> int:
        reach = ((1 << planes) - 1) * limit * columns
        return signed_bits(-reach, reach)

    if needed(1) > acc_width:
        raise ValueError(f"acc_width must be at least {needed(1)} for {columns} columns, not {acc_width!r}")
    return next(planes for planes in range(acc_width, 0, -1) if needed(planes) <= acc_width)


def as_stored(activity: Activity, matrix: PackedMatrix, array: ArraySpec, tokens: int) -> Activity:
    """The activity of a lowered matrix whose weights cross the memory port as fp16, not as planes."""
    from algo.bitplane.storage import stored_bytes

    entries = matrix.rows * matrix.columns

    def fetched(bits: int) -> int:
        """A tile of rows that does not fit its buffer is fetched again for every tile of tokens."""
        fits = bits * min(array.rows, matrix.rows) // matrix.rows <= array.weight_buffer_bits
        return bits if fits else bits * -(-tokens // array.columns)

    planes = fetched(8 * sum(stored_bytes(matrix).values()))
    return replace(activity, dram_bits=activity.dram_bits - planes + fetched(WEIGHT_BITS * entries))


def lowered_layers(
    model: Any, array: ArraySpec, act_bits: int, progress: Callable[[float], None] = lambda share: None
) -> dict[str, PackedMatrix]:
    """Every layer a study quantizes, by name, lowered as it is."""
    from algo.checkpoint import linear_layers

    layers = linear_layers(model)
    matrices = {}
    for index, (name, layer) in enumerate(layers):
        weight = layer.weight.detach().double().numpy()
        matrices[name] = lower(weight, acc_width=array.pe.acc_width, act_bits=act_bits)
        progress((index + 1) / len(layers))
    return matrices
