"""Clock period of a PE: the slowest of its stages, by fits to static timing of mapped designs.

Ideal wires, no clock tree, cells as small as the mapper leaves them, high fan-outs through buffers
(`cost_models.calibration.sta`): a period that orders designs within a library, and no timing closure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cost_models import tech as techs
from cost_models.calibration import paths, predict, store
from cost_models.tech import Tech
from cost_models.uncertain import Interval
from hw.spec import PeSpec


def period(spec: PeSpec, tech: Tech | str) -> Interval:
    """Shortest clock period [s], with the fit's largest error on designs unseen.

    An array has its PE's. Raises ValueError for a technology, or a PE, without a calibration.
    """
    fit = _fit(spec, tech)
    value = paths.period(predict.core(spec), fit["coefficients"])
    error = store.unseen(fit)[1]
    return Interval(value=value, low=value * (1 - error), high=value * (1 + error))


def _fit(spec: PeSpec, tech: Tech | str) -> Mapping[str, Any]:
    """The fit under the mapping that takes the least area, which is the one that area is booked for."""
    content = store.load(techs.resolve(tech).name)
    core = predict.core(spec)
    mapping = predict.area_terms(content, core)[0]
    found: Mapping[str, Any] = predict.fits(content, core)[mapping]["period"]
    return found
