"""What a matrix product asks of PEs: dot products by place value, and the steps that make one."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from hw.integers import require_int


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A dot product an output needs ``count`` times: ``columns`` digits of given place values.

    ``weight`` and ``activation`` hold one signed power of two per plane: INT4 two's complement is
    ``(1, 2, 4, -8)``, one sign plane ``(1,)``, a trit ``(1, -1)``.
    """

    columns: int
    weight: tuple[int, ...]
    activation: tuple[int, ...]
    count: int = 1
    w_bipolar: bool = False  #: a weight plane's digits are -1/+1, not 0/1
    x_bipolar: bool = False  #: an activation plane's digits are -1/+1, not 0/1
    masked: bool = False  #: some entries count 0 whatever their digits
    kept: tuple[int, int] = (1, 1)  #: of every M columns at most N count: an N:M pattern, as (N, M)
    digits: tuple[int, ...] = ()  #: integers the weight planes make, ascending, if not all that they could

    def __post_init__(self) -> None:
        require_int("columns", self.columns, 0)
        require_int("count", self.count, 0)
        for name in ("weight", "activation"):
            for place in getattr(self, name):
                require_power_of_two(name, place)
        if any(b <= a for a, b in pairwise(self.digits)):
            raise ValueError(f"digits must ascend, not {self.digits!r}")

    @property
    def w_digits(self) -> tuple[int, ...]:
        """Integers that a column's weight planes stand for, ascending.

        >>> Segment(columns=1, weight=(1, -1), activation=(1,)).w_digits
        (-1, 0, 1)
        """
        if self.digits:
            return self.digits
        sums = {0}
        for place in self.weight:
            sums = {s + d for s in sums for d in (-place if self.w_bipolar else 0, place)}
        return tuple(sorted(sums))

    @property
    def w_range(self) -> tuple[int, int]:
        """Smallest and largest integer that a column's weight planes stand for."""
        return digit_range(self.weight, self.w_bipolar)

    @property
    def x_range(self) -> tuple[int, int]:
        """Smallest and largest integer that a column's activation planes stand for."""
        return digit_range(self.activation, self.x_bipolar)


def digit_range(places: tuple[int, ...], bipolar: bool) -> tuple[int, int]:
    """Smallest and largest integer of planes of these places.

    >>> digit_range((1, 2, -4), False), digit_range((1, 2), True)
    ((-4, 3), (-3, 3))
    """
    low, high = sum(p for p in places if p < 0), sum(p for p in places if p > 0)
    return (low - high, high - low) if bipolar else (low, high)


def require_power_of_two(name: str, value: int) -> None:
    """Refuse a place value that is no signed power of two (Horner's scheme only doubles and negates)."""
    if value == 0 or abs(value) & (abs(value) - 1):
        raise ValueError(f"{name} must hold signed powers of two, not {value!r}")


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What one matrix product asks of a PE array: ``tokens`` x ``rows`` outputs, each all ``segments``."""

    tokens: int
    rows: int
    segments: tuple[Segment, ...]

    def __post_init__(self) -> None:
        require_int("tokens", self.tokens, 0)
        require_int("rows", self.rows, 0)

    def macs(self) -> int:
        """One-bit multiply-accumulates of the product (plane pairs times entries)."""
        per_output = sum(s.count * s.columns * len(s.weight) * len(s.activation) for s in self.segments)
        return self.tokens * self.rows * per_output


@dataclass(frozen=True)
class Step:
    """The planes a beat takes of either operand, and what Horner's scheme asks of it.

    Planes are indices into ``weight`` and ``activation`` of a segment, or into a PE's own code of a digit
    (`PeSpec.w_code`). One may come twice: the top plane of two's complement extends the sign.
    """

    w: tuple[int, ...]  #: weight planes, the first in the lowest bits of the word
    x: tuple[int, ...]  #: activation planes likewise; neither has any in a bubble, which only doubles
    shift: bool
    neg: bool
    w_bipolar: bool | None = None  #: the beats' flag of this name; None: as the segment says
    x_bipolar: bool | None = None

    def kinds(self, segment: Segment) -> dict[str, bool]:
        """The flags that tell the kinds of digits, of the step's beats."""
        own = {"w_bipolar": self.w_bipolar, "x_bipolar": self.x_bipolar}
        return {name: getattr(segment, name) if kind is None else kind for name, kind in own.items()}

    @property
    def bubble(self) -> bool:
        """Whether no lane counts."""
        return not self.w

    @property
    def w_plane(self) -> int:
        """The one weight plane of a serial step; -1 in a bubble."""
        return self.w[0] if self.w else -1

    @property
    def x_plane(self) -> int:
        """The one activation plane of a serial step; -1 in a bubble."""
        return self.x[0] if self.x else -1


def horner(weight: tuple[int, ...], activation: tuple[int, ...]) -> tuple[Step, ...]:
    """Plane pairs of a product, highest place first; a lower place begins with a doubling.

    Pairs of one place follow each other in plane order. Where a place holds no pair, a bubble doubles.
    The last place is 1: ``sum_ij weight[i] * activation[j] * dot_ij`` results exactly.

    >>> [(s.w_plane, s.x_plane, s.shift, s.neg) for s in horner((1, -2), (1,))]
    [(1, 0, False, True), (0, 0, True, False)]
    """
    places: dict[int, list[tuple[int, int, bool]]] = {}
    for i, w in enumerate(weight):
        require_power_of_two("weight", w)
        for j, x in enumerate(activation):
            require_power_of_two("activation", x)
            exponent = (abs(w) * abs(x)).bit_length() - 1
            places.setdefault(exponent, []).append((i, j, (w < 0) != (x < 0)))
    steps: list[Step] = []
    for exponent in range(max(places, default=-1), -1, -1):
        pairs = places.get(exponent, [])
        doubling = bool(steps)
        if not pairs:
            steps.append(Step((), (), doubling, False))
        for i, j, neg in pairs:
            steps.append(Step((i,), (j,), doubling, neg))
            doubling = False
    return tuple(steps)
