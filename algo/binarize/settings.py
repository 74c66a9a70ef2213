"""Settings that the block-wise binarizers share, with the defaults of the released code."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from algo.binarize.compensation import COMPENSATIONS
from algo.binarize.curvature import Curvature, known
from algo.bitplane.planes import WIDEST_PATTERN
from algo.formats.grouped import check_choice, check_integer, check_number, check_switch
from algo.formats.quantized import Calibration

METRICS = ("hessian", "magnitude")


@dataclass(frozen=True, kw_only=True)
class BlockSettings:
    """What every block-wise binarizer is told."""

    group: int = 128  #: columns of a block, which share their scalars (released: "blocksize", "groupsize")
    damping: float = 0.01  #: added to the Hessian's diagonal, in means of it
    metric: str = "hessian"  #: what the searches look at: "hessian", w**2 / U_jj**2, or "magnitude", w
    salient_limit: int = 49  #: most salient columns a block may have
    compensation: str = "diag"  #: "diag" (released), "exact" or "none"

    def __post_init__(self) -> None:
        check_integer("group", self.group)
        check_integer("salient_limit", self.salient_limit)
        check_number("damping", self.damping)
        check_choice("metric", self.metric, METRICS)
        check_choice("compensation", self.compensation, COMPENSATIONS)

    @property
    def reads_activations(self) -> bool:
        """Unless nothing but the weights is looked at and no error is pushed on."""
        return self.metric == "hessian" or self.compensation != "none"

    def curvature(self, columns: int, calibration: Calibration | None) -> Curvature:
        """Factor of the layer's Hessian; flat where there is no calibration and none is needed.

        Raises ValueError if the calibration is needed and missing, or of another width.
        """
        needed_for = f"metric {self.metric} and compensation {self.compensation}" * self.reads_activations
        return known(columns, calibration, self.damping, needed_for)


@dataclass(frozen=True, kw_only=True)
class ZonedSettings(BlockSettings):
    """Of the methods that may split the salient columns by magnitude as well."""

    cgb: bool = False  #: split them (column-group bitmap of ARB-LLM)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_switch("cgb", self.cgb)


@dataclass(frozen=True, kw_only=True)
class AlternatingSettings(ZonedSettings):
    """Of the methods that refine each zone by turns."""

    iterations: int = 15  #: of offsets, scales and signs; of ARB-X as many more against the output

    def __post_init__(self) -> None:
        super().__post_init__()
        check_integer("iterations", self.iterations, 0)


def require_ratio(name: str, value: Any) -> tuple[int, int]:
    """``"4:8"`` as (4, 8): weights kept, and of how many columns; refuses what is no such ratio."""
    found = re.fullmatch(r"(\d+):(\d+)", value) if isinstance(value, str) else None
    kept, of = (int(part) for part in found.groups()) if found else (0, 0)
    if not 1 <= kept <= of <= WIDEST_PATTERN:
        raise ValueError(
            f"{name} must be kept:of with 1 <= kept <= of <= {WIDEST_PATTERN}, such as 4:8, not {value!r}"
        )
    return kept, of
