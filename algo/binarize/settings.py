"""Settings that the block-wise binarizers share, with the defaults of the released code."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from algo.binarize.compensation import COMPENSATIONS
from algo.binarize.curvature import Curvature, curvature, flat
from algo.bitplane.planes import WIDEST_PATTERN
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
        require_count("group", self.group)
        require_count("salient_limit", self.salient_limit)
        require_positive("damping", self.damping)
        require_one_of("metric", self.metric, METRICS)
        require_one_of("compensation", self.compensation, COMPENSATIONS)

    @property
    def reads_activations(self) -> bool:
        """Unless nothing but the weights is looked at and no error is pushed on."""
        return self.metric == "hessian" or self.compensation != "none"

    def curvature(self, columns: int, calibration: Calibration | None) -> Curvature:
        """Factor of the layer's Hessian; flat where there is no calibration and none is needed.

        Raises ValueError if the calibration is needed and missing, or of another width.
        """
        if calibration is not None:
            return curvature(calibration.hessian, columns, self.damping)
        if self.reads_activations:
            raise ValueError(
                f"calibration must be given for metric {self.metric} and compensation {self.compensation}, "
                "not None"
            )
        return flat(columns)


@dataclass(frozen=True, kw_only=True)
class ZonedSettings(BlockSettings):
    """Of the methods that may split the salient columns by magnitude as well."""

    cgb: bool = False  #: split them (column-group bitmap of ARB-LLM)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_flag("cgb", self.cgb)


@dataclass(frozen=True, kw_only=True)
class AlternatingSettings(ZonedSettings):
    """Of the methods that refine each zone by turns."""

    iterations: int = 15  #: of offsets, scales and signs; of ARB-X as many more against the output

    def __post_init__(self) -> None:
        super().__post_init__()
        require_count("iterations", self.iterations, 0)


def require_count(name: str, value: Any, least: int = 1) -> None:
    """Refuse what is no integer of at least ``least``."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, not {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, not {value!r}")


def require_positive(name: str, value: Any) -> None:
    """Refuse what is no finite number above 0."""
    if not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError(f"{name} must be a finite number above 0, not {value!r}")


def require_one_of(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Refuse what is none of ``choices``."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, not {value!r}")


def require_ratio(name: str, value: Any) -> tuple[int, int]:
    """``"4:8"`` as (4, 8): weights kept, and of how many columns; refuses what is no such ratio."""
    found = re.fullmatch(r"(\d+):(\d+)", value) if isinstance(value, str) else None
    kept, of = (int(part) for part in found.groups()) if found else (0, 0)
    if not 1 <= kept <= of <= WIDEST_PATTERN:
        raise ValueError(
            f"{name} must be kept:of with 1 <= kept <= of <= {WIDEST_PATTERN}, such as 4:8, not {value!r}"
        )
    return kept, of


def require_flag(name: str, value: Any) -> None:
    """Refuse what is neither True nor False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be true or false, not {value!r}")
