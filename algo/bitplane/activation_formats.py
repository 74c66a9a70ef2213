"""Activation formats: which integers stand for real activations, and how a token's scales are held.

An element is an integer in units of the format's smallest value: every finite float format is a set of
integers. Scales of a column group are mantissas, the token's own factor stands outside every sum. To add a
format, add it to `FIXED`, or a family of names to `get`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import gcd

import numpy as np
from numpy.typing import ArrayLike, NDArray

from algo.bitplane.activations import MAX_BITS, Activations, quantize_activations
from algo.bitplane.hadamard import rotated_activations
from algo.bitplane.matrix import PackedMatrix
from algo.bitplane.planes import PerGroup

Floats = NDArray[np.float32]
Int = NDArray[np.int64]

#: Scale mantissas of a token span at most so many bits: groups further below the token's largest are coarser
#: than their format has them, by less than 2**-SPREAD of that largest value.
SPREAD = 20
#: Largest mantissa of a group scale held as a share of the token's [1].
SHARES = 255
#: E4M3 scales in units of their smallest value, 2**-9: the largest, 448, and the mantissa bits.
E4M3_TOP, E4M3_MANTISSA = 448 << 9, 3

_MX = "OCP Microscaling Formats (MX) Specification 1.0, sections 5 and 6"
_NV = "NVIDIA, Pretraining Large Language Models with NVFP4, arXiv:2509.25149, section 2 and appendix C"
_INT_FP = "Chen et al., arXiv:2510.25602, section 2"


@dataclass(frozen=True, kw_only=True)
class ActFormat:
    """How activations are rounded to integers."""

    name: str
    top: int  #: largest magnitude of an element, in its units
    mantissa: int | None = None  #: stored mantissa bits of a float element; None: every integer is one
    group: int | None = None  #: columns that share a scale; None: a token's
    #: rule of the scale: "token" (real, one a token), "share" (of the token's), "floor" and "ceil" (powers of
    #: two), "e4m3"
    scale: str = "token"
    source: str

    def __post_init__(self) -> None:
        if self.bits > MAX_BITS:
            raise ValueError(
                f"format must have integers of at most {MAX_BITS} bits, not the {self.bits} of {self.name}"
            )

    @property
    def bits(self) -> int:
        """Planes of an element: its integer in two's complement; 1 for signs."""
        return 1 if self.top == 0 else self.top.bit_length() + 1

    def quantize(
        self, x: ArrayLike, col: NDArray[np.float32] | NDArray[np.float16] | None = None
    ) -> Activations:
        """Activations nearest to ``x``, float [tokens, columns]; ties go to the even code.

        ``col``, float [columns], multiplies x first, in float32. Raises ValueError if x is not finite or of
        two axes.
        """
        if self.scale == "token":
            return quantize_activations(x, self.bits, col)
        array = np.asarray(x, np.float32)
        if array.ndim != 2 or not np.all(np.isfinite(array)):
            raise ValueError(f"activations must be finite and of two axes, not of shape {list(array.shape)}")
        if col is not None:
            array = array * col.astype(np.float32)
        of_column = np.arange(array.shape[1]) // self._group
        peak = np.maximum.reduceat(np.abs(array), np.arange(0, array.shape[1], self._group), axis=1)
        mantissa, scale = self._scales(peak)
        real = mantissa.astype(np.float64) * scale[:, None]
        quotient = array / np.where(real > 0, real, 1.0)[:, of_column]
        values = np.where((real > 0)[:, of_column], nearest(quotient, self.mantissa), 0.0)
        integers = np.clip(values, -self.top, self.top).astype(np.int64)
        return Activations(values=integers, bits=self.bits, scale=scale, mantissa=mantissa)

    @property
    def _group(self) -> int:
        if self.group is None:
            raise ValueError(f"group must be given for scale rule {self.scale!r}, not None")
        return self.group

    def _scales(self, peak: Floats) -> tuple[Int, Floats]:
        """Mantissas int64 [tokens, groups] and factors float32 [tokens] of groups' largest magnitudes."""
        if self.scale == "share":
            return self._shares(peak)
        return self._e4m3(peak) if self.scale == "e4m3" else self._powers(peak)

    def _powers(self, peak: Floats) -> tuple[Int, Floats]:
        wide = peak.astype(np.float64)
        some = wide > 0
        if self.scale == "floor":
            power = np.frexp(np.where(some, wide, 1.0))[1] - self.top.bit_length()
        else:
            share, power = np.frexp(np.where(some, wide, 1.0) / self.top)
            power = power - (share == 0.5)
        # What float32 cannot hold as a factor is no activation either.
        power = np.clip(power, -120, 120)
        highest = np.max(np.where(some, power, -120), axis=1, keepdims=True)
        lowest = np.maximum(np.min(np.where(some, power, 120), axis=1, keepdims=True), highest - SPREAD)
        lowest = np.minimum(lowest, highest)
        mantissa = np.where(some, np.left_shift(1, np.clip(power - lowest, 0, SPREAD)), 0)
        return mantissa.astype(np.int64), np.ldexp(np.float32(1), lowest[:, 0]).astype(np.float32)

    def _shares(self, peak: Floats) -> tuple[Int, Floats]:
        most = peak.max(axis=1, initial=0, keepdims=True).astype(np.float64)
        factor = (most[:, 0] / (self.top * SHARES)).astype(np.float32)
        factor = np.where(factor > 0, factor, np.float32(1))
        mantissa = np.ceil(peak / (factor[:, None].astype(np.float64) * self.top))
        return np.clip(mantissa, 0, SHARES).astype(np.int64), factor

    def _e4m3(self, peak: Floats) -> tuple[Int, Floats]:
        most = peak.max(axis=1, initial=0)
        # A unit of the element times one of the scale; the largest block's scale is then E4M3's largest.
        factor = (most / np.float32(self.top) / np.float32(E4M3_TOP)).astype(np.float32)
        factor = np.where(factor > 0, factor, np.float32(1))
        wanted = peak / np.float32(self.top) / factor[:, None]
        return np.clip(nearest(wanted, E4M3_MANTISSA), 0, E4M3_TOP).astype(np.int64), factor

    def regrouped(self, matrix: PackedMatrix) -> PackedMatrix:
        """The matrix with groups that no group of activations straddles: itself, or its scales repeated."""
        return matrix if self.group is None else regrouped(matrix, self.group)

    def streams(self, matrix: PackedMatrix, x: ArrayLike) -> list[Activations]:
        """The streams that a matrix, regrouped, reads of float activations [tokens, columns], unrotated."""
        x = entering(matrix, x)
        factors = [None if name is None else matrix.factors[name] for name in matrix.streams]
        return [self._on(matrix, self.quantize(x, factor)) for factor in factors]

    def _on(self, matrix: PackedMatrix, act: Activations) -> Activations:
        if act.mantissa is None:
            return act
        first = np.arange(0, matrix.columns, matrix.group)
        return replace(act, mantissa=act.mantissa[:, first // self._group], in_range=True)


def entering(matrix: PackedMatrix, x: ArrayLike) -> ArrayLike:
    """Float activations [tokens, columns] as a matrix reads them: rotated in float32, where it is rotated.

    What comes of it is what is quantized: an outlier's share of its group's scale is then its block's.
    Raises ValueError if they do not fit the rotation, or stay no finite numbers.
    """
    if matrix.rotate is None:
        return x
    array = np.asarray(x, np.float32)
    if array.ndim != 2 or array.shape[1] != matrix.columns:
        raise ValueError(f"activations must be [tokens, {matrix.columns}], not {list(array.shape)}")
    return rotated_activations(array, matrix.rotate)


def nearest(values: NDArray[np.floating], mantissa: int | None) -> NDArray[np.floating]:
    """The nearest element of every value, in units of the smallest, ties to the even code; no largest one.

    Elements are integers, or with ``mantissa`` bits floats whose step is 1 up to ``2**(mantissa + 1)``.
    """
    if mantissa is None:
        return np.asarray(np.rint(values))
    binade = np.frexp(values)[1] - 1
    step = np.ldexp(1.0, np.maximum(binade - mantissa, 0)).astype(values.dtype)
    return np.asarray(np.rint(values / step) * step)


def regrouped(matrix: PackedMatrix, group: int) -> PackedMatrix:
    """A matrix that computes the same, its groups cut at every multiple of ``group`` columns too.

    Scales, offsets, zero points and indices are repeated as they are: for computing, not for storing.
    """
    one = matrix.group >= matrix.columns
    common = min(group, matrix.columns) if one else gcd(group, matrix.group)
    if common == matrix.group:
        return matrix
    of = np.arange(0, matrix.columns, common) // matrix.group
    ints = {name: replace(found, values=found.values[:, of]) for name, found in matrix.ints.items()}
    planes = {
        name: replace(plane, bits=plane.bits[:, of]) if isinstance(plane, PerGroup) else plane
        for name, plane in matrix.planes.items()
    }
    return replace(matrix, group=common, ints=ints, planes=planes)


def _named(name: str, **given: object) -> tuple[str, ActFormat]:
    return name, ActFormat(name=name, **given)  # type: ignore[arg-type]


def _mx(name: str, top: int, mantissa: int | None, source: str = _MX) -> Sequence[tuple[str, ActFormat]]:
    """A block format of 32 columns with either rule of its power-of-two scale."""
    return [
        _named(name, top=top, mantissa=mantissa, group=32, scale="floor", source=source),
        _named(f"{name}-ceil", top=top, mantissa=mantissa, group=32, scale="ceil", source=_INT_FP),
    ]


#: Formats with names of their own. Tops are in units of the smallest value: 6 of E2M1 is 12 halves.
FIXED: dict[str, ActFormat] = dict([
    _named("sign", top=0, source="Rastegari et al., XNOR-Net, arXiv:1603.05279, section 3.2"),
    *_mx("mxint8", 127, None),
    *_mx("mxint6", 31, None, _INT_FP),
    *_mx("mxint4", 7, None, _INT_FP),
    *_mx("mxfp8-e4m3", 448 << 9, 3),
    *_mx("mxfp6-e3m2", 448, 2),
    *_mx("mxfp6-e2m3", 60, 3),
    *_mx("mxfp4", 12, 1),
    _named("nvfp4", top=12, mantissa=1, group=16, scale="e4m3", source=_NV),
    _named("nvint4", top=7, group=16, scale="e4m3", source=_INT_FP),
])  # fmt: skip

#: The one element of the MX standard that is too wide, by name: its top and mantissa bits.
_TOO_WIDE = {"mxfp8-e5m2": (57344 << 16, 2)}

_PARAMETRIC = re.compile(r"(?P<kind>int|bfp)(?P<bits>[1-9]\d*)(-g(?P<group>[1-9]\d*))?")
_PATTERNS = "intB, intB-gN, bfpB-gN"


def get(name: str) -> ActFormat:
    """An activation format: one of `FIXED`, or ``int8``, ``int4-g128``, ``bfp12-g16`` and their like.

    ``intB``: B bits, symmetric, a real scale a token; with ``-gN`` each N columns have a share of it, of 8
    bits. ``bfpB-gN``: block floating point, N columns of B bits, sign included, under one exponent.

    Raises ValueError for any other name or widths that the engines do not take.
    """
    if name in FIXED:
        return FIXED[name]
    if name in _TOO_WIDE:
        return dict(_mx(name, *_TOO_WIDE[name]))[name]
    found = _PARAMETRIC.fullmatch(name)
    if found is None or (found["kind"] == "bfp" and not found["group"]):
        raise ValueError(f"act-format must be one of {', '.join(FIXED)}, {_PATTERNS}, not {name!r}")
    bits, group = int(found["bits"]), int(found["group"]) if found["group"] else None
    if not 2 <= bits <= MAX_BITS:
        raise ValueError(f"act-format must have 2 to {MAX_BITS} bits, not {name!r}")
    rule = "floor" if found["kind"] == "bfp" else "token" if group is None else "share"
    source = "symmetric integers: Nagel et al., arXiv:2106.08295, section 2.2"
    if found["kind"] == "bfp":
        source = "block floating point: Drumond et al., arXiv:1804.01526, section 4"
    return ActFormat(name=name, top=(1 << (bits - 1)) - 1, group=group, scale=rule, source=source)
