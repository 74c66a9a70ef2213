"""What every engine that executes a PE is given, and what it must give back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hw.beats import Beats, Run
from hw.spec import PeSpec

#: Clocks a run goes on after the last item, beyond the pipeline's depth: one item too many would show.
SPARE_CLOCKS = 16


@dataclass(frozen=True, kw_only=True, eq=False)
class Stimulus:
    """Drive of one run. Clock 0 is the first after reset; both streams follow `PeSpec.stalled_cycles`."""

    payload: NDArray[np.uint32]  #: [beats, words] of port ``i.payload``, low word first
    offered: NDArray[np.bool_]  #: [clocks]: the source begins to offer its next beat; true past the end
    ready: NDArray[np.bool_]  #: [clocks]: the sink would take an item; true past the end
    expected: int  #: items the beats finish
    item_bits: int  #: of an accumulator
    outputs: int  #: accumulators, side by side on port ``o.payload``
    spare: int  #: clocks to go on after the last beat and the last item
    limit: int  #: clocks after which a run that has not ended has lost something

    @classmethod
    def of(cls, spec: PeSpec, beats: Beats, offered: ArrayLike = (), ready: ArrayLike = ()) -> Stimulus:
        """The drive of ``beats``.

        Raises ValueError if the beats are not of the PE, if its items may not fit int64, or if a stall
        pattern is no vector.
        """
        if spec.acc_width > 64:
            raise ValueError(f"acc_width must be at most 64 to execute RTL, not {spec.acc_width!r}")
        stalls = {"offered": np.asarray(offered, np.bool_), "ready": np.asarray(ready, np.bool_)}
        for name, pattern in stalls.items():
            if pattern.ndim != 1:
                raise ValueError(f"{name} must be bool [clocks], not of shape {list(pattern.shape)}")
        spare = spec.latency() + SPARE_CLOCKS
        return cls(
            payload=beats.payload(spec),
            offered=np.ascontiguousarray(stalls["offered"]),
            ready=np.ascontiguousarray(stalls["ready"]),
            expected=int(beats.lasts.sum()),
            item_bits=spec.acc_width,
            outputs=spec.outputs,
            spare=spare,
            limit=len(beats) + stalls["offered"].size + stalls["ready"].size + 2 * spare,
        )

    @property
    def item_words(self) -> int:
        """32-bit words of port ``o.payload``."""
        return -(-self.item_bits * self.outputs // 32)

    def run(self, items: Sequence[int] | NDArray[np.uint32], handed_over: int, cycles: int) -> Run:
        """What was observed.

        Parameters: items, port ``o.payload`` each time, as integers or as uint32 [n, `item_words`] low first
        Raises:     RuntimeError if items were lost or invented
        """
        if handed_over != self.expected:
            raise RuntimeError(
                f"the PE must hand over {self.expected} items for these beats, not {handed_over!r}"
            )
        size = 4 * self.item_words
        if isinstance(items, np.ndarray):
            data = items.astype("<u4", copy=False).tobytes()
        else:
            data = b"".join((item % (1 << 8 * size)).to_bytes(size, "little") for item in items)
        bits = np.unpackbits(np.frombuffer(data, np.uint8).reshape(-1, size), axis=1, bitorder="little")
        fields = bits[:, : self.item_bits * self.outputs].reshape(-1, self.outputs, self.item_bits)
        wide = np.repeat(fields[:, :, -1:], 64, axis=2)  # the sign, wherever the item ends
        wide[:, :, : self.item_bits] = fields
        values = np.packbits(wide, axis=2, bitorder="little").view("<i8")[:, :, 0].astype(np.int64)
        return Run(items=values[:, 0] if self.outputs == 1 else values, cycles=cycles)
