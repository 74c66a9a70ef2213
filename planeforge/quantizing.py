"""One tensor through a method: the packed matrix, its honest bits, and what it cost in accuracy."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from planeforge import settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from algo.bitplane.matrix import PackedMatrix
    from algo.bitplane.store import Provenance
    from algo.formats.quantized import Quantized


@dataclass(frozen=True, kw_only=True)
class QuantizedTensor:
    """A packed matrix and the figures `planeforge quantize --json` prints of it."""

    matrix: PackedMatrix
    inner: PackedMatrix | None = None  #: of a matrix held as a product of two: what meets the activations
    provenance: Provenance
    figures: Mapping[str, Any] = field(default_factory=dict)

    @property
    def matrices(self) -> dict[str, PackedMatrix]:
        """What is stored, named as `algo.formats.stages` says; the tensor's own name is ``weight``."""
        from algo.formats.stages import INNER

        inner = {} if self.inner is None else {"weight" + INNER: self.inner}
        return {**inner, "weight": self.matrix}


def quantize(
    weight: ArrayLike,
    method: str,
    format: str | None = None,
    *,
    calibration: ArrayLike | None = None,
    holdout: ArrayLike | None = None,
    rotate: int | None = None,
    **settings_given: Any,
) -> QuantizedTensor:
    """Quantize one matrix.

    Parameters: weight, float [rows, columns]; method and format by name; calibration and holdout,
    activations [tokens, columns], for methods that need them and for the output errors; rotate, columns of a
    block that is rotated before the method sees it, as activations are then before they are quantized
    (`algo.rotation`); further keywords are the method's own settings.

    Raises ValueError for an unknown name or setting, or arrays that are not finite or do not fit.
    """
    from algo import rotation
    from algo.bitplane.hadamard import check_block, rotated_activations
    from algo.formats.quantized import Calibration

    module = settings.method(method)
    config = settings.configure(module, format, settings_given)
    w = _matrix("weight", weight)
    x = None if calibration is None else _matrix("calib", calibration, w.shape[1])
    held = None if holdout is None else _matrix("holdout", holdout, w.shape[1])
    if x is None and module.needs_calibration(config):
        raise ValueError(f"calib must be given for {method}: activations [tokens, {w.shape[1]}]")
    if rotate is not None:
        check_block(w.shape[1], rotate)
    read = x if x is None or rotate is None else rotated_activations(x, rotate)
    began = time.perf_counter()
    result = rotation.quantize(module, w, None if read is None else Calibration.of(read), config, rotate)
    seconds = time.perf_counter() - began
    rotated = {} if rotate is None else {"rotate": rotate}
    return QuantizedTensor(
        matrix=result.matrix,
        inner=result.inner,
        provenance=_provenance(method, asdict(config) | rotated, w, result.published_bits),
        figures=_figures(method, w, result, x, held) | rotated | {"seconds": seconds},
    )


def _matrix(name: str, values: ArrayLike, columns: int | None = None) -> NDArray[np.float64]:
    import numpy as np

    array = np.asarray(values, np.float64)
    if array.ndim != 2 or not array.size:
        raise ValueError(f"{name} must have two axes with entries, not shape {list(array.shape)}")
    if columns is not None and array.shape[1] != columns:
        raise ValueError(f"{name} must have {columns} columns as the weight has, not {array.shape[1]}")
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{name} must be finite, not NaN or infinity")
    return array


def _provenance(
    method: str, config: Mapping[str, Any], w: NDArray[np.float64], published: float
) -> Provenance:
    import numpy as np

    from algo.bitplane.store import Provenance

    digest = hashlib.sha256(np.ascontiguousarray(w, np.float32).tobytes()).hexdigest()
    return Provenance(method=method, config=config, sources={"weight": digest}, published_bits=published)


def _figures(
    method: str,
    w: NDArray[np.float64],
    result: Quantized,
    x: NDArray[np.float64] | None,
    held: NDArray[np.float64] | None,
) -> dict[str, Any]:
    from algo.errors import output_error, weight_error
    from algo.formats import stages

    q = result.dequantize()
    return {
        "method": method,
        "shape": list(w.shape),
        "bits_per_weight": 8 * result.stored_bytes() / w.size,
        "bits_per_weight_published": result.published_bits,
        "breakdown": stages.breakdown(result.stages),
        "weight_error": weight_error(w, q),
        "output_error": None if x is None else output_error(x, w, q),
        "holdout_error": None if held is None else output_error(held, w, q),
        "salient_columns": list(result.salient_columns),
    }


def overall_bits(matrices: Mapping[str, PackedMatrix] | Sequence[PackedMatrix]) -> float:
    """Honest bits per weight of several matrices together.

    By name, the two factors of a product count as the one layer they are; without names, as two.
    """
    from algo.formats import stages

    if isinstance(matrices, Mapping):
        return stages.stored_bits(matrices)
    return stages.stored_bits({str(index): matrix for index, matrix in enumerate(matrices)})
