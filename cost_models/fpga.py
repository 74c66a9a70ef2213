"""Look-up tables of a PE or an array on an FPGA family, by fits to real designs.

What is counted is what Yosys maps to (`hw.synth`): tables of four inputs on iCE40 and ECP5, those inside
ECP5's carry cells included, and of up to six on Xilinx; products are built of them too, not of multiplier
blocks. Nothing is placed. A ranking of formats by tables need not hold in gates, nor on another family.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cost_models.calibration import predict, store
from cost_models.calibration.measure import FPGAS
from cost_models.uncertain import Constant, Cost, Term
from hw.grid import Grid
from hw.spec import PeSpec


def luts(spec: PeSpec, family: str) -> Cost:
    """Look-up tables by part and kind of counted cell.

    Raises ValueError for a family without a calibration, and for a PE that it has not seen.
    """
    content = _content(family)
    group = predict.group_of(predict.core(spec))
    counts = predict.tabled(spec)
    terms = []
    for name, tables in predict.lut_terms(content, spec).items():
        if tables <= 0:
            continue
        each = tables / counts[name]
        constant = Constant(
            key=f"calibration.{family}.{group}.{name}",
            value=each,
            low=each,
            high=each,
            unit="LUT",
            node=family,
            vdd="none",
            kind="measured",
            source=f"fit to syntheses for {family}, {content['tool']}",
            note="only sums over a PE are validated; their error is the cost's fit",
        )
        terms.append(Term(part=name.rpartition(".")[0], quantity=counts[name], constants=(constant,)))
    return Cost(unit="LUT", terms=tuple(terms), fit=fit_error(spec, family))


def is_calibrated(spec: PeSpec, family: str) -> bool:
    """Whether `luts` can say something of this kind of PE."""
    return family in store.names() and predict.group_of(predict.core(spec)) in _content(family)["fits"]


def fit_error(spec: PeSpec, family: str) -> float:
    """Largest relative error of the fit of this kind of PE on designs that it has not seen."""
    content = _content(family)
    core = predict.core(spec)
    most = store.unseen(predict.fits(content, core)["default"]["lut"])[1]
    if isinstance(spec, Grid) and content["arrays"]:
        most = max(most, float(content["arrays"]["max"]))
    return most


def _content(family: str) -> Mapping[str, Any]:
    if family not in FPGAS:
        raise ValueError(f"family must be one of {', '.join(FPGAS)}, not {family!r}")
    return store.load(family)
