"""Which block format suits a tensor: noise predicted from its crest factors, and measured beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Integers and floats of one width, by bits of an element: names, columns of a block, elements as predicted.
#: Power-of-two scales by the rule that clips nothing, as the prediction has them.
PAIRS: dict[str, tuple[tuple[str, str], int, tuple[str, str]]] = {
    "8": (("mxint8-ceil", "mxfp8-e4m3-ceil"), 32, ("int8", "e4m3")),
    "6": (("mxint6-ceil", "mxfp6-e2m3-ceil"), 32, ("int6", "e2m3")),
    "4": (("mxint4-ceil", "mxfp4-ceil"), 32, ("int4", "e2m1")),
    "4, fine scales": (("nvint4", "nvfp4"), 16, ("int4", "e2m1")),
}
SEED = 0  #: of the random signs in front of a rotation


@dataclass(frozen=True, kw_only=True)
class Advice:
    """One tensor at one width."""

    tensor: str
    bits: str  #: key of `PAIRS`
    crest: float  #: third quartile of its blocks' crest factors
    crossover: float  #: crest factor where both are predicted equal: above it the float wins
    predicted: tuple[float, float]  #: signal to noise of integers and floats [dB]
    measured: tuple[float, float]  #: likewise

    @property
    def row(self) -> dict[str, Any]:
        """A line of the table."""
        names = PAIRS[self.bits][0]
        line: dict[str, Any] = {"tensor": self.tensor, "bits": self.bits}
        line |= {"crest factor": round(self.crest, 2), "crossover": round(self.crossover, 2)}
        for kind, values in (("predicted", self.predicted), ("measured", self.measured)):
            line |= {f"INT {kind} [dB]": round(values[0], 2), f"FP {kind} [dB]": round(values[1], 2)}
        line |= {"predicted": names[self.predicted[1] > self.predicted[0]]}
        return line | {"winner": names[self.measured[1] > self.measured[0]]}


def recommend(source: Path, tensor: str | None = None, rotate: int = 0) -> list[Advice]:
    """Every pair of formats on a tensor, or on each linear layer of a Hugging Face directory.

    Parameters: rotate, columns of a block that random signs and a Hadamard matrix spread first; 0: none.

    Raises ValueError for a source that cannot be read, or a rotation that does not divide the columns.
    """
    return [one for name, weight in _tensors(source, tensor) for one in of_tensor(name, weight, rotate)]


def of_tensor(name: str, weight: NDArray[Any], rotate: int = 0) -> list[Advice]:
    """Every pair of formats on one matrix, float [rows, columns]."""
    import numpy as np

    from algo.bitplane.decode import dequantize
    from algo.bitplane.hadamard import rotated
    from algo.formats import catalog, scaling
    from algo.guidance import qsnr

    if rotate:
        signs = np.where(np.random.default_rng(SEED).random(weight.shape[1]) < 0.5, -1.0, 1.0)
        weight = rotated(np.asarray(weight, np.float64) * signs, rotate) / np.sqrt(rotate)
    found = []
    for bits, (names, block, elements) in PAIRS.items():
        overhead, exact = (qsnr.POWER_OF_TWO, None) if block == 32 else (qsnr.EXACT, block)
        one, other = (qsnr.ELEMENTS[element] for element in elements)
        crest, power = qsnr.crest_factors(weight, block), _powers(weight, block)
        noise = [float(power @ 10 ** (-kind.qsnr(crest, overhead, exact) / 10)) for kind in (one, other)]
        kept = [dequantize(scaling.quantize(weight, catalog.get(name))) for name in names]
        found.append(
            Advice(
                tensor=name,
                bits=bits,
                crest=float(np.quantile(crest, 0.75)),
                crossover=qsnr.crossover(one, other, overhead, exact),
                predicted=(_decibels(float(power.sum()), noise[0]), _decibels(float(power.sum()), noise[1])),
                measured=(qsnr.measured(weight, kept[0]), qsnr.measured(weight, kept[1])),
            )
        )
    return found


def _powers(weight: NDArray[Any], block: int) -> NDArray[Any]:
    """Sum of squares of every block that is not all 0, as `crest_factors` goes through them."""
    import numpy as np

    sums = np.add.reduceat(np.asarray(weight, np.float64) ** 2, np.arange(0, weight.shape[1], block), axis=1)
    return np.asarray(sums[sums > 0])


def _decibels(signal: float, noise: float) -> float:
    from math import log10

    return 10 * log10(signal / noise)


def _tensors(source: Path, tensor: str | None) -> Iterator[tuple[str, NDArray[Any]]]:
    from algo import checkpoint

    if not source.is_dir():
        yield tensor or source.name, checkpoint.read_tensor(source, tensor)
        return
    for name, layer in checkpoint.linear_layers(checkpoint.load(source).model):
        if tensor is None or name == tensor:
            yield name, layer.weight.detach().float().numpy()
