"""LLM-FP4: 4-bit floats with searched real exponent biases, channel shifts of activations in the weights."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from algo.bitplane import rows
from algo.bitplane.build import from_digits
from algo.bitplane.scales import Grid
from algo.formats import nearest
from algo.formats.grouped import check_integer
from algo.formats.quantized import Calibration, Quantized, checked_weight
from algo.formats.shifted_bias import RealBias, ShiftedActivations, fitted, searched, weighted_squares

SOURCE = "Liu et al., LLM-FP4: 4-Bit Floating-Point Quantized Transformers, arXiv:2310.16836"
FORMATS: tuple[str, ...] = ()  #: the method is its own format

_BITS = 4
_MOST_SHIFT = 3  #: bits of a shift, of an E3M0 activation
_FINALISTS = 8  #: biases of a row whose whole output error is computed, an own choice
_FACTOR = "shift"

Floats = NDArray[np.float64]
Int = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Config:
    """The float's widths, and how far channels of activations may be shifted."""

    mantissa: int | None = None  #: bits of 4, the sign's and the exponent's beside it; None: the best
    shift_bits: int = 2  #: of a channel's shift; the paper's are the activations' exponent bits; 0: no shifts

    def __post_init__(self) -> None:
        for name, most in (("mantissa", _BITS - 2), ("shift_bits", _MOST_SHIFT)):
            value = getattr(self, name)
            if value is None and name == "mantissa":
                continue
            check_integer(name, value, 0)
            if value > most:
                raise ValueError(f"{name} must be at most {most}, not {value!r}")

    @property
    def elements(self) -> tuple[RealBias, ...]:
        """The floats to search, E2M1 first."""
        wanted = (1, 2, 0) if self.mantissa is None else (self.mantissa,)
        return tuple(RealBias(_BITS - 1 - mantissa, mantissa) for mantissa in wanted)


@dataclass(frozen=True, kw_only=True, eq=False)
class Joint:
    """Weights and activations quantized for each other."""

    quantized: Quantized
    activations: ShiftedActivations
    output_error: float  #: share of the output's energy, both quantized


def needs_calibration(config: Config) -> bool:
    """For the channels' shifts, and then for the output error too."""
    return config.shift_bits > 0


def quantize(
    weight: NDArray[np.float64], calibration: Calibration | None = None, config: Config | None = None
) -> Quantized:
    """Each row to the nearest of a 4-bit float whose real bias, one a row, is searched; one float a matrix.

    First column j is multiplied by ``2**-shift[j]``, by which the activations, multiplied by
    ``2**shift[j]``, have their channels' ranges made alike (`algo.formats.shifted_bias.fitted`); the matrix
    has that factor for its activations, all 4-bit codes and planes are those of the shifted weight. Biases
    are `algo.formats.shifted_bias.RealBias.candidates` of the row's largest weight; the best loses least of
    the calibration's output, or without a calibration of the weight's squares. The float, E2M1, E1M2 or
    E3M0, is the one that loses least over all rows.

    Parameters: weight, float64 [rows, columns]; calibration, its peaks and its Hessian are read.
    Returns: Quantized; published_bits ``4 + 32 / columns + shift_bits / rows``; notes "mantissa", the
    float's bits of it, and "loss", what the search left, of output or squares.
    Raises: ValueError if the weight is not finite or not of two axes, or calibration is needed and missing or
    of another width.
    Source: `SOURCE`; differs in: candidates leave a power of two of the row out of what they multiply, and
    the bias that clips nothing is one of them; the whole output error is computed for the eight biases of a
    row that lose least by the Hessian's diagonal; a scale is 16 bits of mantissa on a power of two (the
    paper: FP32). A calibration holds no activations, so theirs is not searched here, and at run time they are
    rounded as the run's activation format has it, behind the shifts; `jointly` searches both in turns, as the
    paper does, where the activations are at hand.
    """
    weight = checked_weight(weight)
    config = Config() if config is None else config
    if calibration is None:
        if config.shift_bits:
            raise ValueError("calibration must be given for llm-fp4 with shift_bits above 0, not None")
        return _quantized(weight, None, np.zeros(weight.shape[1], np.int64), config)
    columns = len(calibration.peak)
    if columns != weight.shape[1]:
        raise ValueError(f"calibration must have {weight.shape[1]} columns as the weight has, not {columns}")
    shift = fitted(calibration.peak, (1 << config.shift_bits) - 1).shift
    return _quantized(weight, calibration.hessian, shift, config)


