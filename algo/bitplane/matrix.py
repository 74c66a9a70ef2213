"""The data contract: a quantized matrix is a sum of terms over stored arrays.

::

    W[m,k] = 2**exponent[m] * row[m] * sum_t mask_t[m,k] * col_t[k] *
             (scale_t[m,g] * (sum_p coef_tp * digit(plane_tp[m,k]) - zero_t[m,g]) + offset_t[m,g])

Rows ``m`` are output channels, columns ``k`` input channels, ``g = k // group``. Scale and offset are integer
mantissas; the real factors stand outside every sum. Terms name the arrays they use, so an array that two
terms use is stored and counted once.

A rotated matrix (``rotate``) holds ``W H``, H block Hadamard, and reads activations that are rotated too,
before they are quantized: ``W[m,k]`` above is then an entry of the rotated one (`algo.bitplane.hadamard`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from algo.bitplane import expression, words
from algo.bitplane.format import Digit
from algo.bitplane.hadamard import check_block
from algo.bitplane.ints import Ints
from algo.bitplane.planes import Gathered, Pattern, PerGroup, Plane, Stored


@dataclass(frozen=True, kw_only=True)
class Term:
    """One summand. Planes and mask are expressions over stored planes; the rest name stored arrays."""

    planes: tuple[str, ...]
    coefs: tuple[int, ...]
    digit: Digit
    scale: str
    mask: str | None = None  #: None: every entry
    zero: str | None = None  #: integer zero points, taken off the digit
    offset: str | None = None  #: mantissas added on the mask
    col: str | None = None  #: real column factors; they scale the activations, never a weight plane

    def __post_init__(self) -> None:
        if len(self.planes) != len(self.coefs) or not self.planes:
            raise ValueError(f"coefs must hold one integer per plane, not {self.coefs!r} for {self.planes!r}")
        if any(not isinstance(c, int) or isinstance(c, bool) or c == 0 for c in self.coefs):
            raise ValueError(f"coefs must be non-zero integers, not {self.coefs!r}")

    def digit_range(self) -> tuple[int, int]:
        """Smallest and largest digit before the zero point."""
        positive = sum(c for c in self.coefs if c > 0)
        negative = sum(c for c in self.coefs if c < 0)
        if self.digit is Digit.UNIPOLAR:
            return negative, positive
        return negative - positive, positive - negative


@dataclass(frozen=True, kw_only=True, eq=False)
class PackedMatrix:
    """A quantized matrix as it is stored, simulated and built. Checked whole when made."""

    rows: int
    columns: int
    group: int  #: columns that share a scale; the last group may be short
    terms: tuple[Term, ...]
    planes: Mapping[str, Stored]  #: a gathered plane stands behind those its mask reads
    ints: Mapping[str, Ints]  #: scales, offsets, zero points
    exponent: Ints  #: [rows, 1], power of two of each row's scales
    row: NDArray[np.float32] | None = None  #: [rows] real factor of each row
    #: [columns] each, float32 or, where fp16 holds them, float16: what ``col`` names
    factors: Mapping[str, NDArray[np.float32] | NDArray[np.float16]] = field(default_factory=dict)
    rotate: int | None = None  #: columns of a block that is rotated, activations likewise; None: none is

    def __post_init__(self) -> None:
        for name in ("rows", "columns", "group"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} must be a positive integer, not {value!r}")
        if self.rotate is not None:
            check_block(self.columns, self.rotate)
        if not self.terms:
            raise ValueError("terms must hold at least one term, not ()")
        for name in self.planes:
            if name in expression.PAIRS or not name.isidentifier():
                raise ValueError(f"plane name must be an identifier and no function, not {name!r}")
        _ = self._dense
        for name, ints in {**self.ints}.items():
            self._check_shape(name, ints.values.shape, self.groups)
        self._check_shape("exponent", self.exponent.values.shape, 1)
        for name, factor in self._real_factors().items():
            self._check_factor(name, factor)
        for term in self.terms:
            self._check_names(term)

    @property
    def groups(self) -> int:
        """Column groups in a row."""
        return -(-self.columns // self.group)

    @property
    def streams(self) -> tuple[str | None, ...]:
        """Activation streams, by column factor, in the order terms first use them."""
        return tuple(dict.fromkeys(term.col for term in self.terms))

    @property
    def group_of(self) -> NDArray[np.int64]:
        """Group of each column, int64 [columns]."""
        return np.arange(self.columns) // self.group

    def words_of(self, text: str | None) -> words.Words:
        """Words uint64 [rows, ceil(columns/64)] of a plane expression; None: every entry."""
        ok = words.valid(self.columns)
        shape = (self.rows, len(ok))
        if text is None:
            return np.broadcast_to(ok, shape)
        return np.broadcast_to(self._evaluate(text, self._dense), shape)

    def dense(self, name: str) -> words.Words:
        """Words uint64 [rows or 1, ceil(columns/64)] of a stored plane, however it is stored."""
        return self._dense[name]

    @cached_property
    def _dense(self) -> dict[str, words.Words]:
        """Every stored plane as words, checked."""
        found: dict[str, words.Words] = {}
        for name, plane in self.planes.items():
            if isinstance(plane, Plane):
                found[name] = plane.words
            elif isinstance(plane, Pattern):
                found[name] = self._spread_pattern(name, plane)
            elif isinstance(plane, PerGroup):
                self._check_shape(name, plane.bits.shape, self.groups)
                found[name] = plane.spread(self.columns, self.group)
            else:
                found[name] = self._spread_gathered(name, plane, found)
            self._check_words(name, found[name])
        return found

    def _spread_pattern(self, name: str, plane: Pattern) -> words.Words:
        wanted = -(-self.columns // plane.of)
        if plane.codes.shape[1] != wanted:
            raise ValueError(f"plane {name} must have {wanted} codes a row, not {plane.codes.shape[1]}")
        return plane.spread(self.columns)

    def _spread_gathered(self, name: str, plane: Gathered, before: Mapping[str, words.Words]) -> words.Words:
        for needed in expression.plane_names(plane.on):
            if needed not in before:
                raise ValueError(f"plane {name} must be gathered on planes stored before it, not {needed!r}")
        shape = (self.rows, words.word_count(self.columns))
        mask = np.broadcast_to(self._evaluate(plane.on, before), shape)
        try:
            return plane.spread(mask, self.columns)
        except ValueError as error:
            raise ValueError(f"plane {name}: {error}") from None

    def _evaluate(self, text: str, dense: Mapping[str, words.Words]) -> words.Words:
        return expression.evaluate(text, dense, words.valid(self.columns))

    def _real_factors(self) -> dict[str, NDArray[np.float32] | NDArray[np.float16]]:
        return {**self.factors} | ({} if self.row is None else {"row": self.row})

    def _check_words(self, name: str, found: words.Words) -> None:
        wanted = words.word_count(self.columns)
        if found.shape[0] not in (1, self.rows) or found.shape[1] != wanted:
            raise ValueError(
                f"plane {name} must have shape [{self.rows} or 1, {wanted}], not {list(found.shape)}"
            )
        if np.any(found & ~words.valid(self.columns)):
            raise ValueError(f"plane {name} must have pad bits 0 beyond column {self.columns}, not 1")

    def _check_shape(self, name: str, shape: tuple[int, ...], groups: int) -> None:
        if shape[0] not in (1, self.rows) or shape[1] != groups:
            raise ValueError(f"{name} must have shape [{self.rows} or 1, {groups}], not {list(shape)}")

    def _check_factor(self, name: str, factor: NDArray[np.float32] | NDArray[np.float16]) -> None:
        wanted = self.rows if name == "row" else self.columns
        kinds = (np.float32,) if name == "row" else (np.float32, np.float16)
        if factor.dtype not in kinds or factor.shape != (wanted,):
            listed = " or ".join(np.dtype(kind).name for kind in kinds)
            raise ValueError(
                f"{name} must be {listed} of shape [{wanted}], not {factor.dtype} {list(factor.shape)}"
            )
        if not np.all(np.isfinite(factor)):
            raise ValueError(f"{name} must be finite, not NaN or infinity")

    def _check_names(self, term: Term) -> None:
        used = [*term.planes, *([term.mask] if term.mask is not None else [])]
        for name in (name for text in used for name in expression.plane_names(text)):
            if name not in self.planes:
                raise ValueError(f"plane must be one of {', '.join(self.planes)}, not {name!r}")
        for field_name in ("scale", "zero", "offset"):
            name = getattr(term, field_name)
            if name not in self.ints and not (name is None and field_name != "scale"):
                raise ValueError(f"{field_name} must be one of {', '.join(self.ints)}, not {name!r}")
        if term.col is not None and term.col not in self.factors:
            raise ValueError(f"col must be one of {', '.join(self.factors)}, not {term.col!r}")
