"""Complex weights of the four units 1, i, -1, -i: iFairy's layer, and the widely-linear form of any other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from algo.bitplane import words
from algo.bitplane.format import Digit
from algo.bitplane.matrix import PackedMatrix, Term
from algo.bitplane.planes import PerGroup, Plane, Stored, gather
from algo.formats import grouping
from algo.formats.grouped import check_choice
from algo.formats.quantized import Calibration, Quantized, checked_weight

SOURCE = (
    "Wang et al., Fairy +-i (iFairy), arXiv:2508.05571, as released; the widely-linear form: Wang et al., "
    "Fairy2i, arXiv:2512.02901"
)
FORMATS: tuple[str, ...] = ()  #: the method is its own format

ALGEBRAS = ("conjugate", "plain", "both")
_SCALE_FORMAT = "fp16"
_CODE_BITS, _SCALE_BITS = 2, 64  #: of a complex weight, and of a matrix: two scales in float32

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Config:
    """How a complex weight q multiplies an activation x."""

    #: "conjugate": conj(x) q, as released; "plain": x q; "both": one of either, which is any real matrix
    algebra: str = "conjugate"

    def __post_init__(self) -> None:
        check_choice("algebra", self.algebra, ALGEBRAS)


def needs_calibration(config: Config) -> bool:
    """Never: the weights say it all."""
    return False


def quantize(
    weight: NDArray[np.float64], calibration: Calibration | None = None, config: Config | None = None
) -> Quantized:
    """Complex weights rounded to the nearest unit by their phase, with a scale for either axis.

    Rows and columns are read in pairs, real part and imaginary part, as complex arrays lie in memory. A pair
    of rows and one of columns cross in four entries ``[[a, b], [c, d]]``, and a weight q acts there as
    ``[[q_re, q_im], [q_im, -q_re]]`` on conj(x), as ``[[q_re, -q_im], [q_im, q_re]]`` on x. A matrix that is
    such a form comes back as the rounded weights' form; of another the nearest such form is rounded first,
    and "both" forms, of ``((a - d) + i (b + c)) / 2`` and ``((a + d) + i (c - b)) / 2``, add up to any.

    Units by phase: 1 in [-pi/4, pi/4), i in [pi/4, 3 pi/4), -i in [-3 pi/4, -pi/4), else -1; the scale of an
    axis is the mean magnitude of the parts that lie on it.

    Parameters: weight, float64 [rows, columns]; an odd last one has no imaginary part; calibration, not used.
    Returns: Quantized; published_bits counts 2 bits a complex weight and 64 a matrix, over the real entries.
    Raises: ValueError if the weight is not finite or not of two axes, or a scale does not fit fp16.
    Source: `SOURCE`; differs in: scales are stored in fp16, and have no floor of 1e-5; no training; one
    rounding, no residual stage.
    """
    weight = checked_weight(weight)
    config = Config() if config is None else config
    rows, columns = weight.shape
    top, left = np.arange(rows) % 2 == 0, np.arange(columns) % 2 == 0
    planes: dict[str, Stored] = {
        "top": PerGroup(top[:, None]),
        "left": Plane(words.pack(left[None]), "masks"),
    }
    terms: list[Term] = []
    scales: dict[str, Floats] = {}
    for algebra, values in _parts(weight, config.algebra).items():
        axis, negative = units(values)
        for name, bits, role in (("axis", axis, "extra planes"), ("negative", negative, "sign planes")):
            spread = np.repeat(np.repeat(bits, 2, axis=0), 2, axis=1)[:rows, :columns]
            planes[f"{algebra}_{name}"] = gather(spread, top[:, None] & left, "top & left", role)
        scales |= {
            f"{algebra}_real": _scale(values.real, ~axis),
            f"{algebra}_imag": _scale(values.imag, axis),
        }
        terms += _terms(algebra)
    ints, exponent = grouping.stored_scalars(scales, _SCALE_FORMAT)
    matrix = PackedMatrix(
        rows=rows,
        columns=columns,
        group=columns,
        terms=tuple(terms),
        planes=planes,
        ints=ints,
        exponent=exponent,
    )
    count = len(terms) // 2
    published = count * (_CODE_BITS * axis.size + _SCALE_BITS) / weight.size
    return Quantized(matrix=matrix, published_bits=published)


def units(values: NDArray[np.complex128]) -> tuple[Bools, Bools]:
    """The nearest unit of each weight by phase: whether it is imaginary, and whether it is negative.

    Borders belong to the phase they begin; 0 has phase 0.
    """
    real, imag = values.real, values.imag
    plus_one = ((imag < real) & (imag >= -real)) | (values == 0)
    plus_i = (real <= imag) & (real > -imag)
    minus_i = (real >= imag) & (real < -imag)
    return plus_i | minus_i, ~(plus_one | plus_i)


def _parts(weight: Floats, algebra: str) -> dict[str, NDArray[np.complex128]]:
    """Complex weights [pairs of rows, pairs of columns] of each form that is taken of a real matrix."""
    rows, columns = weight.shape
    even = np.pad(weight, ((0, rows % 2), (0, columns % 2)))
    there = np.pad(np.ones(weight.shape), ((0, rows % 2), (0, columns % 2)))
    a, b, c, d = (even[r::2, k::2] for r in (0, 1) for k in (0, 1))
    if algebra == "both":
        diagonal = crossed = np.full(a.shape, 2.0)
    else:
        # Least squares over the entries that are there.
        diagonal = there[0::2, 0::2] + there[1::2, 1::2]
        crossed = np.maximum(1, there[0::2, 1::2] + there[1::2, 0::2])
    forms = {
        "conjugate": (a - d) / diagonal + 1j * ((b + c) / crossed),
        "plain": (a + d) / diagonal + 1j * ((c - b) / crossed),
    }
    return forms if algebra == "both" else {algebra: forms[algebra]}


def _scale(parts: Floats, chosen: Bools) -> Floats:
    mean = np.abs(parts[chosen]).mean() if np.any(chosen) else 0.0
    return grouping.visible_scale(np.full((1, 1), mean), _SCALE_FORMAT)


def _terms(algebra: str) -> tuple[Term, Term]:
    """The two axes of a form: which of the four entries they stand in, and where their sign turns over."""
    axis, negative = (f"even(upper({algebra}_{name}))" for name in ("axis", "negative"))
    real, imag = negative, negative
    if algebra == "conjugate":
        real = f"{negative} ^ (~top & ~left)"
    else:
        imag = f"{negative} ^ (top & ~left)"
    return (
        _term(f"{algebra}_real", f"~({real})", f"~{axis} & ~(top ^ left)"),
        _term(f"{algebra}_imag", f"~({imag})", f"{axis} & (top ^ left)"),
    )


def _term(scale: str, sign: str, mask: str) -> Term:
    return Term(planes=(sign,), coefs=(1,), digit=Digit.BIPOLAR, scale=scale, mask=mask)