def jointly(weight: ArrayLike, x: ArrayLike, config: Config | None = None, rounds: int = 3) -> Joint:
    """Biases of weights and of E2M1 activations searched in turns, as the paper does.

    A round searches the weights' under the activations as they are then quantized, then the activations'
    under those weights; the best round is returned. The shifts are those of the ranges of ``x`` throughout.

    Parameters: weight, float [rows, columns]; x, activations to calibrate with, float [tokens, columns].
    Raises: ValueError as `quantize`, and if x is not finite, not of two axes or of another width, TypeError
    or ValueError if rounds is no integer above 0.
    """
    check_integer("rounds", rounds)
    weight, config = checked_weight(weight), Config() if config is None else config
    known = Calibration.of(x)
    tokens = np.asarray(x, np.float64)
    if len(known.peak) != weight.shape[1]:
        raise ValueError(
            f"activations must have {weight.shape[1]} columns as the weight has, not {len(known.peak)}"
        )
    exact = tokens @ weight.T
    energy = float(np.sum(exact**2)) or 1.0
    activations = start = fitted(known.peak, (1 << config.shift_bits) - 1)
    found = []
    for _ in range(rounds):
        seen = activations.dequantized(tokens)
        quantized = _quantized(weight, 2 * (seen.T @ seen), start.shift, config)
        stored = quantized.dequantize()

        def lost(quantized_x: Floats, stored: Floats = stored) -> float:
            return float(np.sum((quantized_x @ stored.T - exact) ** 2)) / energy

        activations = searched(start, float(known.peak.max()), tokens, lost)
        error = lost(activations.dequantized(tokens))
        found.append(Joint(quantized=quantized, activations=activations, output_error=error))
    return min(found, key=lambda joint: joint.output_error)


def _quantized(weight: Floats, hessian: Floats | None, shift: Int, config: Config) -> Quantized:
    """Of the shifted weight, the element with the least loss."""
    shifted = np.ldexp(weight, -shift)
    if hessian is not None:
        hessian = np.ldexp(np.ldexp(hessian, shift), shift[:, None])
    found = [_search(shifted, hessian, element) for element in config.elements]
    chosen = int(np.argmin([loss for _, loss in found]))
    element, (step, loss) = config.elements[chosen], found[chosen]
    matrix = from_digits(element.format, _digits(shifted, step, element), step[:, None])
    if config.shift_bits:
        factor = np.ldexp(np.float32(1), shift).astype(np.float16)
        terms = tuple(replace(term, col=_FACTOR) for term in matrix.terms)
        matrix = replace(matrix, terms=terms, factors={_FACTOR: factor})
    return Quantized(
        matrix=matrix,
        published_bits=_BITS + 32 / weight.shape[1] + config.shift_bits / len(weight),
        notes={"mantissa": element.mantissa, "loss": loss},
    )


def _search(weight: Floats, hessian: Floats | None, element: RealBias) -> tuple[Floats, float]:
    """Scale of each row, [rows], as it is stored, and what all rows together lose."""
    step, loss = np.zeros(len(weight)), 0.0
    for here in rows.blocks(*weight.shape):
        step[here], lost = _search_rows(weight[here], hessian, element)
        loss += float(lost.sum())
    return step, loss


def _search_rows(weight: Floats, hessian: Floats | None, element: RealBias) -> tuple[Floats, Floats]:
    """Scale and loss of each row of a block."""
    peak = np.abs(weight).max(axis=1)
    units = element.unit(element.candidates(np.where(peak > 0, peak, 1.0)))
    units = np.where(peak[:, None] > 0, units, 0.0)
    steps = np.stack([_stored(unit) for unit in units.T])
    diagonal = np.ones(weight.shape[1]) if hessian is None else np.diagonal(hessian)
    grid = nearest.Grid.of(element.format)
    lost = weighted_squares(weight, steps, np.ascontiguousarray(diagonal), grid.digits[0], grid.bounds[0])
    if hessian is not None:
        order = np.argsort(lost, axis=0, kind="stable")[:_FINALISTS]
        steps = np.take_along_axis(steps, order, axis=0)
        errors = (_error(weight, step, element) for step in steps)
        lost = np.stack([np.sum((error @ hessian) * error, axis=1) for error in errors])
    best = np.argmin(lost, axis=0)
    every = np.arange(len(weight))
    return steps[best, every], lost[best, every]


def _stored(unit: Floats) -> Floats:
    """Scales [rows] as the matrix holds them, each on its row's power of two."""
    grid = Grid.covering(unit[:, None])
    return grid.values(grid.mantissas(unit[:, None]))[:, 0]


def _error(weight: Floats, step: Floats, element: RealBias) -> Floats:
    return weight - step[:, None] * _digits(weight, step, element)


def _digits(weight: Floats, step: Floats, element: RealBias) -> Int:
    """The element's integers nearest to each row over its step; 0 where that is 0."""
    grid = nearest.Grid.of(element.format)
    share = weight / np.where(step > 0, step, 1.0)[:, None]
    return grid.digits[0][np.searchsorted(grid.bounds[0], share, side="right")].astype(np.int64)
