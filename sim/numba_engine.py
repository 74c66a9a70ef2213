"""The packed engine: exact integer sums by the fastest kernel that takes the case.

Kernels are the modules of `sim.kernels` (one file adds one); each lays a matrix out for its own algorithm
when it is first asked, and says what a call would cost. Whichever is chosen, the sums are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from algo.bitplane.activations import Activations
from algo.bitplane.decode import SUM_LIMIT, check_fit, sum_bound
from algo.bitplane.matrix import PackedMatrix
from sim.kernels.contract import Converts, Prepared, Writes, aligned, kernels
from sim.kernels.conversions import Outputs

Int = NDArray[np.int64]


Case = tuple[int, int, bool]  #: bits, tokens, whether groups have mantissas


@dataclass(frozen=True, eq=False)
class Lowered:
    """A matrix ready for the kernels; make it once, use it for any activations."""

    matrix: PackedMatrix
    _prepared: dict[tuple[str | None, str], Prepared | None] = field(default_factory=dict)
    _chosen: dict[tuple[str | None, Case], tuple[str, Prepared]] = field(default_factory=dict)

    @classmethod
    def of(cls, matrix: PackedMatrix) -> Lowered:
        """Nothing is laid out before it is needed."""
        return cls(matrix)

    def integer_sums(self, activations: Sequence[Activations], kernel: str | None = None) -> Int:
        """``S``, int64 [streams, tokens, rows].

        Parameters: activations, one per stream of the matrix, in its order; kernel, the name of the one to
        use, or None for the cheapest.

        Raises ValueError if an activation does not fit the matrix, a sum could leave int64, or there is no
        kernel of that name, or it does not take this case.
        """
        self._check(activations)
        shape = (len(activations), len(activations[0].values), self.matrix.rows)
        sums = aligned(8 * shape[0] * shape[1] * shape[2]).view(np.int64).reshape(shape)
        for out, stream, act in zip(sums, self._streams, activations, strict=True):
            _, prepared = self._choose(stream, act, kernel)
            # Asking for the protocol itself takes as long as a small product.
            put: Callable[[Activations, Int], None] | None = getattr(prepared, Writes.put.__name__, None)
            if put is not None:
                put(act, out)
            else:
                out[:] = 0
                prepared.add(act, out)
        return sums

    def outputs(self, activations: Sequence[Activations]) -> NDArray[np.float32]:
        """``y``, float32 [tokens, rows], as `algo.bitplane.decode.outputs` of `integer_sums`; its errors.

        Where a kernel can, each tile's sums are converted as they are done, and are never stored.
        """
        if len(activations) == len(self._streams) == 1:
            self._check(activations)
            act, out = activations[0], np.empty((len(activations[0].values), self.matrix.rows), np.float32)
            _, prepared = self._choose(self._streams[0], act, None)
            convert = getattr(prepared, Converts.convert.__name__, None)
            if convert is not None and convert(act, self._conversion.factor, out):
                return out
        return self._conversion.of(activations, self.integer_sums(activations))

    def choice(self, stream: str | None, act: Activations) -> str:
        """Name of the kernel that activations of a stream would be given to."""
        return self._choose(stream, act, None)[0]

    def prepared(self, stream: str | None, kernel: str) -> Prepared | None:
        """The weights of a stream as a kernel lays them out; None where they do not suit it."""
        key = (stream, kernel)
        if key not in self._prepared:
            if kernel not in kernels():
                raise ValueError(f"kernel must be one of {', '.join(kernels())}, not {kernel!r}")
            self._prepared[key] = kernels()[kernel].prepare(self.matrix, stream)
        return self._prepared[key]

    def _choose(self, stream: str | None, act: Activations, kernel: str | None) -> tuple[str, Prepared]:
        # A power of two stands for all counts of tokens up to it.
        case = (act.bits, 1 << max(0, len(act.values) - 1).bit_length(), act.mantissa is not None)
        if kernel is not None:
            one = self.prepared(stream, kernel)
            if one is None or one.cost(*case) is None:
                raise ValueError(
                    f"kernel must take {act.bits}-bit activations of this matrix, not {kernel!r}"
                )
            return kernel, one
        known = self._chosen.get((stream, case))
        if known is None:
            known = self._chosen[stream, case] = self._cheapest(stream, case)
        return known

    def _cheapest(self, stream: str | None, case: Case) -> tuple[str, Prepared]:
        costs: list[tuple[float, str, Prepared]] = []
        for name in kernels():
            candidate = self.prepared(stream, name)
            cost = None if candidate is None else candidate.cost(*case)
            if candidate is not None and cost is not None:
                costs.append((cost, name, candidate))
        _, name, chosen = min(costs, key=lambda found: found[0])
        return name, chosen

    def _check(self, activations: Sequence[Activations]) -> None:
        """`check_fit`, whose bound over all rows and groups is worked out once."""
        shape = (len(activations[0].values) if activations else 0, self.matrix.columns)
        fits, lane = len(activations) == len(self._streams), 0
        for act in activations:
            widest = act.limit
            if act.mantissa is not None:
                fits = fits and act.mantissa.shape[1] == self._groups
                widest *= int(np.abs(act.mantissa).max(initial=0))
            fits, lane = fits and act.values.shape == shape, max(lane, widest)
        if not fits or self._reach * lane >= SUM_LIMIT:
            check_fit(self.matrix, activations)

    @cached_property
    def _conversion(self) -> Outputs:
        return Outputs(self.matrix)

    @cached_property
    def _streams(self) -> tuple[str | None, ...]:
        return self.matrix.streams

    @cached_property
    def _groups(self) -> int:
        return self.matrix.groups

    @cached_property
    def _reach(self) -> float:
        """No sum of activations of -1, 0 and 1 is larger."""
        scale, values = np.zeros(0, np.float32), np.zeros((0, self.matrix.columns), np.int64)
        one = Activations(values=values, bits=1, scale=scale)
        return sum_bound(self.matrix, [one] * len(self.matrix.streams))


def integer_sums(matrix: PackedMatrix, activations: Sequence[Activations]) -> Int:
    """``S``, int64 [streams, tokens, rows], of a matrix used once."""
    return Lowered.of(matrix).integer_sums(activations)
