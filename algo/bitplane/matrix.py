"""The data contract: a quantized matrix is a sum of terms over stored arrays.

::

    W[m,k] = 2**exponent[m] * row[m] * sum_t mask_t[m,k] * col_t[k] *
             (scale_t[m,g] * (sum_p coef_tp * digit(plane_tp[m,k]) - zero_t[m,g]) + offset_t[m,g])

Rows ``m`` are output channels, columns ``k`` input channels, ``g = k // group``. Scale and offset are integer
mantissas; the real factors stand outside every sum. Terms name the arrays they use, so an array that two
terms use is stored and counted once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from algo.bitplane import expression, words
from algo.bitplane.format import Digit
from algo.bitplane.ints import Ints

#: What a stored array is for; the order of the storage bill.
ROLES = (
    "sign planes",
    "extra planes",
    "masks",
    "indices",
    "scales",
    "offsets",
    "zeros",
    "exponents",
    "factors",
)


@dataclass(frozen=True, eq=False)
class Plane:
    """Stored bits: words uint64 [rows, ceil(columns/64)], or [1, ...] where all rows share them."""

    words: words.Words
    role: str = "sign planes"

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise ValueError(f"role must be one of {', '.join(ROLES)}, not {self.role!r}")
        if self.words.dtype != np.uint64 or self.words.ndim != 2:
            raise ValueError(f"words must be uint64 of two axes, not {self.words.dtype} {self.words.shape}")


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
    planes: Mapping[str, Plane]
    ints: Mapping[str, Ints]  #: scales, offsets, zero points
    exponent: Ints  #: [rows, 1], power of two of each row's scales
    row: NDArray[np.float32] | None = None  #: [rows] real factor of each row
    factors: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)  #: [columns] each, for ``col``

    def __post_init__(self) -> None:
        for name in ("rows", "columns", "group"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} must be a positive integer, not {value!r}")
        if not self.terms:
            raise ValueError("terms must hold at least one term, not ()")
        for name, plane in self.planes.items():
            self._check_plane(name, plane)
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
        stored = {name: self.planes[name].words for name in expression.plane_names(text)}
        return np.broadcast_to(expression.evaluate(text, stored, ok), shape)

    def _real_factors(self) -> dict[str, NDArray[np.float32]]:
        return {**self.factors} | ({} if self.row is None else {"row": self.row})

    def _check_plane(self, name: str, plane: Plane) -> None:
        wanted = words.word_count(self.columns)
        if plane.words.shape[0] not in (1, self.rows) or plane.words.shape[1] != wanted:
            raise ValueError(
                f"plane {name} must have shape [{self.rows} or 1, {wanted}], not {list(plane.words.shape)}"
            )
        if np.any(plane.words & ~words.valid(self.columns)):
            raise ValueError(f"plane {name} must have pad bits 0 beyond column {self.columns}, not 1")

    def _check_shape(self, name: str, shape: tuple[int, ...], groups: int) -> None:
        if shape[0] not in (1, self.rows) or shape[1] != groups:
            raise ValueError(f"{name} must have shape [{self.rows} or 1, {groups}], not {list(shape)}")

    def _check_factor(self, name: str, factor: NDArray[np.float32]) -> None:
        wanted = self.rows if name == "row" else self.columns
        if factor.dtype != np.float32 or factor.shape != (wanted,):
            raise ValueError(
                f"{name} must be float32 of shape [{wanted}], not {factor.dtype} {list(factor.shape)}"
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
